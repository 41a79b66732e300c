"""
Refresh expired signed URLs, with the fewest requests.

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
import functools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable
from datetime import datetime

import attrs

from arena_async.errors import ClosedError, LinkExpiredError, PermissionDeniedError
from arena_async.http.session import Session
from arena_async.protocol.files import OpenedFile, RemoteFile
from arena_async.protocol.messages import Secret
from arena_async.providers.centrepoint.links import ListedLink, SignedLink, expired_error, open_link

__all__ = ["FreshLinks", "worth_listing"]

#: Pages that are kept, and rejected files whose page is remembered. More than the files a pool has under way.
_MAX_PAGES, _MAX_REJECTED = 16, 4096
#: Times that a page is listed for a rejected URL whose file the new one does not open either.
_MAX_WASTED = 2

#: A query, and the offset of the page.
_PageKey = tuple[Hashable, int]
#: The key of a file, and the vendor's name of this version.
_FileKey = tuple[str, str]


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


@attrs.frozen
class _Rejected:
    """
    A URL that was rejected.

    Args:
        listed: Where it was listed.
        expired: Whether it was expired.
        known: The link that the caller has: that one, or an older one.
    """

    listed: ListedLink
    expired: bool
    known: Secret | None


class FreshLinks:
    """
    The signed URLs of the files of one set, refreshed when they expire.

    Args:
        session: Sends the requests, and ends them when it is closed.
        list_page: Lists one page of a query from an offset on. Its URLs have the number that is handed in.
        now: Returns the time (aware).
    """

    def __init__(
        self,
        session: Session,
        list_page: Callable[[Hashable, int, int], Awaitable[Iterable[RemoteFile]]],
        now: Callable[[], datetime],
    ) -> None:
        self._session = session
        self._list_page = list_page
        self._now = now
        # Numbers of listings: the newest, the newest with an expired URL, the newest with a good one.
        self._newest_number = self._expired = self._worked = 0
        self._pages: OrderedDict[_PageKey, _ListedPage] = OrderedDict()
        self._tasks: dict[_PageKey, asyncio.Task[_ListedPage]] = {}
        self._rejected: OrderedDict[_FileKey, _Rejected] = OrderedDict()
        #: Files that were rejected before the end of their URL, since they were last opened.
        self._doubtful: OrderedDict[_FileKey, None] = OrderedDict()

    def next_number(self) -> int:
        """Return the number of a listing that begins now."""
        self._newest_number += 1
        return self._newest_number

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Request the content from the file host once, with the URL of the file, or with a new one if that is expired.

        Raises:
            LinkExpiredError: The URL is expired, and its page lists another version, or another path, or nothing of it;
                or the file host says so.
            SourceChangedError: The content does not exist any more.
            PermissionDeniedError: The file host rejects the request for another reason.
            ApiError: Another error response, or the page could not be listed; ``transient`` says whether it may work
                later.
            TransportError: No usable response was received.
        """
        fresh = await self._fresh(file)
        try:
            opened = await open_link(
                self._session, fresh, offset=offset, validator=validator, until=until, now=self._now
            )
        except (LinkExpiredError, PermissionDeniedError) as error:
            self._record_rejection(fresh, known=file.link, expired=isinstance(error, LinkExpiredError))
            raise
        self._record_success(fresh)
        return opened

    async def find(self, key: str) -> list[RemoteFile]:
        """
        Return fresh entries of a key whose URL was rejected; none if one is missing where it was listed.

        Where a new URL would be rejected as well, the entry has the URL that is known already.

        Raises:
            ApiError: The page could not be listed, as for any request with its other errors.
        """
        rejected = {name: row for (of, name), row in self._rejected.items() if of == key}
        found: list[RemoteFile] = []
        for name, row in rejected.items():
            del self._rejected[key, name]
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

    async def _fresh(self, file: RemoteFile) -> RemoteFile:
        """Return a file with a URL of the same version at the same path that is not known to be expired."""
        link = file.link
        if not isinstance(link, SignedLink):
            return file
        expired = link.is_expired(self._now())
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
        return found if found is not None and not _is_expired(found.link, self._now()) else None

    def _record_success(self, file: RemoteFile) -> None:
        """Record that a URL worked."""
        listed = _listed_link(file)
        if listed is None:
            return
        self._worked = max(self._worked, listed.number)
        if (file.key, file.name) in self._doubtful:
            del self._doubtful[file.key, file.name]
            if listed.page in self._pages:
                self._pages[listed.page].wasted = 0

    def _record_rejection(self, file: RemoteFile, *, known: Secret | None, expired: bool) -> None:
        """Record that a URL was rejected. With an expired one all are expired that were listed before it."""
        listed = _listed_link(file)
        if listed is None:
            return
        name = (file.key, file.name)
        if expired:
            self._expired = max(self._expired, listed.number)
        else:
            self._doubtful[name] = None
        self._rejected[name] = _Rejected(listed, expired, known)
        for noted in (self._rejected, self._doubtful):
            while len(noted) > _MAX_REJECTED:
                noted.popitem(last=False)

    async def _page(self, key: _PageKey, *, newer_than: int) -> _ListedPage:
        """Return a page whose URLs can be used, listed again if needed."""
        page = self._pages.get(key)
        if page is not None and page.number > max(self._expired, newer_than) and not page.is_expired(self._now()):
            return page
        page = await self._listed(key)
        if page.number <= max(self._expired, newer_than):
            # That listing had begun before it was needed.
            page = await self._listed(key)
        return page

    async def _listed(self, key: _PageKey) -> _ListedPage:
        """List a page, or wait for the task that does so already."""
        task = self._tasks.get(key)
        if task is None or task.done():
            task = self._tasks[key] = self._session.spawn(lambda: self._list(key), name="fresh links")
            task.add_done_callback(functools.partial(self._forget, key))
        await asyncio.wait([task])
        if task.cancelled():
            raise ClosedError("The client was closed while new links were listed.")
        failure = task.exception()
        if failure is not None:
            # Several may wait for it, and each adds its own frames to the traceback.
            raise copy.copy(failure)
        return task.result()

    def _forget(self, key: _PageKey, task: asyncio.Task[_ListedPage]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]

    async def _list(self, key: _PageKey) -> _ListedPage:
        """List a page and keep it."""
        number = self.next_number()
        query, offset = key
        files = {(file.key, file.name): file for file in await self._list_page(query, offset, number)}
        before = self._pages.get(key)
        self._pages[key] = page = _ListedPage(number, files, 0 if before is None else before.wasted)
        self._pages.move_to_end(key)
        while len(self._pages) > _MAX_PAGES:
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
