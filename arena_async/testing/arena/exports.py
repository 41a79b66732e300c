"""Exports of the simulated Arena: definitions, runs and their files."""

from __future__ import annotations

from arena_async.testing.arena.access import Handler
from arena_async.testing.arena.definitions import GOOD_EXPORT, OPEN, Export, ExportRun
from arena_async.testing.arena.lists import Lists
from arena_async.testing.arena.queries import (
    BY_DEFINITION,
    error_reply,
    find,
    forbidden,
    formatted_with,
    match_span,
    match_text,
    match_word,
    newest_first,
    read_object,
    unknown_guid,
)
from arena_async.testing.arena.records import StoredFile, User
from arena_async.testing.replies import Call, Reply

__all__ = ["ExportEndpoints"]

#: Seconds until the files of a run are removed.
_RETENTION = 60 * 86400.0


class ExportEndpoints(Lists):
    """The endpoints of exports."""

    def _export_handlers(self) -> dict[str, Handler]:
        """Return the endpoints by method and path; specific paths are first."""
        return {
            "GET /exports": self._exports,
            "POST /exports": self._define_export,
            "GET /exports/{export}": self._export,
            "GET /exports/{export}/runs": self._export_runs,
            "POST /exports/{export}/runs": self._start_export,
            "GET /exports/{export}/runs/latestCompleted": self._latest_export_run,
            "GET /exports/{export}/runs/{run}": self._one_export_run,
            "GET /exports/{export}/runs/{run}/files/{file}": self._export_file,
            "GET /exports/{export}/runs/{run}/files/{file}/content": self._export_content,
            "GET /settings/exports/attributes": self._export_attributes,
        }

    def _exports(self, call: Call, _user: User) -> Reply:
        return self._list(call, list(self.exports.values()), Export.as_json, by=BY_DEFINITION)

    def _define_export(self, call: Call, user: User) -> Reply:
        requested = read_object(call)
        name = requested.get("name")
        if not isinstance(name, str) or not name:
            raise error_reply(400, 3001, 'The attribute "name" is required.')
        if len(name) > 100:
            raise error_reply(400, 3003, 'The value of the attribute "name" is not valid.')
        options = requested.get("options") or {}
        if options.get("fileContent", {}).get("supplierItem") == "PRIMARY":
            raise error_reply(400, 4073, 'The value of the attribute "supplierItem" is not valid.')
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
        runs = newest_first(self._shown(find(call, "export", self.exports).runs))
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
            raise error_reply(400, 3140, "The export has no criteria: neither its definition nor the run gives any.")
        if own and export.criteria:
            raise error_reply(400, 3142, "The definition of the export has criteria already.")
        # The documents do not define whether one at a time is per user or per workspace; the workspace is stricter.
        others = [run for one in self.exports.values() for run in one.runs]
        for run in others if self.run_seconds is not None else ():
            self._advance(run)
        if any(run.status in OPEN for run in others):
            raise error_reply(400, 3144, "Another export is in progress; only one can run at a time.")
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
            raise error_reply(400, 3012, "No completed run was found.")
        return Reply.json(max(done, key=lambda run: run.completed or 0.0).as_json(self._format_status))

    def _export_run(self, call: Call, user: User) -> ExportRun:
        """Return a run; the list has the runs of all users, but only the user who started one may read it."""
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
        # The vendor's sample has a dot instead of the second colon.
        modified = shown["lastModifiedDateTime"]
        return Reply.json({**shown, "lastModifiedDateTime": f"{modified[:16]}.{modified[17:]}"})

    def _export_content(self, call: Call, user: User) -> Reply:
        reply = self._content(call, self._export_result(call, user))
        self._export_run(call, user).status = "DOWNLOADED"
        return reply

    def _export_attributes(self, call: Call, _user: User) -> Reply:
        """List the attributes for criteria of exports; the documents disagree about the path, this is the newer one."""
        rows = [{"apiName": name, "name": name, "fieldType": "SINGLE_LINE_TEXT"} for name in ("number", "description")]
        also = ("world", "includePossibleValues", "creatableOnly", "editableOnly", "searchableOnly")
        return self._list(call, rows, dict, also=also)
