"""The endpoints of ``docs/arena-endpoints.md``, read back from the page, for the tests that hold it to the client."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

__all__ = ["Endpoint", "match", "read_page"]

_PAGE = Path(__file__).parents[2] / "docs" / "arena-endpoints.md"
_ROW = re.compile(r"\| (?P<method>[A-Z]+) \| `(?P<path>[^`]+)` \| (?P<call>.+) \|")
_NOT_SUPPORTED = "not supported: "


@attrs.frozen(kw_only=True)
class Endpoint:
    """
    One row of the page.

    Args:
        group: The heading above it.
        method: The method.
        path: The path, with names in braces for identifiers.
        calls: The calls of the client that send it.
        why_not: Why there is none.
    """

    group: str
    method: str
    path: str
    calls: tuple[str, ...] = ()
    why_not: str = ""


def read_page() -> list[Endpoint]:
    """Return every row of the page, in its order."""
    group, endpoints = "", []
    for line in _PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            group = line.removeprefix("## ")
        elif row := _ROW.fullmatch(line):
            call = row["call"]
            why_not = call.removeprefix(_NOT_SUPPORTED) if call.startswith(_NOT_SUPPORTED) else ""
            calls = () if why_not else tuple(re.findall(r"`([^`]+)`", call))
            endpoints.append(
                Endpoint(group=group, method=row["method"], path=row["path"], calls=calls, why_not=why_not)
            )
    return endpoints


def match(endpoints: list[Endpoint], method: str, path: str) -> Endpoint | None:
    """Return the endpoint that a request went to, the one with the fewest placeholders; or None."""
    fitting = [
        endpoint
        for endpoint in endpoints
        if endpoint.method == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", endpoint.path), path)
    ]
    return min(fitting, key=lambda endpoint: endpoint.path.count("{"), default=None)
