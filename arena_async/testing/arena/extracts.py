"""Data extracts of the simulated Arena: definitions, runs and their files."""

from __future__ import annotations

from typing import Any

from arena_async.testing.arena.access import Handler
from arena_async.testing.arena.definitions import Extract, ExtractRun
from arena_async.testing.arena.lists import Lists
from arena_async.testing.arena.queries import (
    error_reply,
    find,
    forbidden,
    match_span,
    match_text,
    match_word,
    newest_first,
    read_object,
)
from arena_async.testing.arena.records import Association, User, write_time
from arena_async.testing.replies import Call, Reply

__all__ = ["ExtractEndpoints"]


class ExtractEndpoints(Lists):
    """The endpoints of data extracts."""

    def _extract_handlers(self) -> dict[str, Handler]:
        """Return the endpoints by method and path; specific paths are first."""
        return {
            "GET /extracts": self._extracts,
            "GET /extracts/{extract}": self._extract,
            "GET /extracts/{extract}/ownerusers": self._extract_owners,
            "GET /extracts/{extract}/runs": self._extract_runs,
            "POST /extracts/{extract}/runs": self._start_extract,
            "GET /extracts/{extract}/runs/latestCompleted": self._latest_extract_run,
            "GET /extracts/{extract}/runs/{run}": self._one_extract_run,
            "GET /extracts/{extract}/runs/{run}/files": self._extract_files,
            "GET /extracts/{extract}/runs/{run}/files/{file}": self._extract_file,
            "GET /extracts/{extract}/runs/{run}/files/{file}/content": self._extract_content,
        }

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
        runs = newest_first(self._shown(find(call, "extract", self.extracts).runs))
        for run in runs:
            self._advance(run)
        with_files = self.honours_view and call.query.get("view") == "withFiles"
        by = {
            "status": match_word(lambda one: one.status),
            **match_span("scheduledDateTime", lambda one: one.scheduled),
            **match_span("runDateTime", lambda one: one.started),
            **match_span("completionDateTime", lambda one: one.completed),
            **match_span(
                "downloadDateTime", lambda one: next((association.downloaded for association in one.files), None)
            ),
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
            raise error_reply(400, 3012, "No completed run was found.")
        latest = max(done, key=lambda run: run.completed or 0.0)
        return Reply.json(latest.as_json(self._format_status, with_files=call.query.get("view") == "withFiles"))

    def _extract_run(self, call: Call) -> ExtractRun:
        extract = find(call, "extract", self.extracts)
        return find(call, "run", {run.guid: run for run in extract.runs})

    def _one_extract_run(self, call: Call, _user: User) -> Reply:
        run = self._extract_run(call)
        self._advance(run)
        return Reply.json(run.as_json(self._format_status, with_files=call.query.get("view") == "withFiles"))

    def _show_association(self, one: Association) -> dict[str, Any]:
        """Return the association of a file with an extract run as JSON."""
        file = one.file.as_json(size_as_text=self.sizes_as_text)
        return {"downloadDateTime": write_time(one.downloaded), "file": file, "guid": one.guid}

    def _extract_files(self, call: Call, _user: User) -> Reply:
        by = match_span("downloadDateTime", lambda one: one.downloaded)
        return self._list(call, self._extract_run(call).files, self._show_association, by=by, settled=False)

    def _extract_association(self, call: Call) -> Association:
        return find(call, "file", {one.guid: one for one in self._extract_run(call).files})

    def _extract_file(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._show_association(self._extract_association(call)))

    def _extract_content(self, call: Call, user: User) -> Reply:
        association = self._extract_association(call)
        # Only an owner of the extract may download its zip, also if another user started the run.
        if user not in find(call, "extract", self.extracts).owners:
            raise forbidden()
        reply = self._content(call, association.file)
        # The time is set by the first request for content, whether or not its body is received.
        association.downloaded = association.downloaded or self._past(0)
        return reply
