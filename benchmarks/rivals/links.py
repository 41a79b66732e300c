"""
Links as a set of files of ours: what a provider hands in, and no more.

There is no login and no listing to pay for: a link is given, and so is the session header where a row has one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Never

import attrs

from arena_async import Mirror, TransferOptions
from arena_async.errors import ApiError, ConfigurationError, NotFoundError, PermissionDeniedError, ServerError
from arena_async.http.login import Authentication
from arena_async.http.session import Session
from arena_async.protocol.adapter import Credential
from arena_async.protocol.filenames import file_name_from_url
from arena_async.protocol.files import Cost, OpenedFile, RemoteFile
from arena_async.protocol.messages import Headers, Request, Response, Secret
from arena_async.protocol.quota import SlidingWindow
from arena_async.protocol.urls import origin

__all__ = ["Links", "download", "listed"]

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class _NoLogin:
    """There is none: who needs a credential is given it."""

    def login(self, scope: str) -> Request:
        """Return what is never sent: sessions that cannot be renewed do not log in."""
        return Request(method="POST", path=f"/login/{scope}", scope=None)

    def read_login(self, response: Response) -> Never:
        """Refuse."""
        raise ConfigurationError(f"There is no login for links, and one was answered with {response.status}.")

    def logout(self, credential: Credential) -> None:
        """End nothing."""


class _PlainStatuses:
    """Refusals by their status alone; there are no pages."""

    def page_params(self, requested: object) -> Never:
        """Refuse."""
        raise ConfigurationError(f"Links have no pages ({requested!r}).")

    def read_page(self, payload: object, requested: object, shape: object) -> Never:
        """Refuse."""
        raise ConfigurationError(f"Links have no pages ({requested!r}, {shape!r}): {type(payload).__name__}.")

    def read_quota(self, headers: Headers) -> None:
        """Know of no allowance."""

    def read_error(self, request: Request, response: Response) -> ApiError:
        """Make the typed error of a status."""
        status, line = response.status, request.line
        kinds = {403: PermissionDeniedError, 404: NotFoundError}
        kind = ServerError if status >= 500 else kinds.get(status, ApiError)
        return kind(f"{line}: the answer is {status}.", status=status, request=line, transient=status in _TRANSIENT)


@attrs.define(eq=False)
class Links:
    """
    Files behind links.

    Args:
        session: What sends the requests.
        rows: What is listed.
        scope: The credential that content is asked for with, or None for none.
    """

    session: Session
    rows: list[RemoteFile]
    credential: str | None = None
    scope: str = "links"
    narrowed: bool = False

    @property
    def requests_sent(self) -> int:
        """Requests that left the session."""
        return self.session.requests_sent

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        for row in self.rows:
            yield row

    async def open(self, file: RemoteFile, *, offset: int = 0, validator: str | None = None) -> OpenedFile:
        """Ask for the content once."""
        link = file.link
        request = Request(method="GET", path=link.reveal() if link else "", scope=self.credential)
        return await self.session.stream(request, offset=offset, validator=validator)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """Return the rows again: links are not renewed here."""
        return [row for row in self.rows if row.key in keys]

    def since(self, watermarks: Mapping[str, datetime]) -> Links:
        """Return the whole set."""
        del watermarks
        return self

    def cost(self) -> Cost:
        """Count one request for each file."""
        return Cost(listing=0, per_file=1, exact=True)


def _row(number: int, file: Mapping[str, Any], tenant: str) -> RemoteFile:
    """Make the entry of a link; without a name it is called as the link says."""
    name = file["name"] or file_name_from_url(file["url"])
    stem, dot, extension = name.partition(".")
    return RemoteFile(
        key=f"links/{tenant}/{number}",
        service="links",
        tenant=tenant,
        parts=(),
        stem=stem or name,
        extension=f"{dot}{extension}" if stem else "",
        link=Secret(file["url"]),
    )


@asynccontextmanager
async def listed(files: Sequence[Mapping[str, Any]], headers: Mapping[str, str] | None = None) -> AsyncIterator[Links]:
    """Yield links as a set of files while the block runs: objects with ``url`` and ``name`` (or null)."""
    base = origin(files[0]["url"])
    secrets = tuple((name, Secret(value)) for name, value in (headers or {}).items())
    session = Session(
        Authentication(auth=_NoLogin(), given=Credential(headers=secrets) if secrets else None, renewable=False),
        _PlainStatuses(),
        SlidingWindow(limit=1_000_000),
        base_url=base,
    )
    rows = [_row(number, file, base) for number, file in enumerate(files)]
    try:
        yield Links(session, rows, credential="" if secrets else None)
    finally:
        await session.aclose()


async def download(job: Mapping[str, Any]) -> set[int]:
    """Bring all files of a job home with Mirror, print the errors, and give the numbers of those that are here."""
    async with (
        listed(job["files"], job["headers"]) as files,
        Mirror(job["to"], options=TransferOptions(workers=4)) as mirror,
    ):
        numbers = {row.key: number for number, row in enumerate(files.rows)}
        report = await mirror.sync(files)
    for outcome in report.failures:
        print(f"file {numbers[outcome.file.key]}: {outcome.error}")
    if report.error is not None:  # It stopped, and files that were kept have no outcome of their own.
        print(report.error)
        return {numbers[outcome.file.key] for outcome in report.outcomes if outcome.error is None}
    return set(numbers.values()) - {numbers[outcome.file.key] for outcome in report.failures}
