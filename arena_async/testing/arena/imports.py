"""Imports of the simulated Arena: definitions, runs and their files."""

from __future__ import annotations

import json
from collections.abc import Callable

from arena_async.testing.arena.access import Handler
from arena_async.testing.arena.definitions import OPEN, Import, ImportRun
from arena_async.testing.arena.lists import Lists
from arena_async.testing.arena.queries import (
    BY_CREATOR,
    BY_DEFINITION,
    error_reply,
    find,
    formatted_with,
    match_text,
    match_word,
    newest_first,
    read_object,
    unknown_guid,
)
from arena_async.testing.arena.records import StoredFile, User
from arena_async.testing.content import Bytes
from arena_async.testing.payloads import Payload
from arena_async.testing.replies import Call, Reply

__all__ = ["ImportEndpoints"]

#: Seconds until the files of a run are removed.
_RETENTION = 60 * 86400.0
_MODES = ("CREATE", "EDIT", "OVERWRITE", "REPLACE", "DELETE")
_RESOURCES = ("ITEM_SPECS", "ITEM_BOM", "ITEM_FILES", "FILE_SUMMARY")


class ImportEndpoints(Lists):
    """The endpoints of imports."""

    def _import_handlers(self) -> dict[str, Handler]:
        """Return the endpoints by method and path."""
        return {
            "GET /imports": self._imports,
            "POST /imports": self._define_import,
            "GET /imports/{import_}": self._import,
            "PUT /imports/{import_}": self._rename_import,
            "GET /imports/{import_}/runs": self._import_runs,
            "POST /imports/{import_}/runs": self._start_import,
            "GET /imports/{import_}/runs/{run}": self._one_import_run,
            "PUT /imports/{import_}/runs/{run}": self._commit_import,
            "PUT /imports/{import_}/runs/{run}/complete": self._complete_import,
            "GET /imports/{import_}/runs/{run}/submitContent": self._submit_content,
            "GET /imports/{import_}/runs/{run}/resultContent": self._result_content,
            "GET /imports/{import_}/runs/{run}/errorContent": self._error_content,
        }

    def _imports(self, call: Call, _user: User) -> Reply:
        by = {
            **BY_DEFINITION,
            "mode": match_word(lambda one: one.mode),
            "resource": match_word(lambda one: one.resource),
        }
        return self._list(call, list(self.imports.values()), Import.as_json, by=by)

    def _define_import(self, call: Call, user: User) -> Reply:
        requested = read_object(call)
        name, mode, resource = requested.get("name"), str(requested.get("mode", "")), str(requested.get("resource", ""))
        for attribute in ("name", "mode", "resource"):
            if not requested.get(attribute):
                raise error_reply(400, 3001, f'The attribute "{attribute}" is required.')
        if mode.upper() not in _MODES or resource.upper() not in _RESOURCES:
            raise error_reply(400, 3003, "The value of an attribute is not valid.")
        made = Import(
            guid=self._guid(),
            number=len(self.imports) + 1,
            name=str(name),
            description=requested.get("description"),
            creator=user,
            created=self._past(0),
            mode=mode.upper(),
            resource=resource.upper(),
            options=requested.get("options") or {},
        )
        self.imports[made.guid] = made
        return Reply.json(made.as_json(), status=201)

    def _import(self, call: Call, _user: User) -> Reply:
        return Reply.json(find(call, "import_", self.imports).as_json())

    def _rename_import(self, call: Call, _user: User) -> Reply:
        found = find(call, "import_", self.imports)
        requested = read_object(call)
        for attribute in requested:
            if attribute not in ("name", "description"):
                raise error_reply(400, 3032, f"The attribute {json.dumps(attribute)} is not editable.")
        found.name = requested.get("name", found.name)
        found.description = requested.get("description", found.description)
        return Reply.json(found.as_json(), status=201)

    def _import_runs(self, call: Call, _user: User) -> Reply:
        runs = newest_first(self._shown(find(call, "import_", self.imports).runs))
        for run in runs:
            self._refresh_import(run)
        by = {
            **BY_CREATOR,
            "number": match_text(lambda one: str(one.number)),
            "status": match_word(lambda one: one.status),
        }
        return self._list(call, runs, formatted_with(self._format_status, ImportRun.as_json), by=by, settled=False)

    def _start_import(self, call: Call, user: User) -> Reply:
        """Start a run; the documents disagree about where its small values are, and about the default of one."""
        owner = find(call, "import_", self.imports)
        parts = {part.name: part for part in call.parts()}
        given: dict[str, str] = {}
        if self.import_parameters != "query":
            values = {name: part for name, part in parts.items() if part.filename is None}
            given = {name: part.body.decode("utf-8", "replace") for name, part in values.items()}
        if self.import_parameters != "parts":
            given |= dict(call.query)
        if "submitContent" not in parts:
            raise error_reply(400, 3001, 'The attribute "submitContent" is required.')
        body = parts["submitContent"].body
        kind = given.get("submitFileType", "CSV").upper()
        if kind not in ("CSV", "EXCEL_WORKSHEET"):
            raise error_reply(400, 3003, 'The value of the attribute "submitFileType" is not valid.')
        rows = max(0, len(body.splitlines()) - 1) if kind == "CSV" else 1
        failed = min(self.import_errors, rows)
        bad = b"ERROR,3003,The value is not valid.\r\n" * failed
        run = ImportRun(
            guid=self._guid(),
            number=len(owner.runs) + 1,
            status="CREATED",
            creator=user,
            created=self._past(0),
            submit_type=kind,
            worksheet=given.get("submitWorksheetName", given.get("submitWorsheetName")),
            commit=given.get("commit", str(self.import_parameters == "query")).lower() == "true",
            total=rows,
            errors=failed,
            submitted=Bytes(body),
            result=Bytes(b"status,code,message\r\n" + bad + b"SUCCESS,,\r\n" * (rows - failed)),
            error=Bytes(b"status,code,message\r\n" + bad) if failed else None,
        )
        # An .xlsx file is a zip; any other content cannot be read.
        readable = kind == "CSV" or body.startswith(b"PK")
        self._open_run(run, "COMPLETE" if readable else "ERROR")
        owner.runs.append(run)
        return Reply.json(run.as_json(self._format_status), status=201)

    def _import_run(self, call: Call) -> ImportRun:
        owner = find(call, "import_", self.imports)
        return find(call, "run", {run.guid: run for run in owner.runs})

    def _refresh_import(self, run: ImportRun) -> None:
        """Update the status of a run, and purge its results after 60 days."""
        self._advance(run)
        if run.status == "COMPLETE" and run.completed is not None and self.clock() - run.completed > _RETENTION:
            run.status = "PURGED"

    def _one_import_run(self, call: Call, _user: User) -> Reply:
        run = self._import_run(call)
        self._refresh_import(run)
        return Reply.json(run.as_json(self._format_status))

    def _commit_import(self, call: Call, _user: User) -> Reply:
        """Commit a run, by body or query; this cannot be undone. Only one document has a default, which is no."""
        run = self._import_run(call)
        given = {} if self.import_parameters == "query" else read_object(call)
        given |= {} if self.import_parameters == "parts" else dict(call.query)
        requested = str(given.get("commit", "false" if self.import_parameters == "query" else "")).lower()
        if requested not in ("true", "false") or (requested == "false" and self.import_parameters != "query"):
            raise error_reply(400, 3003, 'The value of the attribute "commit" is not valid.')
        run.commit = run.commit or requested == "true"
        return Reply.json(run.as_json(self._format_status), status=201)

    def _complete_import(self, call: Call, _user: User) -> Reply:
        run = self._import_run(call)
        run.status, run.completed = "COMPLETE", run.completed or self._past(0)
        return Reply.json(run.as_json(self._format_status))

    def _import_content(self, call: Call, pick: Callable[[ImportRun], Payload | Bytes | None]) -> Reply:
        run = self._import_run(call)
        self._refresh_import(run)
        if run.status == "PURGED":
            raise unknown_guid("run", run.guid)
        found = pick(run)
        if found is None or run.status in OPEN:
            raise error_reply(400, 3028, "The file has no content.")
        return self._content(call, StoredFile(guid=run.guid, name="content.csv", content=found, created=run.created))

    def _submit_content(self, call: Call, _user: User) -> Reply:
        return self._import_content(call, lambda run: run.submitted)

    def _result_content(self, call: Call, _user: User) -> Reply:
        return self._import_content(call, lambda run: run.result)

    def _error_content(self, call: Call, _user: User) -> Reply:
        return self._import_content(call, lambda run: run.error)
