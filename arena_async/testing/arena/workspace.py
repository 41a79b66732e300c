"""The workspace of the simulated Arena, and the changes that tests make to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from arena_async.testing.arena.contents import Contents
from arena_async.testing.arena.records import Session, StoredFile, pacific_midnight_after
from arena_async.testing.content import Bytes
from arena_async.testing.payloads import Payload

__all__ = ["Workspace"]


class Workspace(Contents):
    """One workspace; its settings are those of :class:`~arena_async.testing.arena.simulator.ArenaSimulator`."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        #: The status in which runs that are started from now on end, such as ``"Failed"``; None for success.
        self.run_outcome: str | None = None
        #: The number of rows that fail in imports from now on.
        self.import_errors = 0
        self._spent = 0
        self._resets_at = pacific_midnight_after(self.clock())
        self._sessions: dict[str, Session] = {}
        self._usage: Counter[tuple[str, str, str, str]] = Counter()
        self._fill()

    def _fill(self) -> None:
        """Add the runs and files that a workspace has by default."""
        files, exports, imports = self.initial_files, self.initial_exports, self.initial_imports
        if isinstance(files, Mapping):
            self.add_extract_run(files=files)
        else:
            for number in range(files):
                self.add_extract_run(age=3600.0 * (files - number))
        for number in range(exports):
            self.add_export_run(age=3600.0 * (exports - number))
        for number in range(imports):
            self.add_import_run(age=3600.0 * (imports - number))
        drawing = self.add_file("drawing.pdf", size=4000)
        self.add_file("datasheet.html", storage="WEB", location="https://example.com/datasheet.html")
        self.add_file("to come.docx", storage="PLACE_HOLDER")
        self.add_item("900-00001", files=[drawing])

    @property
    def token_url(self) -> str:
        """The address of the token endpoint."""
        return f"{self.origin()}/oauth2/token"

    @property
    def base_url(self) -> str:
        """The address of the API with its version."""
        return f"{self.origin()}/v1"

    @property
    def remaining(self) -> int:
        """Requests left today; may be set."""
        self._renew_quota()
        return max(0, self.quota - self._spent)

    @remaining.setter
    def remaining(self, value: int) -> None:
        self._spent = self.quota - value

    @property
    def resets_at(self) -> float:
        """The next reset of the quota, in seconds since 1970."""
        self._renew_quota()
        return self._resets_at

    @property
    def files(self) -> dict[str, Payload | Bytes]:
        """Every downloadable file, by its path in the documented layout."""
        found: dict[str, Payload | Bytes] = {}
        for extract in self.extracts.values():
            for extract_run in extract.runs:
                for one in extract_run.files:
                    place = f"arena/extracts/{extract.guid}/{extract_run.guid}/{one.guid}.{one.file.format}"
                    _put(found, place, one.file.content)
        for export in self.exports.values():
            for export_run in export.runs:
                for file in export_run.files if export_run.creator is self.user else ():
                    place = f"arena/exports/{export.guid}/{export_run.guid}/{file.guid}.{file.format}"
                    _put(found, place, file.content)
        for import_ in self.imports.values():
            for run in import_.runs:
                place = f"arena/imports/{import_.guid}/{run.guid}"
                for part, content in (("submit", run.submitted), ("result", run.result), ("error", run.error)):
                    _put(found, f"{place}/{part}.{'csv' if run.submit_type == 'CSV' else 'xlsx'}", content)
        return found

    @property
    def stored_files(self) -> dict[str, Payload | Bytes]:
        """Every file of an item or of the vault that has content, by its path in the documented layout."""
        found: dict[str, Payload | Bytes] = {}
        for item in self.items.values():
            for association in item.files:
                _put(
                    found,
                    f"arena/items/{item.guid}/{association.guid}.{association.file.format}",
                    association.file.content,
                )
        for file in self.vault.values():
            _put(found, f"arena/files/{file.guid}/{file.edition}.{file.format}", file.content)
        return found

    @property
    def sha256(self) -> dict[str, str]:
        """The SHA-256 of every file, by its path in the documented layout."""
        return {place: content.sha256 for place, content in self.files.items()}

    def stored(self, name: str) -> StoredFile:
        """
        Find a file by its own guid, the guid of its association or of its run, or its name.

        Raises:
            KeyError: There is none.
        """
        associations = [
            (one, (one.guid, run.guid))
            for extract in self.extracts.values()
            for run in extract.runs
            for one in run.files
        ]
        associations += [(one, (one.guid, item.guid)) for item in self.items.values() for one in item.files]
        for one, names in associations:
            if name in (*names, one.file.guid, one.file.name):
                return one.file
        for export in self.exports.values():
            for export_run in export.runs:
                for file in export_run.files:
                    if name in (export_run.guid, file.guid, file.name):
                        return file
        for file in self.vault.values():
            if name in (file.guid, file.name):
                return file
        raise KeyError(name)

    def content(self, name: str) -> bytes:
        """
        Return the complete content of a file, found as :meth:`stored` finds it.

        Raises:
            KeyError: There is none, or it has no content.
        """
        content = self.stored(name).content
        if content is None:
            raise KeyError(name)
        return b"".join(content.chunks())

    def change(self, name: str) -> None:
        """Replace the content of a file by other bytes of the same size; found as :meth:`stored` finds it."""
        self.stored(name).change(self.clock())

    def remove(self, name: str) -> None:
        """Remove the content of a file, which stays listed."""
        self.stored(name).gone = True

    def end_sessions(self) -> None:
        """End every session, as a login of the same users elsewhere would."""
        for session in self._sessions.values():
            session.alive = False

    def describe(self) -> dict[str, Any]:
        """Return addresses, credentials, guids and the environment variables of a client."""
        return {
            "service": "arena",
            "base_url": self.base_url,
            "email": self.email,
            "password": self.password,
            "workspace_id": self.workspace_id,
            "extract": self.extract,
            "export": self.export,
            "import": self.import_,
            "files": len(self.files),
            "environment": {
                "ARENA_BASE_URL": self.base_url,
                "ARENA_EMAIL": self.email,
                "ARENA_PASSWORD": self.password,
                "ARENA_WORKSPACE_ID": str(self.workspace_id),
            },
        }

    def _renew_quota(self) -> None:
        """Start a new day when midnight in California has passed."""
        if self.clock() >= self._resets_at:
            self._spent = 0
            self._resets_at = pacific_midnight_after(self.clock())


def _put(found: dict[str, Payload | Bytes], place: str, content: Payload | Bytes | None) -> None:
    """Add a file that has content."""
    if content is not None:
        found[place] = content
