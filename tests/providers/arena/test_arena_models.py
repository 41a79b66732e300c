"""
Every sample body of the vendor's pages, decoded completely.

Each key is asserted on the model or among the unknown ones. Where a sample is no valid JSON, or contradicts itself,
the test says how it was read.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from arena_async.protocol.decoding import decode, parse_json
from arena_async.protocol.pagination import PageRequest
from arena_async.providers.arena.adapter import LIST, ArenaAdapter
from arena_async.providers.arena.models import (
    ArenaFile,
    Category,
    Change,
    ExportDefinition,
    ExportFile,
    ExportFileContent,
    ExportOptions,
    ExportRun,
    Extract,
    ExtractRun,
    FileAssociation,
    ImportDefinition,
    ImportMapping,
    ImportOptions,
    ImportRun,
    ImportRunWarning,
    ImportRunWarnings,
    Item,
    LifecyclePhase,
    LifecycleStatus,
    User,
    status_word,
)

PAYLOADS = Path(__file__).parents[2] / "payloads"
HEIDI = User(email="hwalker@everyroadgps.com", full_name="Heidi Walker", guid="WEYH0DYPCFWFH0JS1PD")
NUMBER_CRITERIA = [[{"attribute": "number", "value": "900-00001", "operator": "IS_EQUAL_To"}]]


def payload(name: str) -> Any:
    """Parse a payload as an answer is parsed."""
    return parse_json((PAYLOADS / name).read_bytes())


def rows(content: Any) -> tuple[Any, ...]:
    """Take the rows out of a page as a walk does."""
    return ArenaAdapter().read_page(content, PageRequest(offset=0, limit=400), LIST).items


def utc(*parts: int) -> datetime:
    """Write a moment in UTC shortly."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def test_the_files_of_an_extract_run_are_decoded_completely() -> None:
    """Seed 000, valid as printed. The empty category is a category without any fact."""
    (row,) = rows(payload("arena_extract_run_files.json"))

    assert decode(row, FileAssociation) == FileAssociation(
        guid="3L5O2Z35GXG6P8R88MYW",
        download_date_time=None,
        file=ArenaFile(
            author=None,
            category=Category(),
            creation_date_time=utc(2015, 8, 17, 16, 48, 30),
            description=None,
            edition=None,
            format="zip",
            guid="VDXGURVX8P8O7QH2PO36",
            has_markup=False,
            last_modified_date_time=utc(2015, 8, 17, 16, 48, 30),
            latest=False,
            location=None,
            mime_type=None,
            name="Extract_20150817_164826Z_FXH0EBFHS9SK3M5O7QS1.zip",
            number=None,
            private=False,
            size=8989,
            storage_method=0,
            title=None,
        ),
    )


@pytest.mark.parametrize("as_array", [False, True])
def test_export_runs_are_decoded_completely(as_array: bool) -> None:
    """
    Seed 001 is no JSON, so it is read as it must be meant.

    ``results`` is printed as an object that holds bare objects, texts lack their first quote, and the brackets of
    ``files`` are not closed. Read: the objects are the rows, whether an object with names or an array holds them; the
    criterion's value is the text 900-00001; ``guid``, ``number`` and ``status`` belong to the run.
    """
    content = payload("arena_export_runs.json")
    if as_array:
        content["results"] = list(content["results"].values())
    first, second = (decode(row, ExportRun) for row in rows(content))

    assert first == ExportRun(
        completion_date_time=utc(2020, 3, 9, 21, 18, 46),
        creation_date_time=utc(2020, 3, 9, 21, 18, 43),
        creator=HEIDI,
        criteria=NUMBER_CRITERIA,
        criteria_results_count=1,
        files=(ExportFile(guid="VDXGZCX0BEXDWF5CV9RE", title=None),),
        guid="M407Q30F25L3M5WZUF9M",
        number=1,
        status="COMPLETE",
    )
    assert second == ExportRun(
        completion_date_time=utc(2020, 3, 9, 22, 39, 3),
        creation_date_time=utc(2020, 3, 9, 22, 39, 2),
        creator=HEIDI,
        criteria=NUMBER_CRITERIA,
        criteria_results_count=1,
        files=(ExportFile(guid="L3N6P2NE14N3M5V2LZFC", title=None),),
        guid="Q8SBU7SJ69P7Q903YJD6",
        number=2,
        status="COMPLETE",
    )


DEFINITION_OPTIONS = ExportOptions(
    bom_levels="FULL",
    export_views=(
        "SPECS",
        "BOM",
        "FILES",
        "SOURCING",
        "FILES",
        "FILES_FILE_SUMMARY",
        "SOURCING_SUPPLIERITEM_SPECS",
        "SOURCING_SUPPLIERITEM_SPECS_PROFILE",
        "SOURCING_SUPPLIERITEM_FILES",
        "SOURCING_SUPPLIERITEM_FILES_FILE_SUMMARY",
    ),
    file_content=ExportFileContent(item="PRIMARY", supplier_item="ALL"),
    header="name",
    revision_status="POTENTIAL",
    format="csv",
)


def test_an_export_definition_is_decoded_completely() -> None:
    """
    Seed 002 is no JSON, so it is read as it must be meant.

    A comma too many ends the views, and one is missing after the header. Read: ten views, FILES twice as printed, and
    the options after them.
    """
    assert decode(payload("arena_export_definition.json"), ExportDefinition) == ExportDefinition(
        creation_date_time=utc(2020, 3, 2, 12, 5, 6),
        creator=User(email="hwalker@everyroadgps.com", full_name="Heidi Walker", guid="4M6P3046HYFYH0J258QJ"),
        criteria=[[{"attribute": "number", "operator": "IS_EQUAL_TO", "value": "20-0001"}]],
        description="Sample Potential Export with single Criterion description",
        guid="HZJ2GDHJUBRATCQ5TNJX",
        name="Sample Potential Export with single Criterion",
        number=12,
        options=DEFINITION_OPTIONS,
        world="ITEMS",
    )


def test_a_definition_in_the_place_of_an_export_run_loses_nothing() -> None:
    """
    Seed 002 contradicts itself: the page is about a run and prints a definition.

    Read as the run that was asked for, it has no status, so it counts as open, and what only a definition has is among
    the unknown keys.
    """
    content = payload("arena_export_definition.json")
    run = decode(content, ExportRun)

    assert run == ExportRun(
        guid="HZJ2GDHJUBRATCQ5TNJX",
        number=12,
        status=None,
        creator=User(email="hwalker@everyroadgps.com", full_name="Heidi Walker", guid="4M6P3046HYFYH0J258QJ"),
        creation_date_time=utc(2020, 3, 2, 12, 5, 6),
        criteria=content["criteria"],
        unknown={
            "description": "Sample Potential Export with single Criterion description",
            "name": "Sample Potential Export with single Criterion",
            "options": content["options"],
            "world": "ITEMS",
        },
    )
    assert not run.over


def test_import_runs_are_decoded_completely() -> None:
    """
    Seed 003 is no JSON where dots stand for more of the same. Read: what is printed.

    Its ``count`` of 20 beside one row is the size of a page; of its 12 warnings one is shown.
    """
    (row,) = rows(payload("arena_import_runs.json"))

    run = decode(row, ImportRun)

    assert run == ImportRun(
        guid="R9TCQNRT4L47Q9VQWUF3",
        number=14,
        creation_date_time=utc(2021, 9, 15),
        creator=User(email="rjones@arenasolutions.com", full_name="Roy Arena", guid="4M6P3046HYFYH0J258QJ"),
        submit_file_type="EXCEL_WORKSHEET",
        submit_worksheet_name="Item Master",
        completion_date_time=utc(2021, 9, 16),
        status="COMPLETE",
        warnings=ImportRunWarnings(
            count=12, results=(ImportRunWarning(code=331, message="Column 'Descrptn' ignored."),)
        ),
        commit=False,
        total_count=134881,
        success_count=134862,
        error_count=19,
        options=ImportOptions(add_to_change={"number": "ECO-002114"}),
        changes=(
            Change(
                category=Category(
                    guid="L3N6KHLNYFY8RAQ8SWYT",
                    name="Engineering Change Order",
                    path="Change\\Change Order\\Engineering Change Order",
                ),
                creation_date_time=utc(2021, 9, 14, 23, 58, 41),
                creator=User(
                    email="integration@customer.com", full_name="Mr. Integration", guid="J1L4IFJLWDUDWFYHPRYT"
                ),
                effective_date_time=None,
                guid="J1L4IFJLWDWZI0GL6I34",
                lifecycle_date_time=utc(2021, 9, 14, 23, 58, 41),
                lifecycle_status=LifecycleStatus(type="OPEN_AND_UNLOCKED"),
                number="ECO-002114",
                submission_date_time=None,
                title="From an integration!",
            ),
        ),
    )
    assert run.done
    assert run.completed == utc(2021, 9, 16)


def test_extracts_are_decoded_completely() -> None:
    """The definition of a data extract."""
    (row,) = rows(payload("arena_extracts.json"))

    assert decode(row, Extract) == Extract(
        guid="N5O7Q9SYH0W5SPPV",
        name="Nightly",
        type="Full",
        enabled=True,
        creator=HEIDI,
        creation_date_time=utc(2015, 8, 17, 16, 40),
        notifications=[],
    )


def test_extract_runs_are_decoded_completely() -> None:
    """
    Of the twins of three dates the newer name counts, and the deprecated one is kept as it came.

    Where only the deprecated one is there, it counts.
    """
    first, second = (decode(row, ExtractRun) for row in rows(payload("arena_extract_runs.json")))

    assert first == ExtractRun(
        guid="FXH0EBFHS9SK3M5O7QS1",
        status="COMPLETED",
        type="Full",
        creator=User(full_name="Heidi Walker"),
        creation_date_time=None,
        run_date_time=utc(2015, 8, 17, 16, 48, 26),
        scheduled_date_time=utc(2015, 8, 17, 16, 45),
        completion_date_time=utc(2015, 8, 17, 16, 48, 30),
        views_extracted=38,
        files=None,
        unknown={
            "runDate": "2015-08-17T16:48:26Z",
            "scheduledDate": "2015-08-17T16:45:00Z",
            "completionDate": "2015-08-17T16:48:30Z",
        },
    )
    assert second == ExtractRun(
        guid="GYI1FCGIT0TL4N6P8RT2",
        status="InProcess",
        creator=User(full_name="Heidi Walker"),
        run_date_time=utc(2015, 8, 18, 16, 45, 2),
        scheduled_date_time=utc(2015, 8, 18, 16, 45),
        completion_date_time=None,
    )
    assert (first.done, first.over, second.done, second.over) == (True, True, False, False)


def test_the_latest_run_with_files_has_guids_only() -> None:
    """Reference 5: neither name nor size."""
    assert decode(payload("arena_extract_run_latest.json"), ExtractRun) == ExtractRun(
        guid="FXH0EBFHS9SK3M5O7QS1",
        status="COMPLETED",
        creator=User(full_name="Heidi Walker"),
        run_date_time=utc(2015, 8, 17, 16, 48, 26),
        scheduled_date_time=utc(2015, 8, 17, 16, 45),
        completion_date_time=utc(2015, 8, 17, 16, 48, 30),
        files=(FileAssociation(guid="3L5O2Z35GXG6P8R88MYW"),),
    )


def test_the_file_of_an_export_run_is_decoded_completely() -> None:
    """Reference 6.5: a size as text is a number, and the malformed time is kept as text beside None."""
    assert decode(payload("arena_export_file.json"), ArenaFile) == ArenaFile(
        author=User(full_name="Heidi Walker"),
        category=Category(guid="C4T3G0RY", name="Uncategorized", path="File\\Uncategorized"),
        checked_out=False,
        corrected=False,
        creation_date_time=utc(2020, 3, 9, 21, 18, 46),
        edition="1",
        format="zip",
        guid="VDXGZCX0BEXDWF5CV9RE",
        has_markup=False,
        last_modified_date_time=None,
        latest=True,
        locked=True,
        mime_type="application/zip",
        name="Weekly BOM Export Results.zip",
        number="FL-000012",
        private=False,
        size=2154,
        storage_method=0,
        storage_method_name="FILE",
        unknown={"lastModifiedDateTime": "2020-03-09T21:18.46Z"},
    )


def test_an_import_definition_is_decoded_completely() -> None:
    """Reference 7: every option by its documented name."""
    assert decode(payload("arena_import_definition.json"), ImportDefinition) == ImportDefinition(
        guid="TDFGHJKL3N6KHLNYFY8R",
        number=3,
        name="Item Master",
        description=None,
        creator=User(email="rjones@arenasolutions.com", full_name="Roy Arena", guid="4M6P3046HYFYH0J258QJ"),
        creation_date_time=utc(2021, 9, 14),
        resource="ITEM_SPECS",
        mode="CREATE",
        options=ImportOptions(
            create_duplicates="ERROR",
            match_duplicates="APPLY_TO_ALL",
            match_duplicate_parents="ERROR",
            remove_value="[Remove Value]",
            multi_select_delimiter=";",
            check_ref_des="DO_NOT_CHECK",
            time_zone="America/Los_Angeles",
            add_to_change="ECO-002114",
            strip_white_space="STRIP",
            numbering_free_text_header="Number",
            use_category_number_format=True,
            file_edition="CREATE_EDITION",
            merge_identical_bom_lines=False,
            mapping=(
                ImportMapping(
                    resource="ITEM_SPECS", api_name="number", source_name="Item Number", in_response=True, notes=None
                ),
            ),
        ),
    )


def test_an_item_keeps_what_only_the_full_view_has() -> None:
    """Reference 9: compact facts are typed, the rest survives."""
    row = {
        "guid": "I1",
        "number": "900-00001",
        "name": "Everyroad",
        "revisionNumber": "A",
        "category": {"guid": "C1"},
        "lifecyclePhase": {"guid": "P1", "name": "In Production"},
        "assemblyType": "SUB_ASSEMBLY",
        "additionalAttributes": [{"guid": "X", "value": ["a", 1]}],
        "standardCost": 12.5,
    }

    assert decode(row, Item) == Item(
        guid="I1",
        number="900-00001",
        name="Everyroad",
        revision_number="A",
        category=Category(guid="C1"),
        lifecycle_phase=LifecyclePhase(guid="P1", name="In Production"),
        assembly_type="SUB_ASSEMBLY",
        additional_attributes=({"guid": "X", "value": ["a", 1]},),
        unknown={"standardCost": 12.5},
    )


@pytest.mark.parametrize(
    ("status", "done", "failed", "purged", "over"),
    [
        ("Completed", True, False, False, True),
        ("COMPLETED", True, False, False, True),
        ("COMPLETE", True, False, False, True),
        ("complete", True, False, False, True),
        ("DOWNLOADED", True, False, False, True),
        ("InProcess", False, False, False, False),
        ("IN_PROCESS", False, False, False, False),
        ("RUNNING", False, False, False, False),
        ("CREATED", False, False, False, False),
        ("Failed", False, True, False, True),
        ("FAILED", False, True, False, True),
        ("Aborted", False, True, False, True),
        ("ERROR", False, True, False, True),
        ("PURGED", False, False, True, True),
        ("Some New Word", False, False, False, False),
        (None, False, False, False, False),
    ],
)
def test_every_spelling_of_a_status_is_understood(
    status: str | None, done: bool, failed: bool, purged: bool, over: bool
) -> None:
    """DOWNLOADED is done; a word that nobody knows is still open, and stays the text that came."""
    for model in (ExtractRun, ExportRun, ImportRun):
        run = decode({"guid": "R", "status": status}, model)

        assert (run.done, run.failed, run.purged, run.over, run.status) == (done, failed, purged, over, status)


def test_statuses_are_compared_without_case_spaces_dashes_and_underscores() -> None:
    """One spelling for all."""
    assert {status_word(text) for text in ("InProcess", "IN_PROCESS", "in process", "In-Process")} == {"inprocess"}


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ({"storageMethodName": "WEB", "location": "http://x"}, "its storage method is WEB"),
        ({"storageMethodName": "FTP"}, "its storage method is FTP"),
        ({"storageMethodName": "PLACE_HOLDER"}, "its storage method is PLACE_HOLDER"),
        ({"storageMethodName": "PlaceHolder", "storageMethod": 0}, "its storage method is PLACE_HOLDER"),
        ({"storageMethod": 1}, "its storage method is PLACE_HOLDER"),
        ({"storageMethod": -1}, "its storage method is PLACE_HOLDER"),
        ({"storageMethod": 2}, "its storage method is FTP"),
        ({"storageMethod": "3"}, "its storage method is WEB"),
        ({"haveContent": False}, "the service says that it has no content"),
        ({"storageMethodName": "FILE", "storageMethod": 3}, None),
        ({"storageMethodName": "SOME_CLOUD"}, None),
        ({"storageMethod": 0}, None),
        ({}, None),
    ],
)
def test_files_without_content_say_why(file: dict[str, Any], reason: str | None) -> None:
    """Reference 8: WEB, FTP and PLACE_HOLDER, by name or by either series of the deprecated numbers."""
    said = decode(file, ArenaFile).no_content

    assert said is None if reason is None else said is not None and said.startswith(reason)


def test_the_misspelt_keys_of_the_pages_are_read() -> None:
    """A letter is missing in one place and wrong in another."""
    file = decode({"chekedOut": True, "lastModifiedDataTime": "2020-03-09T21:18:46Z"}, ArenaFile)
    run = decode({"guid": "R", "submitWorsheetName": "Sheet 1"}, ImportRun)

    assert (file.checked_out, file.last_modified_date_time, file.unknown) == (True, utc(2020, 3, 9, 21, 18, 46), {})
    assert (run.submit_worksheet_name, run.unknown) == ("Sheet 1", {})


def test_models_can_be_put_into_sets_and_show_no_unknown_keys() -> None:
    """Values are hashable although raw JSON inside is not; what nobody has looked at is not logged."""
    run = decode({"guid": "R", "criteria": [[{"a": 1}]], "token": "planted"}, ExportRun)

    assert {run} == {run}
    assert "planted" not in repr(run)


def test_the_payloads_are_what_the_pages_print() -> None:
    """A payload that nobody reads would prove nothing: all of them are valid JSON."""
    for path in sorted(PAYLOADS.glob("arena_*.json")):
        assert json.loads(path.read_text("utf-8")) == parse_json(path.read_bytes()), path.name
