"""Extracts, exports and imports of the simulated Arena: definitions, their runs, and the files of those."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from arena_async.testing.arena.lists import Lists
from arena_async.testing.arena.queries import (
    BY_CREATOR,
    BY_DEFINITION,
    find,
    forbidden,
    formatted_with,
    match_span,
    match_text,
    match_word,
    newest_first,
    read_object,
    refusal,
    unknown_guid,
)
from arena_async.testing.arena.records import (
    GOOD_EXPORT,
    OPEN,
    Association,
    Blob,
    Export,
    ExportRun,
    Extract,
    ExtractRun,
    Import,
    ImportRun,
    StoredFile,
    User,
    write_time,
)
from arena_async.testing.payloads import Payload
from arena_async.testing.server import Call, Reply

__all__ = ["Runs"]

_RETENTION = 60 * 86400.0
_MODES = ("CREATE", "EDIT", "OVERWRITE", "REPLACE", "DELETE")
_RESOURCES = ("ITEM_SPECS", "ITEM_BOM", "ITEM_FILES", "FILE_SUMMARY")


class Runs(Lists):
    """The end points of everything that runs."""

    # ------------------------------------------------------------------ extracts

    def _extracts(self, call: Call, _user: User) -> Reply:
        by = {
            "name": match_text(lambda one: one.name),
            "enabled": match_text(lambda one: str(one.enabled).lower()),
            "creator.fullName": match_text(lambda one: one.creator.full_name),
        }
        return self._list(call, list(self.extracts.values()), Extract.as_json, by=by)

    def _extract(self, call: Call, _user: User) -> Reply:
        return Reply.json(find(call, "extract", self.extracts).as_json())

    def _extract_owners(self, call: Call, _user: User) -> Reply:
        owners = find(call, "extract", self.extracts).owners
        return self._list(call, owners, lambda one: {"guid": one.guid, "user": one.as_json()})

    def _extract_runs(self, call: Call, _user: User) -> Reply:
        runs = newest_first(find(call, "extract", self.extracts).runs)
        for run in runs:
            self._advance(run)
        with_files = self.honours_view and call.query.get("view") == "withFiles"
        by = {
            "status": match_word(lambda one: one.status),
            **match_span("scheduledDateTime", lambda one: one.scheduled),
            **match_span("runDateTime", lambda one: one.started),
            **match_span("completionDateTime", lambda one: one.completed),
            **match_span("downloadDateTime", lambda one: next((tie.downloaded for tie in one.files), None)),
        }

        def show(run: ExtractRun) -> dict[str, Any]:
            return run.as_json(self._format_status, with_files=with_files)

        return self._list(call, runs, show, by=by, also=("view",), settled=False)

    def _start_extract(self, call: Call, user: User) -> Reply:
        extract = find(call, "extract", self.extracts)
        read_object(call)
        run = ExtractRun(guid=self._guid(), status="InProcess", creator=user, started=self._past(0), kind=extract.kind)
        self._open_run(run, "Completed")
        extract.runs.append(run)
        return Reply.json(run.as_json(self._format_status, with_files=False), status=201)

    def _latest_extract_run(self, call: Call, _user: User) -> Reply:
        runs = find(call, "extract", self.extracts).runs
        done = [run for run in runs if run.status == "Completed" and run.completed is not None]
        if not done:
            raise refusal(400, 3012, "No completed run was found.")
        latest = max(done, key=lambda run: run.completed or 0.0)
        return Reply.json(latest.as_json(self._format_status, with_files=call.query.get("view") == "withFiles"))

    def _extract_run(self, call: Call) -> ExtractRun:
        extract = find(call, "extract", self.extracts)
        return find(call, "run", {run.guid: run for run in extract.runs})

    def _one_extract_run(self, call: Call, _user: User) -> Reply:
        run = self._extract_run(call)
        self._advance(run)
        return Reply.json(run.as_json(self._format_status, with_files=call.query.get("view") == "withFiles"))

    def _show_tie(self, one: Association) -> dict[str, Any]:
        """Show what ties a file to an extract run."""
        file = one.file.as_json(size_as_text=self.sizes_as_text)
        return {"downloadDateTime": write_time(one.downloaded), "file": file, "guid": one.guid}

    def _extract_files(self, call: Call, _user: User) -> Reply:
        by = match_span("downloadDateTime", lambda one: one.downloaded)
        return self._list(call, self._extract_run(call).files, self._show_tie, by=by, settled=False)

    def _extract_tie(self, call: Call) -> Association:
        return find(call, "file", {one.guid: one for one in self._extract_run(call).files})

    def _extract_file(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._show_tie(self._extract_tie(call)))

    def _extract_content(self, call: Call, user: User) -> Reply:
        tie = self._extract_tie(call)
        # Only an owner of the extract gets its zip, even where somebody else started the run.
        if user not in find(call, "extract", self.extracts).owners:
            raise forbidden()
        reply = self._content(call, tie.file)
        # The stamp is set by the first request for content, whether or not its body arrives.
        tie.downloaded = tie.downloaded or self._past(0)
        return reply

    # ------------------------------------------------------------------ exports

    def _exports(self, call: Call, _user: User) -> Reply:
        return self._list(call, list(self.exports.values()), Export.as_json, by=BY_DEFINITION)

    def _define_export(self, call: Call, user: User) -> Reply:
        requested = read_object(call)
        name = requested.get("name")
        if not isinstance(name, str) or not name:
            raise refusal(400, 3001, 'The attribute "name" is required.')
        if len(name) > 100:
            raise refusal(400, 3003, 'The value of the attribute "name" is not valid.')
        options = requested.get("options") or {}
        if options.get("fileContent", {}).get("supplierItem") == "PRIMARY":
            raise refusal(400, 4073, 'The value of the attribute "supplierItem" is not valid.')
        made = Export(
            guid=self._guid(),
            number=len(self.exports) + 1,
            name=name,
            description=requested.get("description"),
            creator=user,
            created=self._past(0),
            criteria=requested.get("criteria"),
            options=options,
        )
        self.exports[made.guid] = made
        return Reply.json(made.as_json(), status=201)

    def _export(self, call: Call, _user: User) -> Reply:
        return Reply.json(find(call, "export", self.exports).as_json())

    def _export_runs(self, call: Call, _user: User) -> Reply:
        runs = newest_first(find(call, "export", self.exports).runs)
        for run in runs:
            self._advance(run)
        if call.query.get("latestCompleted", "").lower() == "true":
            done = [run for run in runs if run.status in GOOD_EXPORT]
            runs = sorted(done, key=lambda run: run.completed or 0.0)[-1:]
        by = {
            **match_span("completionDateTime", lambda one: one.completed, inclusive=True),
            "number": match_text(lambda one: str(one.number)),
            "status": match_word(lambda one: one.status),
        }
        show = formatted_with(self._format_status, ExportRun.as_json)
        return self._list(call, runs, show, by=by, also=("latestCompleted",), settled=False)

    def _start_export(self, call: Call, user: User) -> Reply:
        export = find(call, "export", self.exports)
        own = read_object(call).get("criteria")
        if not own and not export.criteria:
            raise refusal(400, 3140, "The export has no criteria: neither its definition nor the run gives any.")
        if own and export.criteria:
            raise refusal(400, 3142, "The definition of the export has criteria already.")
        # Nobody says whether one at a time is meant per user or per workspace; the workspace is the harder reading.
        others = [run for one in self.exports.values() for run in one.runs]
        for run in others if self.run_seconds is not None else ():
            self._advance(run)
        if any(run.status in OPEN for run in others):
            raise refusal(400, 3144, "Another export is in progress; only one can run at a time.")
        run = ExportRun(
            guid=self._guid(),
            number=len(export.runs) + 1,
            status="CREATED",
            creator=user,
            created=self._past(0),
            criteria=own or export.criteria,
        )
        self._open_run(run, "COMPLETE")
        export.runs.append(run)
        return Reply.json(run.as_json(self._format_status), status=201)

    def _latest_export_run(self, call: Call, user: User) -> Reply:
        runs = find(call, "export", self.exports).runs
        done = [run for run in runs if run.status in GOOD_EXPORT and run.creator is user]
        if not done:
            raise refusal(400, 3012, "No completed run was found.")
        return Reply.json(max(done, key=lambda run: run.completed or 0.0).as_json(self._format_status))

    def _export_run(self, call: Call, user: User) -> ExportRun:
        """Find a run; the list shows everybody's, but only who started it may look closer."""
        export = find(call, "export", self.exports)
        run = find(call, "run", {run.guid: run for run in export.runs})
        if run.creator is not user:
            raise forbidden()
        return run

    def _one_export_run(self, call: Call, user: User) -> Reply:
        run = self._export_run(call, user)
        self._advance(run)
        return Reply.json(run.as_json(self._format_status))

    def _export_result(self, call: Call, user: User) -> StoredFile:
        run = self._export_run(call, user)
        file = find(call, "file", {one.guid: one for one in run.files})
        # Results are removed after 60 days; the row of the run stays.
        if run.completed is not None and self.clock() - run.completed > _RETENTION:
            raise unknown_guid("file", file.guid)
        return file

    def _export_file(self, call: Call, user: User) -> Reply:
        shown = self._export_result(call, user).as_json(size_as_text=self.sizes_as_text)
        # The vendor's sample has a dot in the place of the second colon.
        modified = shown["lastModifiedDateTime"]
        return Reply.json({**shown, "lastModifiedDateTime": f"{modified[:16]}.{modified[17:]}"})

    def _export_content(self, call: Call, user: User) -> Reply:
        reply = self._content(call, self._export_result(call, user))
        self._export_run(call, user).status = "DOWNLOADED"
        return reply

    def _export_attributes(self, call: Call, _user: User) -> Reply:
        """List what criteria of exports may speak about; the pages disagree about the path, this is the newer one."""
        rows = [{"apiName": name, "name": name, "fieldType": "SINGLE_LINE_TEXT"} for name in ("number", "description")]
        also = ("world", "includePossibleValues", "creatableOnly", "editableOnly", "searchableOnly")
        return self._list(call, rows, dict, also=also)

    # ------------------------------------------------------------------ the import engine

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
                raise refusal(400, 3001, f'The attribute "{attribute}" is required.')
        if mode.upper() not in _MODES or resource.upper() not in _RESOURCES:
            raise refusal(400, 3003, "The value of an attribute is not valid.")
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
                raise refusal(400, 3032, f"The attribute {json.dumps(attribute)} is not editable.")
        found.name = requested.get("name", found.name)
        found.description = requested.get("description", found.description)
        return Reply.json(found.as_json(), status=201)

    def _import_runs(self, call: Call, _user: User) -> Reply:
        runs = newest_first(find(call, "import_", self.imports).runs)
        for run in runs:
            self._refresh_import(run)
        by = {
            **BY_CREATOR,
            "number": match_text(lambda one: str(one.number)),
            "status": match_word(lambda one: one.status),
        }
        return self._list(call, runs, formatted_with(self._format_status, ImportRun.as_json), by=by, settled=False)

    def _start_import(self, call: Call, user: User) -> Reply:
        """Start a run; the small values come as parts or in the query, since the pages disagree."""
        owner = find(call, "import_", self.imports)
        parts = {part.name: part for part in call.parts()}
        given = {name: part.body.decode("utf-8", "replace") for name, part in parts.items() if part.filename is None}
        given |= dict(call.query)
        if "submitContent" not in parts:
            raise refusal(400, 3001, 'The attribute "submitContent" is required.')
        body = parts["submitContent"].body
        kind = given.get("submitFileType", "CSV").upper()
        if kind not in ("CSV", "EXCEL_WORKSHEET"):
            raise refusal(400, 3003, 'The value of the attribute "submitFileType" is not valid.')
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
            commit=given.get("commit", "false").lower() == "true",
            total=rows,
            errors=failed,
            submitted=Blob(body),
            result=Blob(b"status,code,message\r\n" + bad + b"SUCCESS,,\r\n" * (rows - failed)),
            error=Blob(b"status,code,message\r\n" + bad) if failed else None,
        )
        # A worksheet is a zip inside; what is none cannot be read.
        readable = kind == "CSV" or body.startswith(b"PK")
        self._open_run(run, "COMPLETE" if readable else "ERROR")
        owner.runs.append(run)
        return Reply.json(run.as_json(self._format_status), status=201)

    def _import_run(self, call: Call) -> ImportRun:
        owner = find(call, "import_", self.imports)
        return find(call, "run", {run.guid: run for run in owner.runs})

    def _refresh_import(self, run: ImportRun) -> None:
        """Let a run go on, and forget its results after 60 days."""
        self._advance(run)
        if run.status == "COMPLETE" and run.completed is not None and self.clock() - run.completed > _RETENTION:
            run.status = "PURGED"

    def _one_import_run(self, call: Call, _user: User) -> Reply:
        run = self._import_run(call)
        self._refresh_import(run)
        return Reply.json(run.as_json(self._format_status))

    def _commit_import(self, call: Call, _user: User) -> Reply:
        """Commit, asked for in the body or in the query; there is no way back."""
        run = self._import_run(call)
        requested = str(read_object(call).get("commit", call.query.get("commit", ""))).lower()
        if requested != "true":
            raise refusal(400, 3003, 'The value of the attribute "commit" is not valid.')
        run.commit = True
        return Reply.json(run.as_json(self._format_status), status=201)

    def _complete_import(self, call: Call, _user: User) -> Reply:
        run = self._import_run(call)
        run.status, run.completed = "COMPLETE", run.completed or self._past(0)
        return Reply.json(run.as_json(self._format_status))

    def _import_content(self, call: Call, pick: Callable[[ImportRun], Payload | Blob | None]) -> Reply:
        run = self._import_run(call)
        self._refresh_import(run)
        if run.status == "PURGED":
            raise unknown_guid("run", run.guid)
        found = pick(run)
        if found is None or run.status in OPEN:
            raise refusal(400, 3028, "The file has no content.")
        return self._content(call, StoredFile(guid=run.guid, name="content.csv", content=found, created=run.created))

    def _submit_content(self, call: Call, _user: User) -> Reply:
        return self._import_content(call, lambda run: run.submitted)

    def _result_content(self, call: Call, _user: User) -> Reply:
        return self._import_content(call, lambda run: run.result)

    def _error_content(self, call: Call, _user: User) -> Reply:
        return self._import_content(call, lambda run: run.error)
