"""
New links for old, with the fewest requests.

A page of a list has a hundred links, and they end together. The first file that meets the end has its page listed
again; whoever needs another link of that page meanwhile waits for the same answer, and whoever comes later finds it::

    file ──▶ its link is good ──────────────────────────────▶ used as it is, no request
         └─▶ over by its date, or no newer than one that was over at the file host
                 └─▶ its page is here and newer ────────────▶ the new link, no request
                 └─▶ somebody lists it right now ───────────▶ the same answer
                 └─▶ else the page is listed again, once

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

__all__ = ["FreshLinks"]

#: Pages that are kept, and refused files whose page is remembered. More than the files a pool has under way.
_MOST_PAGES, _MOST_REFUSED = 16, 4096

_Place = tuple[Hashable, int]


@attrs.frozen
class _Page:
    """A page that was listed again: its files by key and vendor's name."""

    mint: int
    files: dict[tuple[str, str], RemoteFile]

    def is_over(self, now: datetime) -> bool:
        """Say whether any of its links is over by its own word."""
        links = (file.link for file in self.files.values())
        return any(isinstance(link, SignedLink) and link.is_over(now) for link in links)


@attrs.frozen
class _Refused:
    """Where a link that was refused had been listed, and in which listing."""

    place: _Place
    mint: int


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
        self._pages: OrderedDict[_Place, _Page] = OrderedDict()
        self._asking: dict[_Place, asyncio.Task[_Page]] = {}
        self._refused: OrderedDict[tuple[str, str], _Refused] = OrderedDict()

    def mint(self) -> int:
        """Give the number of a listing that begins now."""
        self._minted += 1
        return self._minted

    async def open(self, file: RemoteFile, *, offset: int = 0, validator: str | None = None) -> OpenedFile:
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
            return await open_link(
                self._session, linked, offset=offset, validator=validator, now=self._now, fresh=looked_at
            )
        except LinkExpiredError:
            self._refuse(linked, over_at_host=True)
            raise
        except PermissionDeniedError:
            self._refuse(linked)
            raise

    async def find(self, key: str) -> list[RemoteFile]:
        """
        Give fresh entries of a key whose link was refused; none where they are not where they were listed.

        Raises:
            ApiError: The page could not be listed, as for any request with its other errors.
        """
        refused = {name: row for (of, name), row in self._refused.items() if of == key}
        found: list[RemoteFile] = []
        for name, row in refused.items():
            del self._refused[key, name]
            page = await self._good(row.place, newer_than=row.mint)
            if (key, name) in page.files:
                found.append(page.files[key, name])
        return found if len(found) == len(refused) else []

    async def _linked(self, file: RemoteFile) -> tuple[RemoteFile, bool]:
        """Give a file with a link to the same version at the same place, and whether its date was looked at."""
        link = file.link
        if not isinstance(link, SignedLink) or link.listed is None:
            return file, False
        listed = link.listed
        if listed.mint > self._dead and not link.is_over(self._now()):
            return file, True
        page = await self._good((listed.query, listed.offset), newer_than=listed.mint)
        found = page.files.get((file.key, file.name))
        if found is None or found.change != file.change or _leads_to(found.link) != _leads_to(link):
            raise over(file, link)
        return found, True

    def _refuse(self, file: RemoteFile, *, over_at_host: bool = False) -> None:
        """Note that a link was refused. One that is over has taken along whatever was listed before it."""
        link = file.link
        if not isinstance(link, SignedLink) or link.listed is None:
            return
        listed = link.listed
        if over_at_host:
            self._dead = max(self._dead, listed.mint)
        self._refused[file.key, file.name] = _Refused((listed.query, listed.offset), listed.mint)
        while len(self._refused) > _MOST_REFUSED:
            self._refused.popitem(last=False)

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
        page = _Page(mint, {(file.key, file.name): file for file in await self._list_page(query, offset, mint)})
        self._pages[place] = page
        self._pages.move_to_end(place)
        while len(self._pages) > _MOST_PAGES:
            self._pages.popitem(last=False)
        return page


def _leads_to(link: Secret | None) -> str:
    """Give what a link leads to: all of it but its query, which is signed anew each time."""
    return link.reveal().partition("?")[0] if link else ""
