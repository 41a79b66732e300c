"""
The responses of Arena, as frozen values.

Names are the vendor's in snake_case. Date-times are aware (UTC); a malformed one is None, and its text is in
``unknown``, together with every key that is not documented. Words such as a status stay the text of the
response, since new ones appear; the properties read every known form of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import attrs

from arena_async.protocol.decoding import wire

__all__ = [
    "ApiUsage",
    "ArenaFile",
    "ArenaModel",
    "ArenaRecord",
    "ArenaRun",
    "Category",
    "Change",
    "ExportDefinition",
    "ExportFile",
    "ExportFileContent",
    "ExportOptions",
    "ExportRun",
    "Extract",
    "ExtractRun",
    "FileAssociation",
    "ImportDefinition",
    "ImportMapping",
    "ImportOptions",
    "ImportRun",
    "ImportRunWarning",
    "ImportRunWarnings",
    "Item",
    "LifecyclePhase",
    "LifecycleStatus",
    "User",
    "status_word",
]

_DONE = frozenset({"complete", "completed", "downloaded"})
_FAILED = frozenset({"failed", "aborted", "error"})

#: Storage methods without content in the service, by name and by the two series of deprecated numbers.
_NO_CONTENT = {
    **dict.fromkeys(("web", "3"), "WEB"),
    **dict.fromkeys(("ftp", "2"), "FTP"),
    **dict.fromkeys(("placeholder", "1", "-1"), "PLACE_HOLDER"),
}


def status_word(text: str | None) -> str:
    """Return a status as it is compared: lower case, without spaces, dashes and underscores."""
    return "".join(letter for letter in (text or "").casefold() if letter not in " _-")


@attrs.frozen(kw_only=True)
class ArenaModel:
    """Base of every response, with its undocumented keys. All times of the service are UTC, also without the Z."""

    wire_zone = UTC

    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, hash=False)


@attrs.frozen(kw_only=True)
class User(ArenaModel):
    """The user who created, started or owns an object."""

    guid: str | None = None
    full_name: str | None = None
    email: str | None = None


@attrs.frozen(kw_only=True)
class ArenaRecord(ArenaModel):
    """Base of the objects that have a creator."""

    guid: str
    creator: User | None = None
    creation_date_time: datetime | None = None


@attrs.frozen(kw_only=True)
class Category(ArenaModel):
    """The category of an item, change or file."""

    guid: str | None = None
    name: str | None = None
    path: str | None = None


@attrs.frozen(kw_only=True)
class ArenaFile(ArenaModel):
    """
    A file of the workspace: its metadata, without its content.

    ``size`` is in bytes. The service has no checksums. Some samples have other keys for a date and ``checkedOut``.
    """

    guid: str | None = None
    number: str | None = None
    name: str | None = None
    title: str | None = None
    description: str | None = None
    edition: str | None = None
    format: str | None = None
    mime_type: str | None = None
    size: int | None = attrs.field(default=None, metadata={"size": True})
    storage_method_name: str | None = None
    storage_method: int | None = None
    location: str | None = attrs.field(default=None, repr=False)
    category: Category | None = None
    author: User | None = None
    creation_date_time: datetime | None = None
    last_modified_date_time: datetime | None = wire("lastModifiedDateTime", "lastModifiedDataTime")
    latest: bool | None = None
    locked: bool | None = None
    private: bool | None = None
    has_markup: bool | None = None
    checked_out: bool | None = wire("checkedOut", "chekedOut")
    checkout_date_time: datetime | None = None
    corrected: bool | None = None
    have_content: bool | None = None

    @property
    def no_content(self) -> str | None:
        """Why the service has no content for it, or None where it may have some."""
        name, number = self.storage_method_name, self.storage_method
        method = _NO_CONTENT.get(str(number) if name is None else status_word(name))
        if method is not None:
            return f"its storage method is {method}, so the service holds no content of it"
        return "the service says that it has no content" if self.have_content is False else None


@attrs.frozen(kw_only=True)
class FileAssociation(ArenaModel):
    """
    A file as an object refers to it. Content is requested by the guid of the association, not of the file.

    ``file`` is None where the service lists the guids only; ``download_date_time`` is the first download, or None.
    """

    guid: str
    download_date_time: datetime | None = None
    file: ArenaFile | None = None
    primary: bool | None = None
    latest_edition_association: bool | None = None


@attrs.frozen(kw_only=True)
class ArenaRun(ArenaRecord):
    """Base of the runs of extracts, exports and imports."""

    status: str | None = None
    completion_date_time: datetime | None = wire("completionDateTime", "completionDate")

    @property
    def began(self) -> datetime | None:
        """When it was started (aware), or None."""
        return self.creation_date_time

    @property
    def completed(self) -> datetime | None:
        """When it was completed (aware), or None."""
        return self.completion_date_time

    @property
    def took(self) -> float | None:
        """Seconds from its start to its completion, or None while one of them is not known."""
        began, completed = self.began, self.completed
        return None if began is None or completed is None else max((completed - began).total_seconds(), 0.0)

    @property
    def done(self) -> bool:
        """Whether it succeeded, so that its files are ready (or were downloaded already)."""
        return status_word(self.status) in _DONE

    @property
    def failed(self) -> bool:
        """Whether it failed, so that it has no files."""
        return status_word(self.status) in _FAILED

    @property
    def purged(self) -> bool:
        """Whether its files were removed because of their age."""
        return status_word(self.status) == "purged"

    @property
    def over(self) -> bool:
        """Whether its status will not change by waiting. An unknown status is still open."""
        return self.done or self.failed or self.purged


@attrs.frozen(kw_only=True)
class Extract(ArenaRecord):
    """A data extract that an administrator has set up."""

    name: str | None = None
    type: str | None = None
    enabled: bool | None = None
    notifications: Any = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True)
class ExtractRun(ArenaRun):
    """
    One run of a data extract.

    ``files`` is None where the service did not list them; the associations in it have guids only.
    """

    type: str | None = None
    # The names without "Time" are deprecated; one page prints scheduleDate.
    run_date_time: datetime | None = wire("runDateTime", "runDate")
    scheduled_date_time: datetime | None = wire("scheduledDateTime", "scheduledDate", "scheduleDate")
    views_extracted: int | None = None
    files: tuple[FileAssociation, ...] | None = None

    @property
    def began(self) -> datetime | None:
        """When it was started (aware), or None."""
        return self.run_date_time or self.scheduled_date_time or self.creation_date_time


def _words(words: Iterable[str]) -> tuple[str, ...]:
    """Return one word, or several, as a tuple."""
    return (words,) if isinstance(words, str) else tuple(words)


@attrs.frozen(kw_only=True)
class ExportFileContent(ArenaModel):
    """
    Which physical files an export contains.

    ``item`` is ``NONE``, ``PRIMARY`` or ``ALL``; ``supplier_item`` is ``NONE`` or ``ALL``.
    """

    item: str | None = None
    supplier_item: str | None = None


@attrs.frozen(kw_only=True)
class ExportOptions(ArenaModel):
    """
    What an export writes, and how.

    ``export_views`` are ``SPECS``, ``BOM``, ``BOM_SUBSTITUTES``, ``SOURCING``, ``FILES``, ``FILES_FILE_SUMMARY``,
    ``SOURCING_SUPPLIERITEM_SPECS``, ``SOURCING_SUPPLIERITEM_SUPPLIER_PROFILE``, ``SOURCING_SUPPLIERITEM_FILES`` and
    ``SOURCING_SUPPLIERITEM_FILES_FILE_SUMMARY``; ``bom_levels`` is ``NONE``, ``SINGLE`` or ``FULL``; ``header`` is
    ``apiName`` (the default) or ``name``; ``revision_status`` is ``LATEST``, ``WORKING`` or ``POTENTIAL``; ``format``
    is ``csv`` (the default) or ``json``. They are checked when a definition is made of them.
    """

    export_views: tuple[str, ...] = attrs.field(default=(), converter=_words)
    bom_levels: str | None = None
    file_content: ExportFileContent | None = None
    header: str | None = None
    revision_status: str | None = None
    format: str | None = None
    enable_notifications: bool | None = None


@attrs.frozen(kw_only=True)
class ExportDefinition(ArenaRecord):
    """
    What an export selects and writes. It can be neither changed nor removed.

    ``criteria`` are as they were received: groups of criterion objects joined by "AND" and "OR".
    """

    number: int | None = None
    name: str | None = None
    description: str | None = None
    world: str | None = None
    criteria: Any = attrs.field(default=None, hash=False)
    options: ExportOptions | None = None


@attrs.frozen(kw_only=True)
class ExportFile(ArenaModel):
    """A file of an export run, as the run lists it."""

    guid: str
    title: str | None = None
    name: str | None = None
    storage_method_name: str | None = None
    author: User | None = None


@attrs.frozen(kw_only=True)
class ExportRun(ArenaRun):
    """
    One run of an export definition. Only the user who started it can download its files, for 60 days.

    ``criteria_results_count`` is the number of items that the criteria matched.
    """

    number: int | None = None
    criteria: Any = attrs.field(default=None, hash=False)
    criteria_results_count: int | None = None
    files: tuple[ExportFile, ...] | None = None


@attrs.frozen(kw_only=True)
class ImportMapping(ArenaModel):
    """Which column of a submitted file feeds which attribute."""

    resource: str | None = wire("resource", "resourceName")
    api_name: str | None = None
    source_name: str | None = None
    in_response: bool | None = None
    notes: str | None = None


@attrs.frozen(kw_only=True)
class ImportOptions(ArenaModel):
    """How an import treats existing objects. ``add_to_change`` is the guid or number of a change, or an object."""

    create_duplicates: str | None = None
    match_duplicates: str | None = None
    match_duplicate_parents: str | None = None
    remove_value: str | None = None
    multi_select_delimiter: str | None = None
    check_ref_des: str | None = None
    time_zone: str | None = None
    add_to_change: Any = attrs.field(default=None, hash=False)
    strip_white_space: str | None = None
    numbering_free_text_header: Any = attrs.field(default=None, hash=False)
    use_category_number_format: Any = attrs.field(default=None, hash=False)
    file_edition: Any = attrs.field(default=None, hash=False)
    file_edition_edit: Any = attrs.field(default=None, hash=False)
    file_edition_delete: Any = attrs.field(default=None, hash=False)
    file_place_holder: Any = attrs.field(default=None, hash=False)
    merge_identical_bom_lines: Any = wire("mergeIdenticalBOMLines", "mergeIdenticalBomLines", hashed=False)
    mapping: tuple[ImportMapping, ...] = ()


@attrs.frozen(kw_only=True)
class ImportDefinition(ArenaRecord):
    """What an import reads, and what it does with it."""

    number: int | None = None
    name: str | None = None
    description: str | None = None
    resource: str | None = None
    mode: str | None = None
    options: ImportOptions | None = None


@attrs.frozen(kw_only=True)
class ImportRunWarning(ArenaModel):
    """A warning of the import engine."""

    code: int | None = None
    message: str | None = None


@attrs.frozen(kw_only=True)
class ImportRunWarnings(ArenaModel):
    """The warnings of the import engine; ``count`` may be more than the ``results`` that are shown."""

    count: int | None = None
    results: tuple[ImportRunWarning, ...] = ()


@attrs.frozen(kw_only=True)
class LifecycleStatus(ArenaModel):
    """The lifecycle status of a change."""

    type: str | None = None


@attrs.frozen(kw_only=True)
class Change(ArenaModel):
    """A change that an import has touched."""

    guid: str | None = None
    number: str | None = None
    title: str | None = None
    category: Category | None = None
    creator: User | None = None
    creation_date_time: datetime | None = None
    effective_date_time: datetime | None = None
    lifecycle_date_time: datetime | None = None
    submission_date_time: datetime | None = None
    lifecycle_status: LifecycleStatus | None = None


@attrs.frozen(kw_only=True)
class ImportRun(ArenaRun):
    """
    One run of an import definition.

    ``done`` means that the engine has finished, even where rows failed: look at ``has_errors``. ``commit`` is False
    for a dry run.
    """

    number: int | None = None
    submit_file_type: str | None = None
    # The prose once lacks a letter.
    submit_worksheet_name: str | None = wire("submitWorksheetName", "submitWorsheetName")
    commit: bool | None = None
    total_count: int | None = None
    success_count: int | None = None
    error_count: int | None = None
    warnings: ImportRunWarnings | None = None
    options: ImportOptions | None = None
    changes: tuple[Change, ...] = ()
    workspace_id: int | None = None

    @property
    def has_errors(self) -> bool:
        """Whether rows failed although the engine has finished."""
        return bool(self.error_count)


@attrs.frozen(kw_only=True)
class LifecyclePhase(ArenaModel):
    """The lifecycle phase of an item."""

    guid: str | None = None
    name: str | None = None
    stage: str | None = None


@attrs.frozen(kw_only=True)
class Item(ArenaRecord):
    """One revision of an item. What only the full view returns, for instance costs, is in ``unknown``."""

    number: str | None = None
    name: str | None = None
    description: str | None = None
    revision_number: str | None = None
    revision_status: str | None = None
    category: Category | None = None
    lifecycle_phase: LifecyclePhase | None = None
    owner: User | None = None
    effective_date_time: datetime | None = None
    superseded_date_time: datetime | None = None
    in_assembly: bool | None = None
    assembly_type: str | None = None
    additional_attributes: tuple[dict[str, Any], ...] = attrs.field(default=(), hash=False)


@attrs.frozen(kw_only=True)
class ApiUsage(ArenaModel):
    """The requests of a user to an endpoint on a day."""

    date: datetime | None = None
    method: str | None = None
    resource: str | None = None
    endpoint: str | None = None
    count: int | None = None
    user: User | None = None

    @property
    def who(self) -> str | None:
        """The name of the user, or the e-mail address where that is all that is known."""
        return None if self.user is None else self.user.full_name or self.user.email
