"""Items, and the files that the workspace keeps for them."""

from __future__ import annotations

import attrs

from arena_async.net.pager import Pager
from arena_async.net.session import Session
from arena_async.providers.arena import routes
from arena_async.providers.arena.asking import UNPAGED, ask, walk
from arena_async.providers.arena.models import ArenaFile, Item

__all__ = ["Files", "Items"]


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
        include_child_categories: bool | None = None,
        owner: str | None = None,
        creator: str | None = None,
        creator_guid: str | None = None,
        lifecycle_phase_guid: str | None = None,
        assembly_type: str | None = None,
        in_assembly: bool | None = None,
        view: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[Item]:
        """
        Give items. One request for each 400.

        Args:
            number: Only this number; a trailing ``*`` finds what starts with it.
            name: Only this name; a trailing ``*`` finds what starts with it.
            description: Only this description; a trailing ``*`` finds what starts with it.
            revision_number: Only this revision.
            category_guid: Only this category.
            include_child_categories: Whether categories below it count too.
            owner: Only those of the user with this full name.
            creator: Only those made by the user with this full name.
            creator_guid: Only those made by the user with this guid.
            lifecycle_phase_guid: Only this phase.
            assembly_type: ``TOP_LEVEL_ASSEMBLY``, ``SUB_ASSEMBLY`` or ``NOT_AN_ASSEMBLY``.
            in_assembly: Whether it is used in an assembly; not together with ``assembly_type``.
            view: How much of each: ``minimum``, ``compact`` or ``full``.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        params = {
            "number": number,
            "name": name,
            "description": description,
            "revisionNumber": revision_number,
            "category.guid": category_guid,
            "includeChildCategories": include_child_categories,
            "owner.fullName": owner,
            "creator.fullName": creator,
            "creator.guid": creator_guid,
            "lifecyclePhase.guid": lifecycle_phase_guid,
            "assemblyType": assembly_type,
            "inAssembly": in_assembly,
            "responseview": view,
        }
        return walk(self.session, routes.ITEMS.request(params), Item, offset=offset, limit=limit)

    async def get(self, guid: str) -> Item:
        """Give one item; of a listed guid, its effective revision. One request."""
        return await ask(self.session, routes.ITEM.request(item=guid), Item)


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
