"""
Items, and the files of the workspace: those of the vault by their own guids, and those of items by their associations.

Unlike the files of runs they change: an association may point to a newer edition later, and the content of an edition
may be corrected. The change marker is therefore the file's guid, its edition and when it was last modified. The service
has no checksums, so a content is verified by its listed size.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from pathlib import PurePosixPath

import attrs

from arena_async.errors import ConfigurationError
from arena_async.http.paginator import Paginator
from arena_async.http.session import Session
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Request
from arena_async.providers.arena.api import UNPAGED, make_request, paginate, request_object
from arena_async.providers.arena.layout import ArenaFiles, FileFacts, Key, lay_out, tenant_of
from arena_async.providers.arena.models import ArenaFile, FileAssociation, Item
from arena_async.providers.arena.queries import FileQuery, ItemQuery, write_query

__all__ = ["Files", "ItemFiles", "Items", "StoredFiles"]

#: Guids that a scope names; for more than that it has a digest.
_MAX_LISTED = 3
#: Characters of an extension at most.
_MAX_EXTENSION = 16


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


class StoredFiles(ArenaFiles):
    """
    Some files of the vault, each in the edition whose guid is given.

    Args:
        session: The session.
        files: The files: their guids, which cost a request each to look up, or the files as they were listed, which
            cost none.
        reserve: Requests that the cost estimate leaves to others.

    Raises:
        ConfigurationError: No file is given, or one without a guid.
    """

    kind = "files"

    def __init__(self, session: Session, files: Iterable[str | ArenaFile], *, reserve: int = 0) -> None:
        super().__init__(session, reserve=reserve)
        self._given = tuple(files)
        self._guids = [_guid_of(file, "file") for file in self._given]
        if not self._given:
            raise ConfigurationError("files: no file is given; give the guid of one at least.")

    @property
    def scope(self) -> str:
        """The name of the query, without any secret."""
        return f"arena/files/{_format_guids(self._guids)}"

    @property
    def narrowed(self) -> bool:
        """True: the vault has more files."""
        return True

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files; each is looked up as it is read."""
        tenant = await tenant_of(self._session)
        for file in self._given:
            yield self._entry(tenant, file if isinstance(file, ArenaFile) else await self._request(file))

    async def _look_up(self, tenant: str, first: str, keys: Sequence[Key]) -> AsyncIterator[RemoteFile]:  # noqa: ARG002
        yield self._entry(tenant, await self._request(first))

    def _entry(self, tenant: str, file: ArenaFile) -> RemoteFile:
        return _entry(Key(tenant, self.kind, (file.guid or "", file.edition or "0")), file)

    async def _request(self, guid: str) -> ArenaFile:
        return await request_object(self._session, make_request("GET", "/files/{file}", file=guid), ArenaFile)

    def _listing(self) -> tuple[int, bool]:
        return sum(isinstance(file, str) for file in self._given), True

    def _content(self, key: Key) -> Request:
        return make_request("GET", "/files/{file}/content", file=key.names[0])


class ItemFiles(ArenaFiles):
    """
    The files of some items, as the items refer to them.

    Args:
        session: The session.
        items: The items, by guid or as they were listed. Each costs one request to list.
        primary: Only the primary file of each.
        reserve: Requests that the cost estimate leaves to others.

    Raises:
        ConfigurationError: No item is given, or one without a guid.
    """

    kind = "items"

    def __init__(
        self, session: Session, items: Iterable[str | Item], *, primary: bool = False, reserve: int = 0
    ) -> None:
        super().__init__(session, reserve=reserve)
        self._items = list(dict.fromkeys(_guid_of(item, "item") for item in items))
        self._primary = primary
        if not self._items:
            raise ConfigurationError("items: no item is given; give the guid of one at least.")

    @property
    def scope(self) -> str:
        """The name of the query, without any secret."""
        return f"arena/items/{_format_guids(self._items)}{'?primary' if self._primary else ''}"

    @property
    def narrowed(self) -> bool:
        """Whether files of these items may be missing from it."""
        return self._primary

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files; each item is requested as it is read."""
        tenant = await tenant_of(self._session)
        for item in self._items:
            async for file in self._look_up(tenant, item):
                yield file

    async def _look_up(self, tenant: str, first: str, keys: Sequence[Key] = ()) -> AsyncIterator[RemoteFile]:  # noqa: ARG002
        request = make_request("GET", "/items/{item}/files", item=first)
        async for association in paginate(self._session, request, FileAssociation, shape=UNPAGED):
            if association.primary or not self._primary:
                yield _entry(Key(tenant, self.kind, (first, association.guid)), association.file or ArenaFile())

    def _listing(self) -> tuple[int, bool]:
        return len(self._items), True

    def _content(self, key: Key) -> Request:
        item, association = key.names
        path = "/items/{item}/files/{association}/content"
        return make_request("GET", path, item=item, association=association)


def _guid_of(given: str | ArenaFile | Item, what: str) -> str:
    """Return the guid of an object that is given by it, or as it was listed."""
    guid = given if isinstance(given, str) else given.guid
    if not guid:
        raise ConfigurationError(f"{what}s: one of them has no guid; give the guid of each {what}.")
    return guid


def _format_guids(guids: list[str]) -> str:
    """Return the name of a set of guids, in any order."""
    if len(guids) <= _MAX_LISTED:
        return "+".join(sorted(guids))
    return f"{len(guids)} {hashlib.sha256('+'.join(sorted(guids)).encode()).hexdigest()[:16]}"


def _entry(key: Key, file: ArenaFile) -> RemoteFile:
    """Return the entry of a file: ``arena/files/<file>/<edition>.<format>``, and likewise for those of items."""
    facts = FileFacts(key.names[-1], file.name, file.size, file.no_content)
    change = _change(file) or key.names[-1]
    return lay_out(key, facts, extension=_extension(file), change=change, changed_at=_changed_at(file))


def _changed_at(file: ArenaFile) -> datetime | None:
    return file.last_modified_date_time or file.creation_date_time


def _change(file: ArenaFile) -> str:
    """Return the change marker: it changes with the content."""
    timestamp = _changed_at(file)
    parts = (file.guid, file.edition, None if timestamp is None else timestamp.isoformat())
    return " ".join(part for part in parts if part)


def _extension(file: ArenaFile) -> str:
    """Return the extension: the format, or what the vendor's name ends with, if it looks like one."""
    word = (file.format or PurePosixPath(file.name or "").suffix).lstrip(".").lower()
    return f".{word}" if word.isascii() and word.isalnum() and len(word) <= _MAX_EXTENSION else ""
