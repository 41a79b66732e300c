"""
The files that the workspace keeps: those of the vault by their own guids, and those of items by their associations.

Unlike the files of runs they change: an association may come to mean a newer edition, and the content of an edition may
be corrected. The change mark is therefore the file's guid, its edition and when it was last modified. There is no
checksum anywhere in the service, so the size that is listed is what a content is held to.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from pathlib import PurePosixPath

from arena_async.errors import ConfigurationError
from arena_async.http.session import Session
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Request
from arena_async.providers.arena.api import UNPAGED, make_request, paginate, request_object
from arena_async.providers.arena.layout import ArenaFiles, FileFacts, Key, lay_out, tenant_of
from arena_async.providers.arena.models import ArenaFile, FileAssociation, Item

__all__ = ["ItemFiles", "StoredFiles"]

#: Guids that a scope spells out; of more than that it has a digest.
_MAX_LISTED = 3
#: Letters of an extension that is one.
_MAX_EXTENSION = 16


class StoredFiles(ArenaFiles):
    """
    Some files of the vault, each in the edition whose guid is given.

    Args:
        session: Where to ask.
        files: The files: their guids, which cost a request each to look up, or the files as they were listed, which
            cost none.
        reserve: Requests the caller wants left untouched, for the price.

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
        """True: the vault holds more."""
        return True

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files; each is looked up as it is read."""
        tenant = await tenant_of(self._session)
        for file in self._given:
            yield _stored_file(tenant, file if isinstance(file, ArenaFile) else await self._request(file))

    async def _look_up(self, tenant: str, first: str, keys: Sequence[Key]) -> AsyncIterator[RemoteFile]:  # noqa: ARG002
        yield _stored_file(tenant, await self._request(first))

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
        session: Where to ask.
        items: The items, by guid or as they were listed. Each costs one request to list.
        primary: Only the primary file of each.
        reserve: Requests the caller wants left untouched, for the price.

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
        """List the files, item by item as they are asked for."""
        tenant = await tenant_of(self._session)
        for item in self._items:
            async for file in self._look_up(tenant, item):
                yield file

    async def _look_up(self, tenant: str, first: str, keys: Sequence[Key] = ()) -> AsyncIterator[RemoteFile]:  # noqa: ARG002
        request = make_request("GET", "/items/{item}/files", item=first)
        async for association in paginate(self._session, request, FileAssociation, shape=UNPAGED):
            if association.primary or not self._primary:
                yield _item_file(tenant, first, association)

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
    """Name a choice of guids, whatever their order."""
    if len(guids) <= _MAX_LISTED:
        return "+".join(sorted(guids))
    return f"{len(guids)} {hashlib.sha256('+'.join(sorted(guids)).encode()).hexdigest()[:16]}"


def _stored_file(tenant: str, file: ArenaFile) -> RemoteFile:
    """Return the entry of one file of the vault: ``arena/files/<file>/<edition>.<format>``."""
    return lay_out(
        Key(tenant, "files", (file.guid or "", file.edition or "0")),
        _facts_of(file, file.edition or "0"),
        extension=_extension(file),
        change=_change(file),
        changed_at=_changed_at(file),
    )


def _item_file(tenant: str, item: str, association: FileAssociation) -> RemoteFile:
    """Return the entry of one file of an item: ``arena/items/<item>/<association>.<format>``."""
    file = association.file or ArenaFile()
    return lay_out(
        Key(tenant, "items", (item, association.guid)),
        _facts_of(file, association.guid),
        extension=_extension(file),
        change=_change(file) or association.guid,
        changed_at=_changed_at(file),
    )


def _facts_of(file: ArenaFile, guid: str) -> FileFacts:
    return FileFacts(guid, file.name, file.size, file.no_content)


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
