"""Dataset files as a scripted CentrePoint lists them, with links that lead wherever a row of the matrix wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripted import Reply, Seen, json_reply
from services import CentrePointScript

__all__ = ["LISTING", "listed_row", "script_rows"]

#: The requests for the list, for :meth:`RawServer.lines`.
LISTING = "GET /dataaccess/v3/studies/234/datasetfiles*"

Row = dict[str, Any]


def listed_row(url: str, **changes: Any) -> Row:
    """Write a row of the list as the page prints it, but for its link, which does not say when it ends."""
    page = json.loads((Path(__file__).parents[1] / "payloads" / "centrepoint_datasetfiles.json").read_text("utf-8"))
    row: Row = page["items"][0]
    return row | {"fileUrl": url, "downloadUrlExpiresOn": None} | changes


def script_rows(
    service: CentrePointScript,
    *rows: Row,
    then: Sequence[Callable[[], Sequence[Row]]] = (),
    headers: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Let the service list ``rows`` first, and what each of ``then`` gives afterwards; the last one again and again."""

    def listing(given: Callable[[], Sequence[Row]]) -> Callable[[Seen], Reply]:
        def answer(_: Seen) -> Reply:
            items = list(given())
            return json_reply({"items": items, "links": {}, "totalCount": len(items)}, headers=headers())

        return answer

    answers = [listing(given) for given in (lambda: rows, *then)]
    service.on("GET", "/dataaccess/v3/studies/234/datasetfiles", *answers)
