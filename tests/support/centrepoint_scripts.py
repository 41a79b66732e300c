"""What rows and tests of CentrePoint need around a raw server: a client that talks to it, and lists as documented."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from matrix import World
from scripted import RawServer, Reply, Seen, json_reply
from session_files import Hours

from arena_async.options import RetryPolicy
from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials

__all__ = ["LISTING", "centrepoint_client", "listed_row", "script_rows"]

#: The requests for the list, for :meth:`RawServer.lines`.
LISTING = "GET /dataaccess/v3/studies/234/datasetfiles*"

Row = dict[str, Any]


def listed_row(url: str, **changes: Any) -> Row:
    """Write a row of the list as the page prints it, but for its link, which does not say when it ends."""
    page = json.loads((Path(__file__).parents[1] / "payloads" / "centrepoint_datasetfiles.json").read_text("utf-8"))
    row: Row = page["items"][0]
    return row | {"fileUrl": url, "downloadUrlExpiresOn": None} | changes


def script_rows(
    server: RawServer,
    *rows: Row,
    then: Sequence[Callable[[], Sequence[Row]]] = (),
    headers: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Let the server list ``rows`` first, and what each of ``then`` gives afterwards; the last one again and again."""

    def listing(given: Callable[[], Sequence[Row]]) -> Callable[[Seen], Reply]:
        def answer(_: Seen) -> Reply:
            items = list(given())
            return json_reply({"items": items, "links": {}, "totalCount": len(items)}, headers=headers())

        return answer

    answers = [listing(given) for given in (lambda: rows, *then)]
    server.on("GET", "/dataaccess/v3/studies/234/datasetfiles", *answers)


@asynccontextmanager
async def centrepoint_client(
    world: World, server: RawServer, *, hours: Hours | None = None, **options: Any
) -> AsyncIterator[CentrePointClient]:
    """
    Give a client of a scripted API whose credentials are planted; its booked requests have to be those that came (I5).

    Args:
        world: The row's.
        server: API and token endpoint.
        hours: Where its time comes from, or None for the real one.
        options: Those of the client.
    """
    token = {"access_token": world.secrets["token"], "expires_in": 3600, "token_type": "Bearer"}
    server.on("POST", "/token", json_reply(token))
    options = {"retry": RetryPolicy(wait_initial=0, wait_jitter=0), **options}
    credentials = CentrePointCredentials("client-7", world.secrets["client_secret"])
    auth_url = f"{server.base_url}/token"
    async with CentrePointClient(credentials, base_url=server.base_url, auth_url=auth_url, **options) as client:
        session = client.session
        if hours is not None:
            session._clock, session._sleep, session._now = hours.clock, hours.sleep, hours.now
        world.counted(server=lambda: len(server.lines("GET *")), client=lambda: session.requests_sent)
        yield client
