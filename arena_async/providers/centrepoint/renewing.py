"""
New links for old, with the fewest requests.

A page of a list has a hundred links, and they end together. The first file that meets the end has its page listed
again; whoever needs another link of that page meanwhile waits for the same answer, and whoever comes later finds it::

    file ──▶ its page is here and newer ────────────────────▶ the new link, no request
         └─▶ somebody lists its page right now ─────────────▶ the same answer
         └─▶ its link is good ──────────────────────────────▶ used as it is, no request
         └─▶ over by its date, or no newer than one that was over at the file host
                 └─▶ the page is listed again, once

Links may die before their date, as when the key that signed them is withdrawn. Nothing says so but a refusal, and that
may as well concern one file, or everybody. So the page of a refused link is listed again, and all of its files go by
the new one; where new links are refused as well, no more of them are fetched for the same page (`worth_listing`).

No link that was refused is asked again, whatever it was refused for.
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
from arena_async.net.session import Session
from arena_async.providers.centrepoint.links import SignedLink, open_link, over
from arena_async.wire.contracts import OpenedFile, RemoteFile
from arena_async.wire.messages import Secret

__all__ = ["FreshLinks", "worth_listing"]

#: Pages that are kept, and refused files whose page is remembered. More than the files a pool has under way.
_MOST_PAGES, _MOST_REFUSED = 16, 4096
#: Times that a page is listed for a refused link whose file the new link does not open either.
_MOST_IN_VAIN = 2

_Place = tuple[Hashable, int]


def worth_listing(*, worked: bool, in_vain: int) -> bool:
    """
    Say whether a page that was listed again is listed once more, for a link that was refused although it is not over.

    Args:
        worked: Whether any link of its listing, or of a later one, was good. One that was refused when it was new is
            not refused for its age: then nobody is let in, or this file is not.
        in_vain: Times that it was listed like this since that helped.
    """
    return worked and in_vain < _MOST_IN_VAIN


@attrs.define(eq=False)
class _Page:
    """A page that was listed again: its files by key and vendor's name, and how often that was in vain."""

    mint: int
    files: dict[tuple[str, str], RemoteFile]
    in_vain: int = 0

    def is_over(self, now: datetime) -> bool:
        """Say whether any of its links is over by its own word."""
        links = (file.link for file in self.files.values())
        return any(isinstance(link, SignedLink) and link.is_over(now) for link in links)


@attrs.frozen
class _Refused:
    """
    A link that was refused.

    Args:
        place: Where it had been listed.
        mint: In which listing.
        over: Whether it was over.
        known: The link that whoever asked has: that one, or an older one.
    """

    place: _Place
    mint: int
    over: bool
    known: Secret | None


class FreshLinks:
    """
    Gives the files of one set links that are good.

    Args:
        session: What sends the requests; it ends them when it is closed.
        list_page: Lists one page of a query from an offset on. Its links carry the number that is handed in.
        now: Gives the time (aware).
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
        self._minted = 0
        self._dead = 0
        self._worked = 0
        self._pages: OrderedDict[_Place, _Page] = OrderedDict()
        self._asking: dict[_Place, asyncio.Task[_Page]] = {}
        self._refused: OrderedDict[tuple[str, str], _Refused] = OrderedDict()
        self._doubted: OrderedDict[tuple[str, str], int] = OrderedDict()

    def mint(self) -> int:
        """Give the number of a listing that begins now."""
        self._minted += 1
        return self._minted

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Ask the file host for the content once, with the link of the file, or with a new one where that is over.

        Raises:
            LinkExpiredError: The link is over, and its page lists another version, or another place, or nothing of it;
                or the file host says so.
            SourceChangedError: The content is not there any more.
            PermissionDeniedError: The file host refuses for another reason.
            ApiError: Another refusal, or the page could not be listed; ``transient`` says whether it may work later.
            TransportError: No usable answer came.
        """
        linked, looked_at = await self._linked(file)
        try:
            opened = await open_link(
                self._session,
                linked,
                offset=offset,
                validator=validator,
                until=until,
                now=self._now,
                fresh=looked_at,
            )
        except LinkExpiredError:
            self._refuse(linked, known=file.link, over=True)
            raise
        except PermissionDeniedError:
            self._refuse(linked, known=file.link, over=False)
            raise
        self._note_good(linked)
        return opened

    async def find(self, key: str) -> list[RemoteFile]:
        """
        Give fresh entries of a key whose link was refused; none where they are not where they were listed.

        Where a new link would be refused as well, the entry has the link that is known already.

        Raises:
            ApiError: The page could not be listed, as for any request with its other errors.
        """
        refused = {name: row for (of, name), row in self._refused.items() if of == key}
        found: list[RemoteFile] = []
        for name, row in refused.items():
            del self._refused[key, name]
            if not self._may_help(row):
                found.append(attrs.evolve(self._pages[row.place].files[key, name], link=row.known))
                continue
            page = await self._good(row.place, newer_than=row.mint)
            if (key, name) in page.files:
                found.append(page.files[key, name])
        return found if len(found) == len(refused) else []

    def _may_help(self, row: _Refused) -> bool:
        """Say whether a new link may help where one was refused, and count the times that a page is listed for it."""
        page = self._pages.get(row.place)
        if row.over or page is None or page.mint != row.mint or row.place in self._asking:
            return True
        if not worth_listing(worked=self._worked >= row.mint, in_vain=page.in_vain):
            return False
        page.in_vain += 1  # until its new link opens the file
        return True

    async def _linked(self, file: RemoteFile) -> tuple[RemoteFile, bool]:
        """Give a file with a link to the same version at the same place, and whether its date was looked at."""
        link = file.link
        if not isinstance(link, SignedLink) or link.listed is None:
            return file, False
        listed = link.listed
        place = (listed.query, listed.offset)
        if listed.mint > self._dead and not link.is_over(self._now()):
            return await self._newest(file, place, listed.mint) or file, True
        page = await self._good(place, newer_than=listed.mint)
        found = page.files.get((file.key, file.name))
        if found is None or not _is_same(found, file):
            raise over(file, link)
        return found, True

    async def _newest(self, file: RemoteFile, place: _Place, mint: int) -> RemoteFile | None:
        """Give the entry of a file from a newer listing of its page, if there is one or is about to be."""
        asking = self._asking.get(place)
        if asking is not None:
            # Another link of the page was refused, and this one may be no better.
            await asyncio.wait([asking])
        page = self._pages.get(place)
        if page is None or page.mint <= max(mint, self._dead):
            return None
        found = page.files.get((file.key, file.name))
        if found is None or not _is_same(found, file):
            return None
        return None if isinstance(found.link, SignedLink) and found.link.is_over(self._now()) else found

    def _note_good(self, file: RemoteFile) -> None:
        """Note that a link was good."""
        link = file.link
        if not isinstance(link, SignedLink) or link.listed is None:
            return
        self._worked = max(self._worked, link.listed.mint)
        if self._doubted.pop((file.key, file.name), None) is not None:
            page = self._pages.get((link.listed.query, link.listed.offset))
            if page is not None:
                page.in_vain = 0

    def _refuse(self, file: RemoteFile, *, known: Secret | None, over: bool) -> None:
        """Note that a link was refused. One that is over has taken along whatever was listed before it."""
        link = file.link
        if not isinstance(link, SignedLink) or link.listed is None:
            return
        listed, name = link.listed, (file.key, file.name)
        place = (listed.query, listed.offset)
        if over:
            self._dead = max(self._dead, listed.mint)
        else:
            self._doubted[name] = listed.mint
        self._refused[name] = _Refused(place, listed.mint, over, known)
        for noted in (self._refused, self._doubted):
            while len(noted) > _MOST_REFUSED:
                noted.popitem(last=False)

    async def _good(self, place: _Place, *, newer_than: int) -> _Page:
        """Give a page whose links can be used, listed again where that is needed."""
        page = self._pages.get(place)
        if page is not None and page.mint > max(self._dead, newer_than) and not page.is_over(self._now()):
            return page
        page = await self._listed(place)
        if page.mint <= max(self._dead, newer_than):
            # Whoever listed it had begun before it was needed.
            page = await self._listed(place)
        return page

    async def _listed(self, place: _Place) -> _Page:
        """List a page, or wait for whoever does so already."""
        task = self._asking.get(place)
        if task is None or task.done():
            task = self._asking[place] = self._session.spawn(lambda: self._ask(place), name="fresh links")
            task.add_done_callback(functools.partial(self._forget, place))
        await asyncio.wait([task])
        if task.cancelled():
            raise ClosedError("The client was closed while new links were listed.")
        failure = task.exception()
        if failure is not None:
            # Several may wait for it, and each adds its own way to the traceback.
            raise copy.copy(failure)
        return task.result()

    def _forget(self, place: _Place, task: asyncio.Task[_Page]) -> None:
        if self._asking.get(place) is task:
            del self._asking[place]

    async def _ask(self, place: _Place) -> _Page:
        """List a page and keep it."""
        mint = self.mint()
        query, offset = place
        files = {(file.key, file.name): file for file in await self._list_page(query, offset, mint)}
        before = self._pages.get(place)
        self._pages[place] = page = _Page(mint, files, 0 if before is None else before.in_vain)
        self._pages.move_to_end(place)
        while len(self._pages) > _MOST_PAGES:
            self._pages.popitem(last=False)
        return page


def _is_same(found: RemoteFile, file: RemoteFile) -> bool:
    """Say whether two entries are of one version at one place."""
    return found.change == file.change and _leads_to(found.link) == _leads_to(file.link)


def _leads_to(link: Secret | None) -> str:
    """Give what a link leads to: all of it but its query, which is signed anew each time."""
    return link.reveal().partition("?")[0] if link else ""
