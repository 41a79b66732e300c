"""The files of one request for raw or epoch data, and the signed URL that is requested when a file is opened."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from datetime import datetime

import attrs

from arena_async.errors import DecodeError
from arena_async.http.paginator import Paginator
from arena_async.options import KIB
from arena_async.protocol.decoding import decode, parse_json
from arena_async.protocol.files import ByteStream, Cost, OpenedFile, RemoteFile
from arena_async.protocol.messages import Request, join_path
from arena_async.protocol.pagination import ListShape
from arena_async.providers.centrepoint.adapter import MAX_PAGE_SIZE
from arena_async.providers.centrepoint.api import Api, ApiFiles
from arena_async.providers.centrepoint.auth import DATA_RETRIEVAL
from arena_async.providers.centrepoint.identifiers import SERVICE, join_key
from arena_async.providers.centrepoint.links import LinkOnDemand, SignedLink, open_link, sign
from arena_async.providers.centrepoint.models import DataFile, DataFileLink

__all__ = ["SHAPE", "DataFileSet", "data_file", "data_files_prefix"]

_KIND = "data-file"
#: The list of files is a bare array, without pages.
SHAPE = ListShape(max_page_size=MAX_PAGE_SIZE, paged=False, bare=True, key="id")
_MAX_LINK = 64 * KIB
_EXTENSION = re.compile(r"(?:\.[a-z0-9]{1,8})(?:\.gz)?\Z")


def data_files_prefix(tenant: str, what: str, request: str) -> str:
    """Return what the keys of all files of a request begin with."""
    return join_key(tenant, _KIND, what, request.casefold(), "")


def data_file(row: DataFile, *, request: str, what: str, tenant: str, now: datetime) -> RemoteFile:
    """
    Return the entry of one file of a request.

    Args:
        row: The row of the list.
        request: The tracking id.
        what: ``"raw"`` or ``"epoch"``.
        tenant: Origin of the service, and client.
        now: The time (aware), to compare with the date when the service removes it.
    """
    tracking_id, file_id = request.casefold(), row.id.casefold()
    found = _EXTENSION.search(row.file_name.casefold())
    removed = row.expires is not None and row.expires <= now
    return RemoteFile(
        key=join_key(tenant, _KIND, what, tracking_id, file_id),
        service=SERVICE,
        tenant=tenant,
        parts=(SERVICE, f"{what}-requests", tracking_id),
        stem=file_id,
        extension=found[0] if found else "",
        name=row.file_name,
        size=row.file_size,
        change=f"{row.file_name}|{'' if row.file_size is None else row.file_size}",
        fields={"request": tracking_id, "file": file_id, "kind": what},
        skip=f"the service removed it on {row.expires:%Y-%m-%d}; request the same data again" if removed else None,
        link=LinkOnDemand(),
    )


@attrs.frozen(eq=False, repr=False)
class DataFileSet(ApiFiles):
    """
    The files of one request for raw or epoch data; made by :meth:`DataRequests.files`.

    Signed URLs expire after two minutes, so each is requested when its file is opened: one metered request for each.
    The service removes the files after about 30 days; those that are listed after that are skipped.

    Args:
        api: Sends the requests.
        rows: The list of the files.
        request: The tracking id.
        what: ``"raw"`` or ``"epoch"``.
    """

    narrowed = False

    _api: Api
    _rows: Paginator[DataFile]
    _request: str = attrs.field(kw_only=True)
    _what: str = attrs.field(kw_only=True)

    @property
    def scope(self) -> str:
        """The name of the query, without any secret."""
        return f"{SERVICE}/{self._what}-requests/{self._request.casefold()}"

    async def __aiter__(self) -> AsyncGenerator[RemoteFile, None]:
        """
        List the files.

        Raises:
            NotFoundError: There is no such request (any more).
        """
        tenant, now = self._api.tenant, self._api.clock.now()
        async with aclosing(aiter(self._rows)) as rows:
            async for row in rows:
                yield data_file(row, request=self._request, what=self._what, tenant=tenant, now=now)

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Request a fresh URL once, and with it the content once.

        Raises:
            NotFoundError: The service does not know the file (any more).
            LinkExpiredError: The URL was expired when it was used.
            SourceChangedError: The content does not exist any more.
            PermissionDeniedError: The file host rejects the request for another reason.
            ApiError: Another error response; ``transient`` says whether it may work later.
            DecodeError: The response is no URL.
            TransportError: No usable response was received.
        """
        linked = attrs.evolve(file, link=await self._link_to(file))
        return await open_link(self._api, linked, offset=offset, validator=validator, until=until)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """List again, with one request, and return the entries of some keys; a key that is gone is missing."""
        return [file async for file in self if file.key in keys]

    def since(self, watermarks: Mapping[str, datetime]) -> DataFileSet:  # noqa: ARG002  these files do not change
        """Return the set itself."""
        return self

    def cost(self) -> Cost:
        """Return the cost: one request for the list and one for the URL of each file."""
        return Cost(listing=1, per_file=1, exact=True)

    async def _link_to(self, file: RemoteFile) -> SignedLink:
        """Request a URL once; the download retries, so the session must not."""
        path = join_path("/dataretrieval/v3/DataFiles/{file}/downloadurl", file=file.fields.get("file", ""))
        request = Request(method="GET", path=path, scope=DATA_RETRIEVAL)
        async with await self._api.session.stream(request) as opened:
            body = await _read(opened.stream)
        issued = decode(parse_json(body, request=request.line), DataFileLink, request=request.line)
        link = sign(issued.download_url, announced=issued.expires, now=self._api.clock.now())
        if link is None:
            raise DecodeError(
                f"{request.line}: the response has no URL. Nothing was downloaded; run again.",
                problems=("$.downloadUrl: is missing",),
                request=request.line,
            )
        return link


async def _read(stream: ByteStream) -> bytes:
    """Read a small body to its end."""
    body = b""
    while chunk := await stream.read(_MAX_LINK):
        body += chunk
        if len(body) > _MAX_LINK:
            raise DecodeError(
                f"A response of more than {_MAX_LINK} bytes was received instead of a URL; it was not used."
            )
    return body
