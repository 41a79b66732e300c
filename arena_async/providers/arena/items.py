"""Items, and the files that the workspace keeps for them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, get_args

import attrs

from arena_async.errors import ConfigurationError
from arena_async.net.pager import Pager
from arena_async.net.session import Session
from arena_async.providers.arena import routes
from arena_async.providers.arena.asking import UNPAGED, ask, walk
from arena_async.providers.arena.criteria import Criteria
from arena_async.providers.arena.models import ArenaFile, FileAssociation, Item
from arena_async.providers.arena.stored import ItemFiles, StoredFiles
from arena_async.wire.messages import printable

__all__ = ["Files", "ItemView", "Items"]

#: How much of each item a list gives.
ItemView = Literal["minimum", "compact", "full"]
#: What names a custom attribute; no documented query looks like it.
_ATTRIBUTE: Final = re.compile(r"[0-9A-Z]{15,24}")


@attrs.frozen
class Items:
    """
    The items of the workspace.

    Args:
        session: Where to ask.
        reserve: Requests the caller wants left untouched.
    """

    session: Session = attrs.field(repr=False)
    reserve: int = 0

    def search(
        self,
        number: str | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        revision_number: str | None = None,
        category_guid: str | None = None,
        category_name: str | None = None,
        include_child_categories: bool | None = None,
        owner: str | None = None,
        creator: str | None = None,
        creator_guid: str | None = None,
        creator_email: str | None = None,
        lifecycle_phase_guid: str | None = None,
        lifecycle_phase_stage: str | None = None,
        assembly_type: str | None = None,
        in_assembly: bool | None = None,
        effective_from: datetime | None = None,
        effective_to: datetime | None = None,
        modified_bom: bool | None = None,
        modified_files: bool | None = None,
        modified_sourcing: bool | None = None,
        modified_specs: bool | None = None,
        attributes: Mapping[str, object] | None = None,
        criteria: Criteria | None = None,
        view: ItemView | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[Item]:
        """
        Give items. One request for each 400, also with ``view="full"``, which gives the custom attributes of each.

        Args:
            number: Only this number; a trailing ``*`` finds what starts with it.
            name: Only this name; a trailing ``*`` finds what starts with it.
            description: Only this description; a trailing ``*`` finds what starts with it.
            revision_number: Only this revision.
            category_guid: Only this category.
            category_name: Only the category of this name.
            include_child_categories: Whether categories below it count too.
            owner: Only those of the user with this full name.
            creator: Only those made by the user with this full name.
            creator_guid: Only those made by the user with this guid.
            creator_email: Only those made by the user with this e-mail address.
            lifecycle_phase_guid: Only this phase.
            lifecycle_phase_stage: Only phases of this stage, for instance ``PRODUCTION``.
            assembly_type: ``TOP_LEVEL_ASSEMBLY``, ``SUB_ASSEMBLY`` or ``NOT_AN_ASSEMBLY``.
            in_assembly: Whether it is used in an assembly; not together with ``assembly_type``.
            effective_from: Only those that became effective then or later (aware).
            effective_to: Only those that became effective then or earlier (aware).
            modified_bom: Whether the bill of materials of the working revision was modified.
            modified_files: Whether its files were.
            modified_sourcing: Whether its sourcing was.
            modified_specs: Whether its specs were.
            attributes: Values of custom attributes, by the guids of the attributes.
            criteria: Conditions that no argument has, as for an export: ``all_of(ITEM.number.contains("900"))``.
            view: How much of each: ``minimum``, ``compact`` or ``full``.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.

        Raises:
            ConfigurationError: ``assembly_type`` together with ``in_assembly``, another word for ``view``, a date-time
                without a zone, or an attribute that is no guid.
        """
        if assembly_type is not None and in_assembly is not None:
            raise ConfigurationError(
                "items: assembly_type and in_assembly exclude each other, the service says (3851); give one of them."
            )
        if view is not None and view not in get_args(ItemView):
            raise ConfigurationError(f"items: view is {view!r}; it takes one of {', '.join(get_args(ItemView))}.")
        params = {
            "number": number,
            "name": name,
            "description": description,
            "revisionNumber": revision_number,
            "category.guid": category_guid,
            "category.name": category_name,
            "includeChildCategories": include_child_categories,
            "owner.fullName": owner,
            "creator.fullName": creator,
            "creator.guid": creator_guid,
            "creator.email": creator_email,
            "lifecyclePhase.guid": lifecycle_phase_guid,
            "lifecyclePhase.stage": lifecycle_phase_stage,
            "assemblyType": assembly_type,
            "inAssembly": in_assembly,
            "effectiveDateTimeFrom": effective_from,
            "effectiveDateTimeTo": effective_to,
            "modifiedBom": modified_bom,
            "modifiedFiles": modified_files,
            "modifiedSourcing": modified_sourcing,
            "modifiedSpecs": modified_specs,
            "criteria": None if criteria is None else json.dumps(criteria.as_json(), separators=(",", ":")),
            "responseview": view,
        }
        route = attrs.evolve(routes.ITEMS, params=(*routes.ITEMS.params, *_checked(attributes or {})))
        return walk(self.session, route.request({**params, **(attributes or {})}), Item, offset=offset, limit=limit)

    async def get(self, guid: str) -> Item:
        """Give one item; of a listed guid, its effective revision. One request."""
        return await ask(self.session, routes.ITEM.request(item=guid), Item)

    def associations(self, guid: str) -> Pager[FileAssociation]:
        """Give the files of an item as it refers to them, with their facts. One request: this list comes whole."""
        return walk(self.session, routes.ITEM_FILES.request(item=guid), FileAssociation, shape=UNPAGED)

    async def association(self, guid: str, association: str) -> FileAssociation:
        """Give one file of an item, by the guid of its association. One request."""
        request = routes.ITEM_FILE.request(item=guid, association=association)
        return await ask(self.session, request, FileAssociation)

    def files(self, *items: str | Item, primary: bool = False) -> ItemFiles:
        """
        Give the files of items, to be brought home. Sends nothing yet; lists with one request for each item.

        Files without content in the service (links to other sites, placeholders) are skipped, with the reason.

        Args:
            items: The items, by guid or as they were listed.
            primary: Only the primary file of each.

        Raises:
            ConfigurationError: No item is given.
        """
        return ItemFiles(self.session, items, primary=primary, reserve=self.reserve)


def _checked(attributes: Mapping[str, object]) -> tuple[str, ...]:
    """Give the guids of attributes, if they are some: anything else would be another query."""
    for guid in attributes:
        if not _ATTRIBUTE.fullmatch(guid):
            raise ConfigurationError(
                f"items: {printable(guid)!r} is no guid of a custom attribute; the list /settings/items/attributes "
                "has them."
            )
    return tuple(attributes)


@attrs.frozen
class Files:
    """
    The files of the workspace.

    Args:
        session: Where to ask.
        reserve: Requests the caller wants left untouched.
    """

    session: Session = attrs.field(repr=False)
    reserve: int = 0

    def search(
        self,
        name: str | None = None,
        *,
        number: str | None = None,
        title: str | None = None,
        format: str | None = None,  # noqa: A002  the vendor's word
        category_guid: str | None = None,
        include_child_categories: bool | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[ArenaFile]:
        """
        Give the latest editions of files. One request for each 400.

        Args:
            name: Only this name; a trailing ``*`` finds what starts with it.
            number: Only this number.
            title: Only this title; a trailing ``*`` finds what starts with it.
            format: Only this format, for instance ``pdf``.
            category_guid: Only this category.
            include_child_categories: Whether categories below it count too.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        params = {
            "name": name,
            "number": number,
            "title": title,
            "format": format,
            "category.guid": category_guid,
            "includeChildCategories": include_child_categories,
        }
        return walk(self.session, routes.FILES.request(params), ArenaFile, offset=offset, limit=limit)

    async def get(self, guid: str) -> ArenaFile:
        """Give one file with all its facts. One request."""
        return await ask(self.session, routes.FILE.request(file=guid), ArenaFile)

    def editions(self, guid: str) -> Pager[ArenaFile]:
        """Give every edition of a file. One request: this list comes whole."""
        return walk(self.session, routes.FILE_EDITIONS.request(file=guid), ArenaFile, shape=UNPAGED)

    def content(self, *files: str | ArenaFile) -> StoredFiles:
        """
        Give one or many files, to be brought home. Sends nothing yet.

        Args:
            files: The files: by guid, which costs a request each to look up, or as they were listed, which costs none.

        Raises:
            ConfigurationError: No file is given.
        """
        return StoredFiles(self.session, files, reserve=self.reserve)
