"""Files and items of the simulated Arena, and the usage of its quota."""

from __future__ import annotations

import re
from typing import Any

from arena_async.testing.arena.access import Handler
from arena_async.testing.arena.lists import Lists
from arena_async.testing.arena.queries import (
    check_criteria,
    error_reply,
    find,
    match_attribute,
    match_text,
    reject_query,
)
from arena_async.testing.arena.records import Association, StoredFile, User
from arena_async.testing.replies import Call, Reply

__all__ = ["VaultEndpoints"]

#: Queries of items without an effect here.
_ITEM_QUERIES = (
    *("responseview", "criteria", "description", "revisionNumber", "category.guid", "category.name"),
    *("includeChildCategories", "owner.fullName", "creator.fullName", "creator.guid", "creator.email"),
    *("lifecyclePhase.guid", "lifecyclePhase.stage", "assemblyType", "inAssembly"),
    *("effectiveDateTimeFrom", "effectiveDateTimeTo"),
    *("modifiedBom", "modifiedFiles", "modifiedSourcing", "modifiedSpecs"),
)


class VaultEndpoints(Lists):
    """The endpoints of files, items and API usage."""

    def _vault_handlers(self) -> dict[str, Handler]:
        """Return the endpoints by method and path."""
        return {
            "GET /files": self._files,
            "GET /files/{file}": self._file,
            "GET /files/{file}/editions": self._editions,
            "GET /files/{file}/content": self._file_content,
            "GET /items": self._items,
            "GET /items/{item}": self._item,
            "GET /items/{item}/files": self._item_files,
            "GET /items/{item}/files/{file}": self._item_file,
            "GET /items/{item}/files/{file}/content": self._item_file_content,
            "GET /settings/recentactivities/apiusages": self._usages,
        }

    def _show_file(self, file: StoredFile) -> dict[str, Any]:
        return file.as_json(size_as_text=self.sizes_as_text)

    def _files(self, call: Call, _user: User) -> Reply:
        by = {
            "title": match_text(lambda one: one.title or ""),
            "number": match_text(lambda one: one.number or ""),
            "name": match_text(lambda one: one.name),
            "format": match_text(lambda one: one.format),
        }
        latest = [file for file in self.vault.values() if file.latest]
        return self._list(
            call, latest, StoredFile.as_compact_json, by=by, also=("includeChildCategories", "category.guid")
        )

    def _file(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._show_file(find(call, "file", self.vault)))

    def _editions(self, call: Call, _user: User) -> Reply:
        reject_query(call)
        family = find(call, "file", self.vault).family
        rows = [self._show_file(file) for file in self.vault.values() if file.family == family]
        return self._wrap(rows, total=len(rows))

    def _file_content(self, call: Call, _user: User) -> Reply:
        return self._content(call, find(call, "file", self.vault))

    def _items(self, call: Call, _user: User) -> Reply:
        by = {
            "number": match_text(lambda one: one.number),
            "name": match_text(lambda one: one.name),
            **{guid: match_attribute(guid) for guid in call.query if re.fullmatch(r"[0-9A-Z]{15,24}", guid)},
        }
        if {"assemblyType", "inAssembly"} <= set(call.query):
            raise error_reply(400, 3851, "The attributes assemblyType and inAssembly cannot be combined.")
        if "criteria" in call.query:
            check_criteria(call.query["criteria"])
        view = call.query.get("responseview", "compact")
        rows = list(self.items.values())
        return self._list(call, rows, lambda one: one.as_json(view=view), by=by, also=_ITEM_QUERIES)

    def _item(self, call: Call, _user: User) -> Reply:
        return Reply.json(find(call, "item", self.items).as_json())

    def _show_item_file(self, one: Association) -> dict[str, Any]:
        file = self._show_file(one.file)
        return {"guid": one.guid, "primary": one.primary, "latestEditionAssociation": True, "file": file}

    def _item_files(self, call: Call, _user: User) -> Reply:
        reject_query(call)
        rows = [self._show_item_file(one) for one in find(call, "item", self.items).files]
        return self._wrap(rows, total=len(rows))

    def _item_association(self, call: Call) -> Association:
        return find(call, "file", {one.guid: one for one in find(call, "item", self.items).files})

    def _item_file(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._show_item_file(self._item_association(call)))

    def _item_file_content(self, call: Call, _user: User) -> Reply:
        return self._content(call, self._item_association(call).file)

    def _usages(self, call: Call, _user: User) -> Reply:
        """Return the users of the quota; no paging is documented here, so offset and limit are ignored."""
        since, until = (call.query.get(f"dateTime{end}") for end in ("From", "To"))
        rows = [
            {
                "date": f"{day}T00:00:00Z",
                "method": method,
                "resource": endpoint.split("/")[1],
                "endpoint": endpoint,
                "count": count,
                "user": self.users[email.lower()].as_json(),
            }
            for (day, method, endpoint, email), count in sorted(self._usage.items())
            if (since is None or day >= since[:10]) and (until is None or day <= until[:10])
        ]
        return self._wrap(rows, total=len(rows))
