"""Items, and the files in the vault of the workspace."""

from __future__ import annotations

import attrs

from arena_async.http.paginator import Paginator
from arena_async.http.session import Session
from arena_async.providers.arena.api import UNPAGED, make_request, paginate, request_object
from arena_async.providers.arena.models import ArenaFile, FileAssociation, Item
from arena_async.providers.arena.queries import FileQuery, ItemQuery, write_query
from arena_async.providers.arena.stored import ItemFiles, StoredFiles

__all__ = ["Files", "Items"]


@attrs.frozen
class Items:
    """
    The items of the workspace.

    Args:
        session: The session.
        reserve: Requests of the day that are left to others.
    """

    session: Session = attrs.field(repr=False)
    reserve: int = 0

    def search(
        self, query: ItemQuery | str | None = None, *, offset: int = 0, limit: int | None = None
    ) -> Paginator[Item]:
        """
        Return items. One request for each 400, also with the full view.

        Args:
            query: Only these; a string is a number, where a trailing ``*`` finds what starts with it.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.

        Raises:
            ConfigurationError: A date-time has no zone.
        """
        request = make_request("GET", "/items", write_query(query, text="number"))
        return paginate(self.session, request, Item, offset=offset, limit=limit)

    async def get(self, guid: str) -> Item:
        """Return one item; of a listed guid, its effective revision. One request."""
        return await request_object(self.session, make_request("GET", "/items/{item}", item=guid), Item)

    def associations(self, guid: str) -> Paginator[FileAssociation]:
        """Return the files of an item as it refers to them, with their metadata. One request: the list has no pages."""
        request = make_request("GET", "/items/{item}/files", item=guid)
        return paginate(self.session, request, FileAssociation, shape=UNPAGED)

    async def association(self, guid: str, association: str) -> FileAssociation:
        """Return one file of an item, by the guid of its association. One request."""
        request = make_request("GET", "/items/{item}/files/{association}", item=guid, association=association)
        return await request_object(self.session, request, FileAssociation)

    def files(self, *items: str | Item, primary: bool = False) -> ItemFiles:
        """
        Return the files of items, to be downloaded. Sends nothing yet; listing costs one request for each item.

        Files without content in the service (links to other sites, placeholders) are skipped, with the reason.

        Args:
            items: The items, by guid or as they were listed.
            primary: Only the primary file of each.

        Raises:
            ConfigurationError: No item is given.
        """
        return ItemFiles(self.session, items, primary=primary, reserve=self.reserve)


@attrs.frozen
class Files:
    """
    The files of the workspace.

    Args:
        session: The session.
        reserve: Requests of the day that are left to others.
    """

    session: Session = attrs.field(repr=False)
    reserve: int = 0

    def search(
        self, query: FileQuery | str | None = None, *, offset: int = 0, limit: int | None = None
    ) -> Paginator[ArenaFile]:
        """
        Return the latest editions of files. One request for each 400.

        Args:
            query: Only these; a string is a name, where a trailing ``*`` finds what starts with it.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        return paginate(
            self.session, make_request("GET", "/files", write_query(query)), ArenaFile, offset=offset, limit=limit
        )

    async def get(self, guid: str) -> ArenaFile:
        """Return one file with all its metadata. One request."""
        return await request_object(self.session, make_request("GET", "/files/{file}", file=guid), ArenaFile)

    def editions(self, guid: str) -> Paginator[ArenaFile]:
        """Return every edition of a file. One request: the list has no pages."""
        request = make_request("GET", "/files/{file}/editions", file=guid)
        return paginate(self.session, request, ArenaFile, shape=UNPAGED)

    def content(self, *files: str | ArenaFile) -> StoredFiles:
        """
        Return one or many files, to be downloaded. Sends nothing yet.

        Args:
            files: The files: by guid, which costs a request each to look up, or as they were listed, which costs none.

        Raises:
            ConfigurationError: No file is given.
        """
        return StoredFiles(self.session, files, reserve=self.reserve)
