"""
Items, and the files of the workspace: those of the vault by their own guids, and those of items by their associations.

Unlike the files of runs they change: an association may point to a newer edition later, and the content of an edition
may be corrected. The change marker is therefore the file's guid and edition, and where it was corrected, when it was
last modified. Lists show files in a compact form, without that time and without the size; a file for which the list
does not show that its content is the first one is looked up. The service has no checksums, so a content is verified by
its listed size.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePosixPath

import attrs

from arena_async.errors import ConfigurationError
from arena_async.http.paginator import Paginator
from arena_async.protocol.files import RemoteFile
from arena_async.providers.arena.api import ArenaService, get_object, paginate, tenant_of
from arena_async.providers.arena.files import ArenaFiles, FileFacts
from arena_async.providers.arena.models import ArenaFile, FileAssociation, Item
from arena_async.providers.arena.queries import FileQuery, ItemQuery, write_query
from arena_async.transfer.union import ListFailures

__all__ = ["Files", "ItemFiles", "Items", "StoredFiles"]

#: Guids that a scope names; for more than that it has a digest.
_MAX_LISTED = 3
#: Characters of an extension at most.
_MAX_EXTENSION = 16


@attrs.frozen
class Items(ArenaService):
    """The items of the workspace."""

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
        return paginate(self.session, Item, "/items", write_query(query, text="number"), offset=offset, limit=limit)

    async def get(self, guid: str) -> Item:
        """Return one item; of a listed guid, its effective revision. One request."""
        return await get_object(self.session, Item, "/items/{item}", item=guid)

    def associations(self, guid: str) -> Paginator[FileAssociation]:
        """Return the files of an item as it refers to them, with their metadata. One request: the list has no pages."""
        return paginate(self.session, FileAssociation, "/items/{item}/files", item=guid)

    async def association(self, guid: str, association: str) -> FileAssociation:
        """Return one file of an item, by the guid of its association. One request."""
        path = "/items/{item}/files/{association}"
        return await get_object(self.session, FileAssociation, path, item=guid, association=association)

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
        guids = list(dict.fromkeys(_guids_of(items, "item")))
        return ItemFiles(self, guids, primary)


@attrs.frozen
class Files(ArenaService):
    """The files of the workspace."""

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
        return paginate(self.session, ArenaFile, "/files", write_query(query), offset=offset, limit=limit)

    async def get(self, guid: str) -> ArenaFile:
        """Return one file with all its metadata. One request."""
        return await get_object(self.session, ArenaFile, "/files/{file}", file=guid)

    def editions(self, guid: str) -> Paginator[ArenaFile]:
        """Return every edition of a file. One request: the list has no pages."""
        return paginate(self.session, ArenaFile, "/files/{file}/editions", file=guid)

    def content(self, *files: str | ArenaFile) -> StoredFiles:
        """
        Return one or many files, to be downloaded. Sends nothing yet.

        Args:
            files: The files: by guid, which costs a request each to look up, or as they were listed, which costs one
                only for those that were corrected.

        Raises:
            ConfigurationError: No file is given.
        """
        return StoredFiles(self, files)


@attrs.define(eq=False, repr=False)
class _VaultFiles(ArenaFiles):
    """Files of the vault, by their own guids or by the items that refer to them."""

    _uploaded = True

    async def _whole(self, file: ArenaFile) -> ArenaFile:
        """Return a listed file, looked up where the list cannot show that its content changed. One request, or none."""
        if not file.guid or not _may_hide_a_change(file):
            return file
        return await get_object(self._session, ArenaFile, "/files/{file}", file=file.guid)

    def _entry_of(self, tenant: str, names: tuple[str, str], file: ArenaFile) -> RemoteFile:
        """
        Return the entry of a file: ``arena/files/<file>/<edition>.<format>``, and likewise for those of items.

        The extension is the format, or what the vendor's name ends with, if it looks like one. The change marker
        changes with the content, and is the same for a file as it was listed and as it was looked up.
        """
        facts = FileFacts(names[-1], file.name, file.size, file.no_content)
        word = (file.format or PurePosixPath(file.name or "").suffix).lstrip(".").lower()
        is_extension = word.isascii() and word.isalnum() and len(word) <= _MAX_EXTENSION
        changed_at = file.last_modified_date_time or file.creation_date_time
        stamp = None if changed_at is None or file.corrected is False else changed_at.isoformat()
        marker = (file.guid, file.edition, stamp)
        return self._entry(
            tenant,
            names,
            facts,
            extension=f".{word}" if is_extension else "",
            change=" ".join(filter(None, marker)) or names[-1],
            listed=("", changed_at),
        )


@attrs.define(eq=False, repr=False)
class StoredFiles(_VaultFiles):
    """
    Some files of the vault, each in the edition whose guid is given.

    Args:
        given: The files: their guids, which cost a request each to look up, or the files as they were listed, which
            cost one only where the list does not show whether the content was corrected.

    Raises:
        ConfigurationError: No file is given, or one without a guid.
    """

    #: The vault has more files.
    narrowed = True
    _kind = "files"
    _fields = ("file", "edition")
    _content_path = "/files/{file}/content"

    _service: Files
    _given: Sequence[str | ArenaFile]
    _guids: list[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Check the guids."""
        self._guids = _guids_of(self._given, "file")

    @property
    def scope(self) -> str:
        """The name of the query, without any secret."""
        return f"arena/files/{_format_guids(self._guids)}"

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files; each is looked up as it is read."""
        tenant = await tenant_of(self._service)
        failures = ListFailures()
        for given in self._given:
            with failures.collected():
                file = await (self._whole(given) if isinstance(given, ArenaFile) else self._service.get(given))
                yield self._entry_of(tenant, (file.guid or "", file.edition or "0"), file)
        failures.check()

    async def _look_up(self, tenant: str, first: str, *_: object) -> AsyncIterator[RemoteFile]:
        file = await self._service.get(first)
        yield self._entry_of(tenant, (file.guid or "", file.edition or "0"), file)

    def _listing(self) -> tuple[int, bool]:
        return sum(isinstance(file, str) or _may_hide_a_change(file) for file in self._given), True


@attrs.define(eq=False, repr=False)
class ItemFiles(_VaultFiles):
    """
    The files of some items, as the items refer to them.

    Args:
        items: The guids of the items. Each costs one request to list, and one more for each file that was corrected.
        primary: Only the primary file of each.
    """

    _kind = "items"
    _fields = ("item", "association")
    _content_path = "/items/{item}/files/{association}/content"

    _service: Items
    _items: Sequence[str]
    _primary: bool = False

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
        tenant = await tenant_of(self._service)
        failures = ListFailures()
        for item in self._items:
            with failures.collected():
                async for file in self._look_up(tenant, item):
                    yield file
        failures.check()

    async def _look_up(
        self, tenant: str, first: str, members: Sequence[Sequence[str]] = ()
    ) -> AsyncIterator[RemoteFile]:
        wanted = {names[1] for names in members}
        async for association in self._service.associations(first):
            if (association.primary or not self._primary) and (not members or association.guid in wanted):
                file = await self._whole(association.file or await self._file_of(first, association.guid))
                yield self._entry_of(tenant, (first, association.guid), file)

    async def _file_of(self, item: str, association: str) -> ArenaFile:
        """Return the file of an association that was listed without it. One request."""
        path = "/items/{item}/files/{association}"
        found = await get_object(self._session, FileAssociation, path, item=item, association=association)
        return found.file or ArenaFile()

    def _listing(self) -> tuple[int, bool]:
        # Files that were corrected cost one more each.
        return len(self._items), False


def _may_hide_a_change(file: ArenaFile) -> bool:
    """Return whether another content of the file could be listed in the same way."""
    has_content, dated = file.no_content is None, file.last_modified_date_time is not None
    return has_content and not dated and file.corrected is not False


def _guids_of(given: Sequence[str | ArenaFile | Item], what: str) -> list[str]:
    """Return the guids of objects that are given by them, or as they were listed."""
    if not given:
        raise ConfigurationError(f"{what}s: no {what} is given; give the guid of one at least.")
    guids = [one if isinstance(one, str) else one.guid for one in given]
    if not all(guids):
        raise ConfigurationError(f"{what}s: one of them has no guid; give the guid of each {what}.")
    return list(filter(None, guids))


def _format_guids(guids: Sequence[str]) -> str:
    """Return the name of a set of guids, in any order."""
    if len(guids) <= _MAX_LISTED:
        return "+".join(sorted(guids))
    return f"{len(guids)} {hashlib.sha256('+'.join(sorted(guids)).encode()).hexdigest()[:16]}"
