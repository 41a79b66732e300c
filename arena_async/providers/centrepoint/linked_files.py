"""
Files behind the signed URLs of a list: listed, opened, and their URLs refreshed with the fewest requests.

A page of a list has a hundred URLs, and they expire together. The first file that needs a new one has its page listed
again; other files of that page wait for the same response, or find it later::

    file ──▶ a newer listing of its page is known ──────────▶ its URL, no request
         └─▶ its page is being listed right now ────────────▶ the same response
         └─▶ its URL is good ───────────────────────────────▶ used as it is, no request
         └─▶ expired by its date, or no newer than one that the file host called expired
                 └─▶ the page is listed again, once

URLs may end before their date, as when the key that signed them is withdrawn. Only a rejection shows it, and that may
as well concern one file, or all clients. So the page of a rejected URL is listed again, and all of its files use the
new one; where new URLs are rejected as well, no more of them are requested for the same page (`worth_listing`).

No URL that was rejected is sent again.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable, Iterable, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, Self, TypeVar

import attrs

from arena_async.errors import ClosedError, LinkExpiredError, ListingError, PermissionDeniedError
from arena_async.http.paginator import ListQuery, Paginator
from arena_async.protocol.files import Cost, OpenedFile, RemoteFile
from arena_async.protocol.messages import Request, Secret
from arena_async.protocol.pagination import ListShape, Page
from arena_async.providers.centrepoint.adapter import pages_of
from arena_async.providers.centrepoint.api import Api, ApiFiles
from arena_async.providers.centrepoint.identifiers import SERVICE, named_subject, number
from arena_async.providers.centrepoint.links import ListedLink, SignedLink, expired_error, open_link
from arena_async.providers.centrepoint.models import ListedFile
from arena_async.transfer.union import ListFailures

__all__ = ["FreshLinks", "LinkedFileQuery", "LinkedFileSet", "linked_file", "worth_listing"]

R = TypeVar("R", bound=ListedFile)

#: Pages that are kept, and rejected files whose page is remembered. More than the files a pool has under way.
_MAX_PAGES, _MAX_REJECTED = 16, 4096
#: Times that a page is listed for a rejected URL whose file the new one does not open either.
_MAX_WASTED = 2

#: A query, and the offset of the page.
_PageKey = tuple[Hashable, int]
#: The key of a file, and the vendor's name of this version.
_FileKey = tuple[str, str]


@attrs.frozen
class LinkedFileQuery(ABC, Generic[R]):
    """
    Which files of a study are requested.

    Args:
        study: The number of the study.
        subject: The number of the subject as an ``int``, its identifier as text, or None for all.
    """

    shape: ClassVar[ListShape]
    #: Pages that may be requested in advance.
    prefetch: ClassVar[int]
    study: int = attrs.field(converter=number)
    subject: int | str | None = attrs.field(default=None, converter=attrs.converters.optional(named_subject))

    @property
    @abstractmethod
    def scope(self) -> str:
        """The name of the query, without any secret."""

    @property
    @abstractmethod
    def narrowed(self) -> bool:
        """Whether it leaves out files that exist."""

    @property
    def may_be_empty(self) -> bool:
        """Whether a 404 may mean an empty list, if the study and the subject exist."""
        return True

    @property
    @abstractmethod
    def request(self) -> Request:
        """The request for the list, page aside."""

    @abstractmethod
    def reader(self, *, any_row: bool = False) -> Callable[[Any], R]:
        """
        Return the reader of the rows of the list. It raises ListingError for a row that was not requested.

        Args:
            any_row: Let rows pass that the filters leave out.
        """

    async def resolved(self, api: Api) -> Self:
        """
        Return the query with the number of the subject instead of its identifier.

        Raises:
            NotFoundError: No subject of the study has this identifier.
            ConfigurationError: Several have it.
        """
        if not isinstance(self.subject, str):
            return self
        return attrs.evolve(self, subject=await api.subjects.resolve(self.study, self.subject))

    def paginator(
        self, api: Api, *, any_row: bool = False, start: int = 0, prefetch: int | None = None
    ) -> Paginator[R]:
        """
        Return the paginator of the list.

        Args:
            api: Sends the requests.
            any_row: As for :meth:`reader`.
            start: The offset to begin at.
            prefetch: Pages that may be requested in advance; None for the usual number of this list.
        """
        empty_if = api.belongs_to(self.study, self.subject) if self.may_be_empty else None

        def query(subject: int | str | None) -> ListQuery[R]:
            wanted = attrs.evolve(self, subject=subject)
            read = wanted.reader(any_row=any_row)
            return ListQuery(wanted.request, self.shape, read, empty_if=empty_if)

        return api.paginate(query, self.study, self.subject, start=start, ahead=prefetch or self.prefetch)


_FORMAT = re.compile(r"[a-z0-9]{1,16}\Z")


def linked_file(
    row: ListedFile, *, key: str, tenant: str, folders: Iterable[str], fields: dict[str, str], link: Secret | None
) -> RemoteFile:
    """
    Return the entry of a row.

    Args:
        row: The row of the list.
        key: Its permanent key.
        tenant: Origin of the service, and client.
        folders: The directories of the documented layout, and the name without its extension.
        fields: The identifying fields by name.
        link: Its signed URL, if it has one.
    """
    *parts, stem = folders
    changed = row.modified_date
    return RemoteFile(
        key=key,
        service=SERVICE,
        tenant=tenant,
        parts=(SERVICE, *parts),
        stem=stem,
        extension=_extension(row),
        name=row.file_name,
        change=f"{row.modified_text}|{row.file_name}" if row.modified_text or row.file_name else "",
        changed_at=changed if changed is not None and changed.tzinfo is not None else None,
        fields=fields,
        link=link,
    )


def _extension(row: ListedFile) -> str:
    """Return the extension: ``.csv.gz`` for csv, whose body is gzip, else what the service calls the format."""
    kind = row.file_format.casefold()
    if kind in ("", "csv") or not _FORMAT.match(kind):
        return ".csv.gz"
    return f".{kind}.gz" if row.file_name.casefold().endswith(".gz") else f".{kind}"


def worth_listing(*, worked: bool, wasted: int) -> bool:
    """
    Return whether a page that was listed again is listed once more, for a URL that was rejected before its end.

    Args:
        worked: Whether any URL of its listing, or of a later one, was good. One that is rejected when it is new is not
            rejected for its age: then this file is forbidden, or all are.
        wasted: Times that it was listed like this since that helped.
    """
    return worked and wasted < _MAX_WASTED


@attrs.define(eq=False)
class _ListedPage:
    """A page that was listed again: its files, and how often that was wasted."""

    number: int
    files: dict[_FileKey, RemoteFile]
    wasted: int = 0

    def is_expired(self, now: datetime) -> bool:
        """Return whether any of its URLs is expired by its own date."""
        return any(_is_expired(file.link, now) for file in self.files.values())

    def entry(self, file: RemoteFile) -> RemoteFile | None:
        """Return the entry of the same version of a file at the same path, or None."""
        found = self.files.get((file.key, file.name))
        same = found is not None and found.change == file.change and _path_of(found.link) == _path_of(file.link)
        return found if same else None


@attrs.define
class _Rejected:
    """
    A URL that was rejected, since the file was last opened.

    Args:
        listed: Where it was listed.
        expired: Whether it was expired.
        known: The link that the caller has: that one, or an older one.
        replaced: Whether a newer one was found since.
    """

    listed: ListedLink
    expired: bool
    known: Secret | None
    replaced: bool = False


class FreshLinks:
    """
    The signed URLs of the files of one set, refreshed when they expire.

    Args:
        api: Sends the requests, and ends them when its session is closed.
        list_page: Lists one page of a query from an offset on. Its URLs have the number that is handed in.
    """

    def __init__(self, api: Api, list_page: Callable[[Hashable, int, int], Awaitable[Iterable[RemoteFile]]]) -> None:
        self._api = api
        self._list_page = list_page
        # Numbers of listings: the newest, the newest with an expired URL, the newest with a good one.
        self._newest_number = self._expired = self._worked = 0
        self._pages: OrderedDict[_PageKey, _ListedPage] = OrderedDict()
        self._tasks: dict[_PageKey, asyncio.Task[_ListedPage]] = {}
        self._rejected: OrderedDict[_FileKey, _Rejected] = OrderedDict()

    def next_number(self) -> int:
        """Return the number of a listing that begins now."""
        self._newest_number += 1
        return self._newest_number

    async def find(self, key: str) -> list[RemoteFile]:
        """
        Return fresh entries of a key whose URL was rejected; none if one is missing where it was listed.

        Where a new URL would be rejected as well, the entry has the URL that is known already.

        Raises:
            ApiError: The page could not be listed, as for any request with its other errors.
        """
        rejected = {name: row for (of, name), row in self._rejected.items() if of == key and not row.replaced}
        found: list[RemoteFile] = []
        for name, row in rejected.items():
            row.replaced = True
            if not self._may_help(row):
                found.append(attrs.evolve(self._pages[row.listed.page].files[key, name], link=row.known))
            else:
                page = await self._page(row.listed.page, newer_than=row.listed.number)
                found += [page.files[key, name]] if (key, name) in page.files else []
        return found if len(found) == len(rejected) else []

    def _may_help(self, row: _Rejected) -> bool:
        """Return whether a new URL may help where one was rejected, and count the listings for it."""
        key = row.listed.page
        page = self._pages.get(key)
        if row.expired or page is None or page.number != row.listed.number or key in self._tasks:
            return True
        if not worth_listing(worked=self._worked >= row.listed.number, wasted=page.wasted):
            return False
        page.wasted += 1  # until its new URL opens the file
        return True

    async def fresh(self, file: RemoteFile) -> RemoteFile:
        """
        Return a file with a URL of the same version at the same path that is not known to be expired.

        Raises:
            LinkExpiredError: The URL is expired, and its page lists another version, or another path, or nothing of it.
            ApiError: The page could not be listed, as for any request with its other errors.
        """
        link = file.link
        if not isinstance(link, SignedLink):
            return file
        expired = link.is_expired(self._api.clock.now())
        if link.listed is None and not expired:
            return file
        if link.listed is None:
            raise expired_error(file, link)
        if link.listed.number > self._expired and not expired:
            return await self._newest(file, link.listed) or file
        page = await self._page(link.listed.page, newer_than=link.listed.number)
        found = page.entry(file)
        if found is None:
            raise expired_error(file, link)
        return found

    async def _newest(self, file: RemoteFile, listed: ListedLink) -> RemoteFile | None:
        """Return the entry of a file from a newer listing of its page, if there is one or is about to be."""
        key = listed.page
        task = self._tasks.get(key)
        if task is not None:
            # Another URL of the page was rejected, and this one may be no better.
            await asyncio.wait([task])
        page = self._pages.get(key)
        if page is None or page.number <= max(listed.number, self._expired):
            return None
        found = page.entry(file)
        return found if found is not None and not _is_expired(found.link, self._api.clock.now()) else None

    def record_success(self, file: RemoteFile) -> None:
        """Record that a URL worked."""
        listed = _listed_link(file)
        if listed is None:
            return
        self._worked = max(self._worked, listed.number)
        before = self._rejected.pop((file.key, file.name), None)
        if before is not None and not before.expired and listed.page in self._pages:
            self._pages[listed.page].wasted = 0

    def record_rejection(self, file: RemoteFile, *, known: Secret | None, expired: bool) -> None:
        """Record that a URL was rejected. With an expired one all are expired that were listed before it."""
        listed = _listed_link(file)
        if listed is None:
            return
        if expired:
            self._expired = max(self._expired, listed.number)
        self._rejected[file.key, file.name] = _Rejected(listed, expired, known)
        if len(self._rejected) > _MAX_REJECTED:
            self._rejected.popitem(last=False)

    async def _page(self, key: _PageKey, *, newer_than: int) -> _ListedPage:
        """Return a page whose URLs can be used, listed again if needed."""
        page = self._pages.get(key)
        if page is None or page.number <= max(self._expired, newer_than) or page.is_expired(self._api.clock.now()):
            page = await self._listed(key)
            if page.number <= max(self._expired, newer_than):  # that listing had begun before it was needed
                page = await self._listed(key)
        return page

    async def _listed(self, key: _PageKey) -> _ListedPage:
        """List a page, or wait for the task that does so already."""
        task = self._tasks.get(key)
        if task is None or task.done():
            task = self._tasks[key] = self._api.session.spawn(lambda: self._list(key), name="fresh links")
        await asyncio.wait([task])
        if task.cancelled():
            raise ClosedError("The client was closed while new links were listed.")
        failure = task.exception()
        if failure is not None:
            # Several may wait for it, and each adds its own frames to the traceback.
            raise copy.copy(failure)
        return task.result()

    async def _list(self, key: _PageKey) -> _ListedPage:
        """List a page and keep it."""
        number = self.next_number()
        try:
            files = {(file.key, file.name): file for file in await self._list_page(*key, number)}
        finally:
            del self._tasks[key]
        before = self._pages.get(key)
        self._pages[key] = page = _ListedPage(number, files, 0 if before is None else before.wasted)
        self._pages.move_to_end(key)
        if len(self._pages) > _MAX_PAGES:
            self._pages.popitem(last=False)
        return page


def _listed_link(file: RemoteFile) -> ListedLink | None:
    """Return where the URL of a file was listed, or None."""
    return file.link.listed if isinstance(file.link, SignedLink) else None


def _is_expired(link: Secret | None, now: datetime) -> bool:
    return isinstance(link, SignedLink) and link.is_expired(now)


def _path_of(link: Secret | None) -> str:
    """Return all of a link but its query, which is signed anew each time."""
    return link.reveal().partition("?")[0] if link else ""


Q = TypeVar("Q", bound=LinkedFileQuery[Any])


class LinkedFileSet(ApiFiles, ABC, Generic[Q, R]):
    """
    Files behind the signed URLs of a list.

    It can be iterated any number of times. Its files have no size beforehand. Expired URLs are refreshed by listing
    their page again, once for all files on it.

    Args:
        api: Sends the requests.
        query: Which files.
    """

    scope = ""
    narrowed = False
    #: What an empty list means, for the log.
    _empty: ClassVar[str]

    def __init__(self, api: Api, query: Q) -> None:
        self._api = api
        self._query = query
        #: The name of the query, without any secret.
        self.scope = query.scope
        #: Whether a filter leaves out files that exist.
        self.narrowed = query.narrowed
        self._total: int | None = None
        self._links = FreshLinks(api, self._list_page)

    async def __aiter__(self) -> AsyncGenerator[RemoteFile, None]:
        """
        List the files, a page of up to 100 at a time.

        Raises:
            ListingError: The list contradicts itself, or has rows that were not requested.
            NotFoundError: What the list belongs to does not exist, or this client does not see it.
            ConfigurationError: The identifier of the subject means more than one.
        """
        async with aclosing(self._pages_of(self._query)) as pages:
            async for page in pages:
                self._note(page)
                for file in page.items:
                    yield file

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Request the content once, from ``offset`` on if it still matches ``validator``.

        The signed URL is sent byte for byte and without any credential of the API. One that is expired, or about to
        expire, is not tried: its page is listed again first, unless another file of that page had it listed already.

        Raises:
            LinkExpiredError: The URL is expired, or not known here, and its page does not list the same version any
                more; :meth:`find` returns a new one.
            SourceChangedError: The content was replaced; :meth:`find` returns the new entry.
            PermissionDeniedError: The file host rejects the request for another reason.
            ApiError: Another error response; ``transient`` says whether it may work later.
            TransportError: No usable response was received.
        """
        links = self._links
        fresh = await links.fresh(file)
        try:
            opened = await open_link(self._api, fresh, offset=offset, validator=validator, until=until)
        except (LinkExpiredError, PermissionDeniedError) as error:
            links.record_rejection(fresh, known=file.link, expired=isinstance(error, LinkExpiredError))
            raise
        links.record_success(fresh)
        return opened

    @abstractmethod
    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """
        List again for some keys, with the fewest requests, and return their entries with fresh URLs.

        Raises:
            ListingError: A key is missing from a list that is not known to be whole.
        """

    def since(self, watermarks: Mapping[str, datetime]) -> Self:  # noqa: ARG002  the service cannot filter on changes
        """Return the set itself."""
        return self

    def cost(self) -> Cost:
        """Return the cost: the pages of the list. Content is served by another host and does not count."""
        return Cost(listing=pages_of(self._total or 0), per_file=0, exact=self._total is not None)

    @abstractmethod
    def _entry(self, row: R, listed_at: datetime, listed: ListedLink) -> RemoteFile:
        """Return the entry of a row."""

    async def _pages_of(self, query: Q, *, any_row: bool = False) -> AsyncGenerator[Page, None]:
        """Yield the pages of a list, with entries for rows."""
        async with aclosing(query.paginator(self._api, any_row=any_row).pages()) as pages:
            async for page in pages:
                yield attrs.evolve(page, items=tuple(self._entries(page, query, self._links.next_number())))

    async def _matching(
        self, query: Q, keys: Collection[str], failures: ListFailures, *, any_row: bool = False
    ) -> list[RemoteFile]:
        """List a query to its end, and return the entries of some keys; add to the failures if it is not whole."""
        found: list[RemoteFile] = []
        with failures.collected(ListingError):
            async with aclosing(self._pages_of(query, any_row=any_row)) as pages:
                async for page in pages:
                    found += [file for file in page.items if file.key in keys]
        return found

    async def _renewed(self, keys: Collection[str]) -> tuple[list[RemoteFile], set[str]]:
        """Return the entries of keys whose URL was rejected, from their pages, and the keys that are still to find."""
        files = {key: found for key in keys if (found := await self._links.find(key))}
        return [file for found in files.values() for file in found], set(keys) - set(files)

    def _entries(self, page: Page, query: Q, number: int) -> list[RemoteFile]:
        """Return the entries of the rows of a page. Its URLs date from when it was received, not from now."""
        listed_at = self._api.clock.now() - timedelta(seconds=page.waited)
        listed = ListedLink((query, page.offset), number)
        return [self._entry(row, listed_at, listed) for row in page.items]

    async def _list_page(self, query: Any, offset: int, number: int) -> list[RemoteFile]:
        """List one page again, for its URLs. The query is one of this set."""
        async with aclosing(query.paginator(self._api, any_row=True, start=offset, prefetch=1).pages()) as pages:
            page = await anext(pages, None)
        return self._entries(page, query, number) if page else []

    def _note(self, page: Page) -> None:
        """Remember how long the list is, and log what an empty one means."""
        self._total = page.total
        if page.total == 0:
            logging.getLogger("arena_async").info("%s lists no files. %s", self.scope, self._empty)
