"""
The page of all endpoints, made from their declarations.

``python tests/support/endpoint_table.py`` writes ``docs/arena-endpoints.md`` anew; a test fails when it is stale.
"""

from __future__ import annotations

import re
from pathlib import Path

from arena_async.providers.arena.routes import ROUTES, Route

__all__ = ["PAGE", "group_of", "match", "render"]

PAGE = Path(__file__).parents[2] / "docs" / "arena-endpoints.md"

_HEAD = """\
# Endpoints of Arena

Every endpoint of the vendor's groups Access, Data Extract, Export, Import Engine and File, and whatever else this
library has a name for: by which call it is reached, or why by none. Calls are those of `ArenaClient`. Any other list is
read with `arena.list(path)`. `{part}` is `submitContent`, `resultContent` or `errorContent`; `{kind}` is `items`,
`changes`, `requests` or `qualityprocesses`.

This page is made from the declarations in `arena_async/providers/arena/routes.py` by
`tests/support/endpoint_table.py`. A test holds it to them, and each call to the requests that it sends.
"""

#: Which group the first word of a path, or the second one of a setting, belongs to; in the order of the page.
_GROUPS = {
    "login": "Access",
    "logout": "Access",
    "oauth2": "Access",
    "extracts": "Data Extract",
    "exports": "Export",
    "export": "Export",
    "imports": "Import Engine",
    "files": "File",
    "items": "Items",
    "outboundevents": "Outbound events: event engine",
    "outboundintegrations": "Outbound events: event queue",
    "recentactivities": "Activity",
}


def group_of(route: Route) -> str:
    """Say which of the vendor's groups an endpoint belongs to; the files of an item are files."""
    words = route.path.strip("/").removeprefix("settings/").split("/")
    if words[0] == "items" and words[2:3] in (["files"], ["image"]):
        return "File"
    return _GROUPS[words[0]]


def match(method: str, path: str) -> Route | None:
    """Find the endpoint that a request went to, the one with the fewest placeholders; or None."""
    fitting = [
        route
        for route in ROUTES
        if route.method == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.path), path)
    ]
    return min(fitting, key=lambda route: route.path.count("{"), default=None)


def render() -> str:
    """Write the page."""
    lines = [_HEAD]
    for group in dict.fromkeys(_GROUPS.values()):
        lines += [f"## {group}", "", "| method | path | call |", "|---|---|---|"]
        lines += [_row(route) for route in ROUTES if group_of(route) == group]
        lines.append("")
    return "\n".join(lines)


def _row(route: Route) -> str:
    path = route.path.replace("{import_}", "{import}")
    calls = ", ".join(f"`{call}`" for call in route.calls) or f"not supported: {route.why_not}"
    return f"| {route.method} | `{path}` | {calls} |"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
