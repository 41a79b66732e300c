"""
Criteria of exports: which items an export contains, checked before anything is sent.

::

    all_of(ITEM.number.starts_with("900-"), ITEM.lifecycle_phase_stage.is_equal_to("IN_PRODUCTION"))
    any_of(all_of(..., ...), all_of(..., ...))                  two levels, the maximum of the service
    items_by_guid(["N5O7Q9SYH0W5SPPV", ...])                    one export of many items

Every field has the operators that the service documents for its type and no others. Nothing here sends anything; a
wrong value raises :class:`~arena_async.errors.ConfigurationError` as soon as it is made.

https://github.com/ptc-arena/arena-restapi-doc
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal

import attrs

from arena_async.errors import ConfigurationError
from arena_async.protocol.messages import printable
from arena_async.providers.arena.api import write_datetime

__all__ = ["ITEM", "UNCATEGORIZED", "Criteria", "Criterion", "ItemFields", "all_of", "any_of", "items_by_guid"]

Conjunction = Literal["AND", "OR"]

#: The category name of items without a category; their category has no guid.
UNCATEGORIZED: Final = "-uncategorized-"

#: Items of one export at most; the service rejects more with 3148.
_MAX_ITEMS = 20_000
_GUID = re.compile(r"[0-9A-Za-z]+")


@attrs.frozen
class Criterion:
    """
    One condition on items. Fields make it: ``ITEM.number.contains("900")``.

    Args:
        attribute: The attribute, by the vendor's name.
        operator: The operator, by the vendor's name.
        value: What it is compared with.
    """

    attribute: str
    operator: str
    value: str | tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the condition in the format of the service."""
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        return {"attribute": self.attribute, "operator": self.operator, "value": value}


@attrs.frozen
class _Group:
    """Conditions that are joined by one word."""

    criteria: tuple[Criterion, ...]
    word: Conjunction

    def as_json(self) -> list[Any]:
        return _joined([criterion.as_json() for criterion in self.criteria], self.word)


@attrs.frozen
class Criteria:
    """
    Which items an export contains. Created by :func:`all_of`, :func:`any_of` and :func:`items_by_guid`.

    Raises:
        ConfigurationError: There is no condition in it, or one on the guid is not alone.
    """

    groups: tuple[_Group, ...]
    word: Conjunction = "AND"

    def __attrs_post_init__(self) -> None:
        """Raise if the service would reject it."""
        requested = [criterion.attribute for group in self.groups for criterion in group.criteria]
        if not requested:
            raise ConfigurationError(
                "The criteria have no condition; the service rejects an export without any (code 3140)."
            )
        if "guid" in requested and len(requested) > 1:
            raise ConfigurationError(
                "The criteria have a guid and another condition; a condition on the guid has to be the only one. "
                "Name all items in one items_by_guid(...), or leave the guids out."
            )

    def as_json(self) -> list[Any]:
        """Return them in the format of the service: groups of conditions, joined by the words."""
        return _joined([group.as_json() for group in self.groups], self.word)


def _joined(parts: list[Any], word: Conjunction) -> list[Any]:
    """Return the parts with the word between them."""
    return [part for one in parts for part in (word, one)][1:]


def all_of(*parts: Criterion | Criteria) -> Criteria:
    """Take the items that match all of the parts. At most two levels, as in ``any_of(all_of(...), ...)``."""
    return _combined(parts, "AND")


def any_of(*parts: Criterion | Criteria) -> Criteria:
    """Take the items that match any of the parts. At most two levels, as in ``all_of(any_of(...), ...)``."""
    return _combined(parts, "OR")


def items_by_guid(guids: Iterable[str]) -> Criteria:
    """Take these items, 1 to 20,000 of them: one export run for all."""
    return all_of(ItemFields.guid.is_in(guids))


def _combined(parts: tuple[Criterion | Criteria, ...], word: Conjunction) -> Criteria:
    """Join conditions into one group, or groups into criteria."""
    if all(isinstance(part, Criterion) for part in parts):
        return Criteria((_Group(tuple(part for part in parts if isinstance(part, Criterion)), word),) if parts else ())
    groups: list[_Group] = []
    for part in parts:
        if isinstance(part, Criterion):
            groups.append(_Group((part,), word))
        elif len(part.groups) == 1 or part.word == word:
            groups += part.groups
        else:
            raise ConfigurationError(
                "The criteria are three levels deep; the service knows groups of conditions and no groups of groups. "
                "Multiply them out, or run several exports."
            )
    return Criteria(tuple(groups), word)


# --- fields by type ---------------------------------------------------------------------------------------------------


@attrs.frozen
class _CriteriaField:
    """An attribute of items, by the vendor's name."""

    attribute: str

    def _is(self, operator: str, value: str | tuple[str, ...]) -> Criterion:
        return Criterion(self.attribute, operator, value)

    def _text(self, value: object) -> str:
        """Return text after a check."""
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ConfigurationError(f"{self.attribute} is compared with {value!r}; it takes printable text.")
        return value

    def _guid(self, value: object) -> str:
        """Return a guid after a check; the vendor prints several lengths."""
        if value == UNCATEGORIZED:
            raise ConfigurationError(
                f"{self.attribute} cannot find items without a category; use ITEM.category_name.is_equal_to"
                "(UNCATEGORIZED)."
            )
        if not isinstance(value, str) or not _GUID.fullmatch(value):
            raise ConfigurationError(f"{self.attribute} is compared with {printable(repr(value))}; it takes a guid.")
        return value


class WordField(_CriteriaField):
    """One of a few words that the workspace defines."""

    def is_equal_to(self, value: str) -> Criterion:
        """Take the items that have exactly this."""
        return self._is("IS_EQUAL_TO", self._text(value))

    def is_not_equal_to(self, value: str) -> Criterion:
        """Take the items that have anything but this."""
        return self._is("IS_NOT_EQUAL_TO", self._text(value))


class TextField(WordField):
    """Text: names, numbers, descriptions. A ``*`` is literal in equality and matches anything elsewhere."""

    def contains(self, value: str) -> Criterion:
        """Take the items that have this somewhere."""
        return self._is("CONTAINS", self._text(value))

    def does_not_contain(self, value: str) -> Criterion:
        """Take the items that have this nowhere."""
        return self._is("DOES_NOT_CONTAIN", self._text(value))

    def starts_with(self, value: str) -> Criterion:
        """Take the items that begin with this."""
        return self._is("STARTS_WITH", self._text(value))

    def does_not_start_with(self, value: str) -> Criterion:
        """Take the items that do not begin with this."""
        return self._is("DOES_NOT_START_WITH", self._text(value))


class GuidField(_CriteriaField):
    """Something that is named by a single guid."""

    def is_equal_to(self, guid: str) -> Criterion:
        """Take the items with this guid."""
        return self._is("IS_EQUAL_TO", self._guid(guid))


class GuidsField(GuidField):
    """Something that is named by one or several guids."""

    def is_in(self, guids: Iterable[str]) -> Criterion:
        """Take the items with any of these guids."""
        found = tuple(dict.fromkeys(self._guid(guid) for guid in _several(guids, self.attribute)))
        if len(found) > _MAX_ITEMS:
            raise ConfigurationError(
                f"{self.attribute} is compared with {len(found):,} guids; an export takes at most {_MAX_ITEMS:,} items "
                "(code 3148). Split them into several exports."
            )
        return self._is("IS_IN", found)


class PeriodField(_CriteriaField):
    """A date and time (aware) that is compared with others."""

    def is_before(self, timestamp: datetime) -> Criterion:
        """Take the items from before then."""
        return self._is("IS_BEFORE", write_datetime(timestamp, what=self.attribute))

    def is_after(self, timestamp: datetime) -> Criterion:
        """Take the items from after then."""
        return self._is("IS_AFTER", write_datetime(timestamp, what=self.attribute))

    def is_between(self, first: datetime, last: datetime) -> Criterion:
        """Take the items from the time between the two, the earlier one first."""
        pair = tuple(write_datetime(timestamp, what=self.attribute) for timestamp in (first, last))
        if first > last:
            raise ConfigurationError(
                f"{self.attribute} is compared with the time between {pair[0]} and {pair[1]}; swap the two."
            )
        return self._is("IS_BETWEEN", pair)


class DateField(PeriodField):
    """A date and time (aware) that can be matched exactly, too."""

    def is_equal_to(self, timestamp: datetime) -> Criterion:
        """Take the items from exactly then."""
        return self._is("IS_EQUAL_TO", write_datetime(timestamp, what=self.attribute))


class FlagField(_CriteriaField):
    """Yes or no. With the revision status ``LATEST`` the ``modified`` flags refer to the working revision."""

    def is_equal_to(self, value: bool) -> Criterion:  # noqa: FBT001 - the value that is compared with
        """Take the items for which it is true, or false."""
        if not isinstance(value, bool):
            raise ConfigurationError(f"{self.attribute} is compared with {value!r}; it takes True or False.")
        return self._is("IS_EQUAL_TO", str(value).lower())


class AnyField(_CriteriaField):
    """All attributes at once."""

    def contains(self, value: str) -> Criterion:
        """Take the items that have this anywhere."""
        return self._is("CONTAINS", self._text(value))


class DropDownField(_CriteriaField):
    """One or several of the values of a custom drop-down."""

    def is_in(self, values: Iterable[str]) -> Criterion:
        """Take the items that have any of these values."""
        return self._is("IS_IN", self._list(values))

    def is_not_in(self, values: Iterable[str]) -> Criterion:
        """Take the items that have none of these values."""
        return self._is("IS_NOT_IN", self._list(values))

    def _list(self, values: Iterable[str]) -> str:
        """Join values in the format of the service."""
        found = [self._text(value) for value in _several(values, self.attribute)]
        if wrong := [value for value in found if ";" in value]:
            raise ConfigurationError(
                f"{self.attribute} is compared with {wrong[0]!r}; a semicolon separates values and cannot be in one."
            )
        return ";".join(dict.fromkeys(found))


class NumberField(_CriteriaField):
    """A custom number."""

    def is_equal_to(self, value: float) -> Criterion:
        """Take the items with this number."""
        return self._is("IS_EQUAL_TO", self._number(value))

    def is_not_equal_to(self, value: float) -> Criterion:
        """Take the items with another number."""
        return self._is("IS_NOT_EQUAL_TO", self._number(value))

    def is_less_than(self, value: float) -> Criterion:
        """Take the items with a smaller number."""
        return self._is("IS_LESS_THAN", self._number(value))

    def is_less_than_or_equal_to(self, value: float) -> Criterion:
        """Take the items with this number or a smaller one."""
        return self._is("IS_LESS_THAN_OR_EQUAL_TO", self._number(value))

    def is_greater_than(self, value: float) -> Criterion:
        """Take the items with a larger number."""
        return self._is("IS_GREATER_THAN", self._number(value))

    def is_greater_than_or_equal_to(self, value: float) -> Criterion:
        """Take the items with this number or a larger one."""
        return self._is("IS_GREATER_THAN_OR_EQUAL_TO", self._number(value))

    def _number(self, value: object) -> str:
        """Format a number; every value is text at the service."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigurationError(f"{self.attribute} is compared with {value!r}; it takes a finite number.")
        return str(value)


def _several(values: object, attribute: str) -> Iterable[Any]:
    """Return the values as a list; a string is not a list of its characters."""
    found = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else []
    if not found:
        raise ConfigurationError(f"{attribute} is compared with {printable(repr(values))}; it takes a list of values.")
    return found


class ItemFields:
    """The attributes of items in export criteria: use :data:`ITEM`."""

    guid = GuidsField("guid")
    number = TextField("number")
    revision_number = TextField("revisionNumber")
    description = TextField("description")
    any = AnyField("any")
    category_guid = GuidsField("category.guid")
    category_name = TextField("category.name")
    creation_date_time = DateField("creationDateTime")
    creator_email = TextField("creator.email")
    creator_full_name = TextField("creator.fullName")
    creator_guid = GuidField("creator.guid")
    #: The nearest thing to "modified since": released since then.
    effective_date_time = PeriodField("effectiveDateTime")
    lifecycle_phase_guid = GuidsField("lifecyclePhase.guid")
    lifecycle_phase_name = WordField("lifecyclePhase.name")
    lifecycle_phase_stage = WordField("lifecyclePhase.stage")
    modified_bom = FlagField("modifiedBOM")
    modified_files = FlagField("modifiedFiles")
    modified_sourcing = FlagField("modifiedSourcing")
    modified_specs = FlagField("modifiedSpecs")
    owner_full_name = TextField("owner.fullName")
    supplier_guid = GuidField("supplier.guid")
    supplier_name = TextField("supplier.name")
    supplier_item_guid = GuidField("supplierItem.guid")
    supplier_item_name = TextField("supplierItem.name")

    @staticmethod
    def custom_text(guid: str) -> TextField:
        """Return a custom attribute of one or several lines of text, by its guid."""
        return TextField(_custom(guid))

    @staticmethod
    def custom_date(guid: str) -> DateField:
        """Return a custom date, by its guid."""
        return DateField(_custom(guid))

    @staticmethod
    def custom_drop_down(guid: str) -> DropDownField:
        """Return a custom drop-down, by its guid."""
        return DropDownField(_custom(guid))

    @staticmethod
    def custom_number(guid: str) -> NumberField:
        """Return a custom number, by its guid."""
        return NumberField(_custom(guid))


def _custom(guid: str) -> str:
    """Check the guid of a custom attribute, which is its name in criteria."""
    if not _GUID.fullmatch(guid):
        raise ConfigurationError(
            f"The custom attribute is {printable(repr(guid))}; it is named by its guid, which GET "
            "/settings/items/attributes lists."
        )
    return guid


#: The attributes of items.
ITEM: Final = ItemFields()
