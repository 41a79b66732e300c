"""Responses of the simulated Arena: pages of lists, the progress of runs, and content."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from arena_async.testing.arena.access import Access
from arena_async.testing.arena.definitions import GOOD_EXPORT, OPEN, ExportRun, ExtractRun, ImportRun
from arena_async.testing.arena.queries import Match, error_reply, read_whole
from arena_async.testing.arena.records import StoredFile
from arena_async.testing.content import Bytes
from arena_async.testing.payloads import Payload
from arena_async.testing.replies import Call, Reply, content_reply

__all__ = ["Lists"]

T = TypeVar("T")


def began_of(run: Any) -> float:
    """Return when a run was started."""
    return float(run.started if hasattr(run, "started") else run.created)


class Lists(Access):
    """Methods that all endpoints share."""

    def _shown(self, runs: Sequence[T]) -> list[T]:
        """Return the runs that lists show already."""
        latest = self.clock() - self.runs_shown_after
        return [run for run in runs if not self.runs_shown_after or began_of(run) <= latest]

    def _list(
        self,
        call: Call,
        rows: Sequence[T],
        show: Callable[[T], dict[str, Any]],
        *,
        by: Mapping[str, Match] | None = None,
        also: Iterable[str] = (),
        settled: bool = True,
    ) -> Reply:
        """
        Return a page of the rows that match the query.

        ``by`` are the searchable attributes, ``also`` other parameters; ``settled`` means that all documents describe
        paging.
        """
        searchable = by or {}
        if not settled and self.paging == "refused" and {"offset", "limit"} & set(call.query):
            raise error_reply(400, 3200, "The endpoint takes no such query parameters.")
        for name in call.query:
            if name not in (*searchable, *also, "offset", "limit") and name not in self.ignored_filters:
                raise error_reply(400, 3019, f"The attribute {json.dumps(name)} is not searchable.")
        wanted = [
            (fits, call.query[name])
            for name, fits in searchable.items()
            if name in call.query and name not in self.ignored_filters
        ]
        left = [row for row in rows if all(fits(row, text) for fits, text in wanted)]
        offset = read_whole(call, "offset", 0, minimum=0, maximum=None, code=3041)
        limit = read_whole(call, "limit", 20, minimum=1, maximum=400, code=3220)
        if self.paging == "ignored":
            page = left
        else:
            page = left[offset : offset + (20 if self.paging == "limit ignored" else limit)]
        return self._wrap([show(row) for row in page], total=len(left))

    def _wrap(self, rows: list[dict[str, Any]], *, total: int) -> Reply:
        """Return rows in the configured envelope."""
        if self.shape == "bare":
            return Reply.json(rows)
        count = len(rows) if self.count == "page" else total if self.count == "total" else self.count
        if not rows and self.shape == "missing":
            return Reply.json({"count": count})
        if not rows and self.shape == "null":
            return Reply.json({"count": count, "results": None})
        return Reply.json({"count": count, "Results" if self.shape == "Results" else "results": rows})

    def _format_status(self, status: str) -> str:
        """Return the configured name of a status."""
        return (self.status_names or {}).get(status, status)

    def _advance(self, run: ExtractRun | ExportRun | ImportRun) -> None:
        """Advance a run in progress: by the clock, or by the number of polls."""
        if run.status not in OPEN or run.done_at is None:
            return
        if self.run_seconds is None:
            run.polls_left -= 1
            due = run.polls_left < 0
        else:
            due = self.clock() >= run.done_at
        if not due:
            run.status = "RUNNING" if run.status == "CREATED" else run.status
            return
        run.status, run.completed = run.outcome, self._past(0)
        if isinstance(run, ExtractRun) and run.outcome == "Completed":
            run.files = self._zips(1, run.completed)
        elif isinstance(run, ExportRun) and run.outcome in GOOD_EXPORT:
            owner = next(one for one in self.exports.values() if run in one.runs)
            run.files = [self._export_zip(owner, run.completed)]

    def _open_run(self, run: ExtractRun | ExportRun | ImportRun, good: str) -> None:
        """Set when a new run completes, and with which status."""
        run.polls_left = self.run_polls
        run.done_at = self.clock() + (self.run_seconds or 0.0)
        run.outcome = self.run_outcome or good

    def _content(self, call: Call, file: StoredFile) -> Reply:
        """Return the content of a file, with the configured validators and checksums."""
        if file.storage != "FILE" or file.content is None:
            raise error_reply(400, 3028, f'The file with guid "{file.guid}" has no content.')
        if file.gone:
            raise error_reply(400, 3017, f'The file with guid "{file.guid}" cannot be downloaded at this time.')
        headers: dict[str, str] = {}
        if self.disposition:
            headers["Content-Disposition"] = f'attachment; filename="{file.name}"'
        if self.content_md5:
            headers["Content-MD5"] = _md5(file.content)
        etag = None if self.etag is None else file.etag if self.etag == "strong" else f"W/{file.etag}"
        return content_reply(call, file.content, etag=etag, ranges=self.ranges, headers=headers)


def _md5(content: Payload | Bytes) -> str:
    """Return the MD5 of content in the form of ``Content-MD5``."""
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in content.chunks():
        digest.update(chunk)
    return base64.b64encode(digest.digest()).decode()
