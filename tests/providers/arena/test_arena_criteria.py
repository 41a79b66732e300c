"""Which items an export takes and what it writes: refused here what the service would refuse or answer with nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

from arena_async.errors import ConfigurationError
from arena_async.providers.arena import (
    ITEM,
    UNCATEGORIZED,
    Criteria,
    Criterion,
    ExportFileContent,
    ExportOptions,
    all_of,
    any_of,
    items_by_guid,
)
from arena_async.providers.arena.exports import same_options, write_export_options

GUID = "N5O7Q9SYH0W5SPPV"
OTHER = "VDXGURVX8P8O7QH2PO36"
NOON = datetime(2026, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC)
LATER = datetime(2026, 3, 2, 1, 0, tzinfo=timezone(timedelta(hours=2)))


def wire(criterion: Criterion) -> tuple[str, str, Any]:
    """Return what one condition looks like on the wire."""
    shown = criterion.as_json()
    assert set(shown) == {"attribute", "operator", "value"}
    return shown["attribute"], shown["operator"], shown["value"]


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (ITEM.number.is_equal_to("900-*"), ("number", "IS_EQUAL_TO", "900-*")),
        (ITEM.number.is_not_equal_to("9"), ("number", "IS_NOT_EQUAL_TO", "9")),
        (ITEM.description.contains("bolt"), ("description", "CONTAINS", "bolt")),
        (ITEM.revision_number.does_not_contain("A"), ("revisionNumber", "DOES_NOT_CONTAIN", "A")),
        (ITEM.owner_full_name.starts_with("H"), ("owner.fullName", "STARTS_WITH", "H")),
        (ITEM.creator_email.does_not_start_with("x"), ("creator.email", "DOES_NOT_START_WITH", "x")),
        (ITEM.creator_full_name.contains("x"), ("creator.fullName", "CONTAINS", "x")),
        (ITEM.supplier_name.contains("x"), ("supplier.name", "CONTAINS", "x")),
        (ITEM.supplier_item_name.contains("x"), ("supplierItem.name", "CONTAINS", "x")),
        (ITEM.category_name.is_equal_to(UNCATEGORIZED), ("category.name", "IS_EQUAL_TO", "-uncategorized-")),
        (ITEM.guid.is_equal_to(GUID), ("guid", "IS_EQUAL_TO", GUID)),
        (ITEM.guid.is_in([GUID, OTHER, GUID]), ("guid", "IS_IN", [GUID, OTHER])),
        (ITEM.category_guid.is_in({GUID}), ("category.guid", "IS_IN", [GUID])),
        (ITEM.lifecycle_phase_guid.is_equal_to(GUID), ("lifecyclePhase.guid", "IS_EQUAL_TO", GUID)),
        (ITEM.creator_guid.is_equal_to(GUID), ("creator.guid", "IS_EQUAL_TO", GUID)),
        (ITEM.supplier_guid.is_equal_to(GUID), ("supplier.guid", "IS_EQUAL_TO", GUID)),
        (ITEM.supplier_item_guid.is_equal_to(GUID), ("supplierItem.guid", "IS_EQUAL_TO", GUID)),
        (ITEM.lifecycle_phase_name.is_equal_to("Design"), ("lifecyclePhase.name", "IS_EQUAL_TO", "Design")),
        (ITEM.lifecycle_phase_stage.is_not_equal_to("X"), ("lifecyclePhase.stage", "IS_NOT_EQUAL_TO", "X")),
        (ITEM.effective_date_time.is_after(NOON), ("effectiveDateTime", "IS_AFTER", "2026-03-01T12:00:00Z")),
        (ITEM.effective_date_time.is_before(LATER), ("effectiveDateTime", "IS_BEFORE", "2026-03-01T23:00:00Z")),
        (
            ITEM.creation_date_time.is_between(NOON, LATER),
            ("creationDateTime", "IS_BETWEEN", ["2026-03-01T12:00:00Z", "2026-03-01T23:00:00Z"]),
        ),
        (ITEM.creation_date_time.is_equal_to(NOON), ("creationDateTime", "IS_EQUAL_TO", "2026-03-01T12:00:00Z")),
        (ITEM.modified_bom.is_equal_to(True), ("modifiedBOM", "IS_EQUAL_TO", "true")),
        (ITEM.modified_specs.is_equal_to(False), ("modifiedSpecs", "IS_EQUAL_TO", "false")),
        (ITEM.modified_sourcing.is_equal_to(True), ("modifiedSourcing", "IS_EQUAL_TO", "true")),
        (ITEM.modified_files.is_equal_to(True), ("modifiedFiles", "IS_EQUAL_TO", "true")),
        (ITEM.any.contains("steel"), ("any", "CONTAINS", "steel")),
        (ITEM.custom_text(GUID).contains("x"), (GUID, "CONTAINS", "x")),
        (ITEM.custom_date(GUID).is_before(NOON), (GUID, "IS_BEFORE", "2026-03-01T12:00:00Z")),
        (ITEM.custom_drop_down(GUID).is_in(["red", "blue", "red"]), (GUID, "IS_IN", "red;blue")),
        (ITEM.custom_drop_down(GUID).is_not_in(["red"]), (GUID, "IS_NOT_IN", "red")),
        (ITEM.custom_number(GUID).is_equal_to(5), (GUID, "IS_EQUAL_TO", "5")),
        (ITEM.custom_number(GUID).is_not_equal_to(5.5), (GUID, "IS_NOT_EQUAL_TO", "5.5")),
        (ITEM.custom_number(GUID).is_less_than(-1), (GUID, "IS_LESS_THAN", "-1")),
        (ITEM.custom_number(GUID).is_less_than_or_equal_to(0), (GUID, "IS_LESS_THAN_OR_EQUAL_TO", "0")),
        (ITEM.custom_number(GUID).is_greater_than(1), (GUID, "IS_GREATER_THAN", "1")),
        (ITEM.custom_number(GUID).is_greater_than_or_equal_to(2), (GUID, "IS_GREATER_THAN_OR_EQUAL_TO", "2")),
    ],
)
def test_every_documented_operator_is_spelt_as_documented(criterion: Criterion, expected: tuple[str, str, Any]) -> None:
    """One row for each attribute and each operator of its type; scalars are text on the wire."""
    assert wire(criterion) == expected


@pytest.mark.parametrize(
    ("field", "operators"),
    [
        (ITEM.number, {"is_equal_to", "is_not_equal_to", "contains", "does_not_contain", "starts_with",
                       "does_not_start_with"}),
        (ITEM.guid, {"is_equal_to", "is_in"}),
        (ITEM.creator_guid, {"is_equal_to"}),
        (ITEM.lifecycle_phase_stage, {"is_equal_to", "is_not_equal_to"}),
        (ITEM.effective_date_time, {"is_before", "is_after", "is_between"}),
        (ITEM.creation_date_time, {"is_before", "is_after", "is_between", "is_equal_to"}),
        (ITEM.modified_bom, {"is_equal_to"}),
        (ITEM.any, {"contains"}),
        (ITEM.custom_drop_down(GUID), {"is_in", "is_not_in"}),
    ],
)  # fmt: skip
def test_a_field_has_the_operators_of_its_type_and_no_others(field: object, operators: set[str]) -> None:
    """What the service refuses cannot even be written."""
    assert {name for name in dir(field) if not name.startswith("_")} - {"attribute"} == operators


def test_one_condition_is_a_group_of_its_own() -> None:
    """Nested, as documented; one sample shows it flat."""
    assert all_of(ITEM.number.is_equal_to("20-0001")).as_json() == [
        [{"attribute": "number", "operator": "IS_EQUAL_TO", "value": "20-0001"}]
    ]


def test_groups_are_joined_by_words_as_documented() -> None:
    """``[[c1,"AND",c2],"OR",[c3]]``."""
    one, two, three = ITEM.number.contains("1"), ITEM.number.contains("2"), ITEM.number.contains("3")

    assert any_of(all_of(one, two), three).as_json() == [
        [one.as_json(), "AND", two.as_json()],
        "OR",
        [three.as_json()],
    ]
    assert all_of(one, any_of(two, three)).as_json() == [
        [one.as_json()],
        "AND",
        [two.as_json(), "OR", three.as_json()],
    ]


def test_what_is_joined_by_the_same_word_stays_on_its_level() -> None:
    """Criteria that are built in steps are as deep as the service allows."""
    one, two, three = ITEM.number.contains("1"), ITEM.number.contains("2"), ITEM.number.contains("3")
    inner = any_of(all_of(one, two), three)

    assert any_of(inner, all_of(two)).as_json() == [*inner.as_json(), "OR", [two.as_json()]]


def test_what_is_deeper_than_the_service_goes_is_refused() -> None:
    """Groups of groups of conditions cannot be said."""
    one, two, three = ITEM.number.contains("1"), ITEM.number.contains("2"), ITEM.number.contains("3")

    with pytest.raises(ConfigurationError, match="three levels deep"):
        all_of(any_of(all_of(one, two), three), one)


def test_many_items_by_their_guids_are_one_condition() -> None:
    """The export of many items."""
    assert items_by_guid(guid for guid in (GUID, OTHER)).as_json() == [
        [{"attribute": "guid", "operator": "IS_IN", "value": [GUID, OTHER]}]
    ]


def test_as_many_items_as_an_export_takes_are_accepted() -> None:
    """And not one more."""
    guids = [f"G{number:019d}" for number in range(20_000)]
    assert len(items_by_guid([*guids, guids[0]]).as_json()[0][0]["value"]) == 20_000
    with pytest.raises(ConfigurationError, match=r"20,001 guids.*20,000 items.*3148"):
        items_by_guid([*guids, GUID])


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (all_of, "no condition.*3140"),
        (any_of, "no condition.*3140"),
        (lambda: all_of(ITEM.guid.is_in([GUID]), ITEM.number.contains("1")), "has to be the only one"),
        (lambda: any_of(all_of(ITEM.guid.is_equal_to(GUID)), ITEM.guid.is_equal_to(OTHER)), "has to be the only one"),
        (lambda: ITEM.guid.is_in([]), "takes a list of values"),
        (lambda: ITEM.guid.is_in(GUID), "takes a list of values"),
        (lambda: ITEM.guid.is_in(["20-0001"]), "takes a guid"),
        (lambda: ITEM.guid.is_equal_to(""), "takes a guid"),
        (lambda: ITEM.category_guid.is_equal_to(UNCATEGORIZED), r"ITEM\.category_name\.is_equal_to"),
        (lambda: ITEM.number.contains(""), "takes printable text"),
        (lambda: ITEM.number.contains("a\nb"), "takes printable text"),
        (lambda: ITEM.number.contains(None), "takes printable text"),
        (lambda: ITEM.effective_date_time.is_after(datetime(2026, 3, 1)), "without a time zone"),  # noqa: DTZ001
        (lambda: ITEM.effective_date_time.is_between(LATER, NOON), "swap the two"),
        (lambda: ITEM.modified_bom.is_equal_to("true"), "takes True or False"),
        (lambda: ITEM.custom_drop_down(GUID).is_in(["a;b"]), "semicolon"),
        (lambda: ITEM.custom_drop_down(GUID).is_in([]), "takes a list of values"),
        (lambda: ITEM.custom_number(GUID).is_equal_to(float("nan")), "finite number"),
        (lambda: ITEM.custom_number(GUID).is_equal_to(True), "finite number"),
        (lambda: ITEM.custom_number(GUID).is_equal_to("5"), "finite number"),
        (lambda: ITEM.custom_text("Surface finish"), "named by its guid"),
    ],
)
def test_what_the_service_would_refuse_is_refused_here(make: Callable[[], object], complaint: str) -> None:
    """Nothing was sent, and the message says what to write instead."""
    with pytest.raises(ConfigurationError, match=complaint):
        make()


def test_criteria_are_values() -> None:
    """Equal when they say the same, usable as keys, not to be changed."""
    made = all_of(ITEM.number.contains("1"))

    assert made == all_of(ITEM.number.contains("1"))
    assert hash(made) == hash(all_of(ITEM.number.contains("1")))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.word = "OR"  # type: ignore[misc]
    assert isinstance(made, Criteria)


# --- options ----------------------------------------------------------------------------------------------------------


def test_options_are_written_in_the_newest_documented_spelling() -> None:
    """Whatever case they are given in, each view once."""
    options = ExportOptions(
        export_views=["specs", "BOM", "Files", "FILES", "SOURCING_SUPPLIERITEM_SPECS_PROFILE"],
        bom_levels="full",
        file_content=ExportFileContent(item="primary", supplier_item="all"),
        header="APINAME",
        revision_status="Working",
        format="CSV",
        enable_notifications=False,
    )

    assert write_export_options(options) == {
        "exportViews": ["SPECS", "BOM", "FILES", "SOURCING_SUPPLIERITEM_SUPPLIER_PROFILE"],
        "bomLevels": "FULL",
        "fileContent": {"item": "PRIMARY", "supplierItem": "ALL"},
        "header": "apiName",
        "revisionStatus": "WORKING",
        "format": "csv",
        "enableNotifications": False,
    }


def test_what_is_not_said_is_not_sent() -> None:
    """The service has its own defaults."""
    assert write_export_options(ExportOptions(export_views="SPECS")) == {"exportViews": ["SPECS"]}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (ExportOptions(), "export_views is empty"),
        (ExportOptions(export_views=["SPECS", "COSTS"]), "export_views is 'COSTS'"),
        (ExportOptions(export_views=["SPECS"], bom_levels="TWO"), "bom_levels is 'TWO'; it takes one of NONE, SINGLE"),
        (ExportOptions(export_views=["SPECS"], header="guid"), "header"),
        (ExportOptions(export_views=["SPECS"], format="xlsx"), "format"),
        (ExportOptions(export_views=["SPECS"], revision_status="OLD"), "revision_status"),
        (ExportOptions(export_views=["SPECS"], file_content=ExportFileContent(item="SOME")), "file_content.item"),
        (
            ExportOptions(export_views=["SPECS"], file_content=ExportFileContent(supplier_item="PRIMARY")),
            "supplier_item is 'PRIMARY'; it takes one of NONE, ALL",
        ),
    ],
)
def test_an_option_that_is_not_documented_is_refused(options: ExportOptions, complaint: str) -> None:
    """With the words that it takes."""
    with pytest.raises(ConfigurationError, match=complaint):
        write_export_options(options)


@pytest.mark.parametrize(
    ("views", "more", "complaint"),
    [
        (["BOM"], {}, "BOM alone"),
        (["BOM"], {"bom_levels": "NONE"}, "BOM alone"),
        (["BOM_SUBSTITUTES"], {}, "BOM_SUBSTITUTES without BOM"),
        (["SPECS", "BOM_SUBSTITUTES"], {"bom_levels": "FULL"}, "BOM_SUBSTITUTES without BOM"),
        (["FILES"], {}, "FILES alone"),
        (["FILES"], {"file_content": ExportFileContent(item="NONE", supplier_item="NONE")}, "FILES alone"),
        (["SOURCING_SUPPLIERITEM_FILES"], {}, "SOURCING_SUPPLIERITEM_FILES alone"),
    ],
)
def test_a_json_export_that_would_come_out_empty_is_refused(
    views: list[str], more: dict[str, Any], complaint: str
) -> None:
    """The service would take it without a word; as CSV it is not empty."""
    with pytest.raises(ConfigurationError, match=f"{complaint}.* would be empty"):
        write_export_options(ExportOptions(export_views=views, format="json", **more))
    assert write_export_options(ExportOptions(export_views=views, **more))["exportViews"] == views


@pytest.mark.parametrize(
    "options",
    [
        ExportOptions(export_views=["BOM"], bom_levels="SINGLE", format="json"),
        ExportOptions(export_views=["SPECS", "BOM"], format="json"),
        ExportOptions(export_views=["BOM", "BOM_SUBSTITUTES"], format="json"),
        ExportOptions(export_views=["FILES"], file_content=ExportFileContent(item="ALL"), format="json"),
        ExportOptions(export_views=["FILES", "SPECS"], format="json"),
    ],
)
def test_a_json_export_with_something_in_it_is_accepted(options: ExportOptions) -> None:
    """The neighbours of what is refused."""
    assert write_export_options(options)["format"] == "json"


def test_a_definition_does_what_is_asked_for_whatever_else_it_says() -> None:
    """Defaults count, and so do words in another case; views count in any order."""
    requested = ExportOptions(export_views=["BOM", "SPECS"], header="apiName")

    assert same_options(requested, ExportOptions(export_views=["SPECS", "BOM"], bom_levels="FULL"))
    assert same_options(requested, ExportOptions(export_views=["specs", "bom"], header="APINAME"))
    assert not same_options(requested, ExportOptions(export_views=["SPECS", "BOM"], header="name"))
    assert not same_options(requested, ExportOptions(export_views=["SPECS", "BOM"], format="json"))
    assert not same_options(requested, ExportOptions(export_views=["SPECS"]))
    assert not same_options(requested, ExportOptions(export_views=["SPECS", "BOM", "NEW_VIEW"]))
