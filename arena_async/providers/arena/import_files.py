"""
The file of an import, checked before anything is sent, and the parameters that go with it.

https://github.com/ptc-arena/arena-restapi-doc documents the parameters as parts of the form, the vendor's OpenAPI
document documents them as a query. Which one is sent is a setting.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import PurePath
from typing import Any, Final, Literal, Self, get_args

import attrs

from arena_async.errors import ConfigurationError
from arena_async.protocol.messages import UploadBody, UploadedFile, printable
from arena_async.providers.arena.api import known_word, make_request, write_fields
from arena_async.providers.arena.models import ImportDefinition, ImportOptions, ImportRun, status_word
from arena_async.providers.arena.runs import OnStatus, RunService
from arena_async.providers.arena.starts import Start
from arena_async.transfer.local_files import LocalFile

__all__ = [
    "IMPORT_PARTS",
    "FileType",
    "ImportParameters",
    "ImportPart",
    "Submission",
    "same_import_options",
    "write_import_options",
]

ImportPart = Literal["result", "error", "submit"]
#: Every content of an import run.
IMPORT_PARTS: Final[tuple[ImportPart, ...]] = get_args(ImportPart)
FileType = Literal["EXCEL_WORKSHEET", "CSV"]
#: How values are sent beside a file.
ImportParameters = Literal["parts", "query"]

_BY_SUFFIX: Final[dict[str, FileType]] = {".xlsx": "EXCEL_WORKSHEET", ".csv": "CSV"}
_MEDIA: Final = {
    "EXCEL_WORKSHEET": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "CSV": "text/csv",
}
_ZIP, _OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")

_RESOURCES: Final = ("ITEM_SPECS", "ITEM_BOM", "ITEM_FILES", "FILE_SUMMARY")
_MODES: Final = ("CREATE", "EDIT", "OVERWRITE", "REPLACE", "DELETE")


@attrs.frozen
class Submission:
    """
    A file for an import run, and what the run does with it.

    Args:
        file: The path of an XLSX or CSV (UTF-8) file.
        worksheet: The name of the worksheet, for an XLSX file.
        commit: Change the workspace at once, for good; a dry run first shows what would happen.
        file_type: ``EXCEL_WORKSHEET`` or ``CSV``, where the file name does not show it.
        content: A file with the physical files that the rows name, for resources that have some.
        parts: Which contents of the run ``fetch`` downloads.
    """

    file: str | os.PathLike[str]
    worksheet: str | None = attrs.field(default=None, kw_only=True)
    commit: bool = attrs.field(default=False, kw_only=True)
    file_type: FileType | None = attrs.field(default=None, kw_only=True)
    content: str | os.PathLike[str] | None = attrs.field(default=None, kw_only=True)
    parts: tuple[ImportPart, ...] = attrs.field(default=("result", "error"), kw_only=True)

    @classmethod
    def of(cls, file: Self | str | os.PathLike[str]) -> Self:
        """Return a submission as it is, or a dry run of a file."""
        return file if isinstance(file, cls) else cls(file)  # type: ignore[arg-type]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[_Opened]:
        """
        Open and check what is sent.

        Raises:
            ConfigurationError: There is no such file, or it is not what it is called.
        """
        kind = self._kind()
        async with AsyncExitStack() as stack:
            file = await stack.enter_async_context(await LocalFile.open(self.file))
            _check(file.name, kind, await file.head(4))
            content = None
            if self.content is not None:
                content = await stack.enter_async_context(await LocalFile.open(self.content))
            yield _Opened(self, kind, file, content)

    def _kind(self) -> FileType:
        """Return the type of the file."""
        name = PurePath(self.file).name
        if self.file_type is not None and self.file_type not in _MEDIA:
            raise ConfigurationError(f"file_type is {self.file_type!r}; it takes one of {', '.join(_MEDIA)}.")
        kind = self.file_type or _BY_SUFFIX.get(PurePath(self.file).suffix.lower())
        if kind is None:
            raise ConfigurationError(
                f"{printable(name)}: an import takes .xlsx and .csv files. For another name, give file_type."
            )
        if kind == "CSV" and self.worksheet is not None:
            raise ConfigurationError(f"{printable(name)}: a CSV file has no worksheets; leave the worksheet out.")
        return kind


def _check(name: str, kind: FileType, head: bytes) -> None:
    """Raise for a file that the service cannot read, by its first bytes."""
    problem = None
    if not head:
        problem = "it is empty"
    elif head == _OLD_EXCEL:
        problem = "it is an .xls file of an old Excel; save it as .xlsx"
    elif kind == "EXCEL_WORKSHEET" and head != _ZIP:
        problem = "it is no XLSX file"
    elif kind == "CSV" and head == _ZIP:
        problem = "it is an XLSX file, or another kind of zip, and no CSV"
    elif kind == "CSV" and head.startswith(_UTF_16):
        problem = "it is written in UTF-16, and the service reads UTF-8"
    if problem is not None:
        raise ConfigurationError(f"{printable(name)}: {problem}. Nothing was sent.")


@attrs.frozen
class _Opened:
    """An open submission, ready to be sent."""

    requested: Submission
    kind: FileType
    file: LocalFile
    content: LocalFile | None

    def start(
        self,
        service: RunService[Any, ImportRun, Any],
        guid: str,
        parameters: ImportParameters,
        on_status: OnStatus[ImportRun] | None,
    ) -> Start[ImportRun]:
        """Return how a run with it is started; one that commits is not sent twice."""
        requested = self.requested
        values = {
            "submitFileType": self.kind,
            "submitWorksheetName": requested.worksheet,
            "commit": str(requested.commit).lower(),
        }
        files = [_part("submitContent", self.file, _MEDIA[self.kind])]
        files += [_part("fileContent", self.content)] if self.content is not None else []
        form = UploadBody(fields=values if parameters == "parts" else (), files=files)
        request = make_request("POST", f"{service.path(guid)}/runs", values if parameters == "query" else None)
        return Start(
            service=service,
            definition=guid,
            request=attrs.evolve(request, upload=form),
            on_status=on_status,
            like=self._like,
            alike=False,
            repeatable=not requested.commit,
        )

    async def name(self) -> str:
        """Return what distinguishes this submission from others to the same definition."""
        digests = [await file.sha256() for file in (self.file, self.content) if file is not None]
        return "-".join(
            [*digests, self.kind, "commit" if self.requested.commit else "check", self.requested.worksheet or ""]
        )

    def _like(self, run: ImportRun) -> bool:
        """Return whether a run may have been started with this."""
        return (
            run.submit_file_type in (None, self.kind)
            and run.submit_worksheet_name in (None, self.requested.worksheet)
            and run.commit in (None, self.requested.commit)
        )


def _part(name: str, file: LocalFile, media: str = "application/octet-stream") -> UploadedFile:
    """Return the part of a file; characters that are not valid in a header are replaced in its name."""
    shown = "".join(letter if letter.isprintable() else "_" for letter in file.name)
    return UploadedFile(part=name, name=shown, size=file.size, content_type=media, read=file.pieces)


# --- definitions ------------------------------------------------------------------------------------------------------


def write_import_options(resource: str, mode: str, options: ImportOptions | None) -> dict[str, Any]:
    """
    Return what a definition does in the format of the service.

    Raises:
        ConfigurationError: A word is not documented, or the two do not go together.
    """
    written: dict[str, Any] = {
        "resource": known_word("The resource", resource, _RESOURCES),
        "mode": known_word("The mode", mode, _MODES),
    }
    if written["mode"] == "REPLACE" and written["resource"] != "ITEM_BOM":
        raise ConfigurationError(
            "The mode REPLACE goes with the resource ITEM_BOM only; OVERWRITE is the one for others."
        )
    return written if options is None else {**written, "options": _write_options(options)}


def same_import_options(body: dict[str, Any], found: ImportDefinition) -> bool:
    """Return whether a definition does what is requested; what is not requested may be anything."""
    received = _write_options(found.options) if found.options is not None else {}
    words = all(status_word(getattr(found, word)) == status_word(body[word]) for word in ("resource", "mode"))
    return words and all(received.get(name) == value for name, value in body.get("options", {}).items())


def _write_options(options: ImportOptions) -> dict[str, Any]:
    """Return the options that are set, and the unknown keys of a listed definition."""
    written = write_fields(options)
    return written | ({"mapping": [write_fields(row) for row in options.mapping]} if options.mapping else {})
