"""What the decoder makes of answers, good and bad."""

from __future__ import annotations

import contextlib
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Optional

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.errors import DecodeError
from arena_async.protocol.decoding import decode, parse_json, read_datetime
from arena_async.protocol.messages import Secret

PLUS_TWO = timezone(timedelta(hours=2))


@attrs.frozen(kw_only=True)
class Part:
    guid: str
    size: int | None = None
    unknown: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Whole:
    number: int = 7
    full_name: str | None = None
    price: float | None = None
    enabled: bool = False
    when: datetime | None = None
    when_utc: datetime | None = attrs.field(default=None, metadata={"zone": UTC})
    link: Secret | None = attrs.field(default=None, metadata={"wire": ("downloadUrl", "url")})
    old_style: Optional[int] = None  # noqa: UP045  both spellings of a union are in use
    results: tuple[Part, ...] = ()
    names: list[str] = attrs.field(factory=list)
    by_name: dict[str, Part] = attrs.field(factory=dict)
    anything: Any = None
    length: int | None = attrs.field(default=None, metadata={"size": True})
    unknown: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Strict:
    when: datetime
    maybe: int | None


# --- the body ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b" \r\n[1, 2]\t", [1, 2]),
        (b'"\xc3\xa9"', "é"),
        (b"null", None),
        (b'{"a": "[[[{{{", "b": "\\"[\\\\"}', {"a": "[[[{{{", "b": '"[\\'}),
        (b"[" * 3 + b"]" * 3, [[[]]]),
        (b"9223372036854775808", 2**63),
        (b"1e3", 1000.0),
    ],
)
def test_a_body_that_is_json_is_parsed_whatever_stands_around_it(body: bytes, value: Any) -> None:
    """A byte order mark and white space do no harm, and brackets inside text are no levels."""
    parsed = parse_json(body)

    assert parsed == value


def test_sixty_four_levels_of_brackets_are_parsed() -> None:
    """The limit is far above what any documented body has."""
    value = parse_json(b"[" * 64 + b"]" * 64)

    for _ in range(63):
        (value,) = value
    assert value == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "$: the body is empty"),
        (b" \n", "$: the body is empty"),
        (b"\xef\xbb\xbf", "$: the body is empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "$: the body is an HTML or XML page"),
        (b'{"a": NaN}', "$: a number that is not finite"),
        (b"[Infinity]", "$: a number that is not finite"),
        (b"[-Infinity]", "$: a number that is not finite"),
        (b"1e999", "$: a number that is not finite"),
        (b'{"a": 1} {"b": 2}', "$: not JSON: Extra data at character 9 of 17"),
        (b'{"results": [1, 2', "$: not JSON: Expecting ',' delimiter at character 17 of 17"),
        (b"1" * 5000, "$: a number of too many digits"),
        (b"[" * 100_000, "$: too many levels of brackets"),
        (b"[" * 100_000 + b"]" * 100_000, "$: more than 64 levels of brackets"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "$: more than 64 levels of brackets"),
        (b'{"a": "caf\xe9"}', "$: not UTF-8 at byte 10"),
        ('{"a": 1}'.encode("utf-16"), "$: not UTF-8 at byte 0"),
    ],
)
def test_a_body_that_is_no_json_is_a_decode_error_with_a_reason(body: bytes, problem: str) -> None:
    """PG16: nothing but a DecodeError comes out, and no chained error carries the body along."""
    with pytest.raises(DecodeError) as caught:
        parse_json(body, request="GET /extracts")

    assert caught.value.problems == (problem,)
    assert caught.value.request == "GET /extracts"
    assert str(caught.value).startswith("GET /extracts: ")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_page_of_html_is_explained_as_an_answer_of_somebody_else() -> None:
    """The sentence sends people to the proxy and the base URL."""
    with pytest.raises(DecodeError, match="check the base URL and the proxy"):
        parse_json(b"  <html></html>")


@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_a_value_or_a_decode_error(body: bytes) -> None:
    """Whatever comes over the wire, one of the two documented things happens."""
    with contextlib.suppress(DecodeError):
        parse_json(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_every_value_that_json_writes_is_read_back(value: Any) -> None:
    """The check for levels never refuses a body that is not deep."""
    assert parse_json(json.dumps(value).encode()) == value


# --- models -----------------------------------------------------------------------------------------------------------


def test_a_whole_object_becomes_a_model_with_every_key_on_it_or_among_the_unknown() -> None:
    """camelCase, odd spellings, numbers as text, text as numbers, nested models and keys of the future."""
    payload = {
        "number": "12",
        "fullName": 815,
        "price": "1.5",
        "enabled": "true",
        "when": "2020-03-09T21:18:46.1234567+02:00",
        "whenUtc": "2020-03-09T21:18:46",
        "url": "https://files.example/a?sig=planted",
        "oldStyle": 3,
        "results": [{"guid": "A1", "size": "8989", "newKey": [1]}, {"guid": "B2"}],
        "names": ["x", 1],
        "byName": {"one": {"guid": "C3"}},
        "anything": {"deep": [None]},
        "brandNew": {"kept": True},
    }

    whole = decode(payload, Whole)

    assert whole == Whole(
        number=12,
        full_name="815",
        price=1.5,
        enabled=True,
        when=datetime(2020, 3, 9, 21, 18, 46, 123456, tzinfo=PLUS_TWO),
        when_utc=datetime(2020, 3, 9, 21, 18, 46, tzinfo=UTC),
        link=Secret("https://files.example/a?sig=planted"),
        old_style=3,
        results=(Part(guid="A1", size=8989, unknown={"newKey": [1]}), Part(guid="B2")),
        names=["x", "1"],
        by_name={"one": Part(guid="C3")},
        anything={"deep": [None]},
        unknown={"brandNew": {"kept": True}},
    )
    assert "planted" not in repr(whole)


def test_missing_keys_and_null_give_the_defaults() -> None:
    """A field without a default is None where it may be, and null never overwrites a default."""
    nulls = dict.fromkeys(["number", "fullName", "enabled", "when", "downloadUrl", "results", "names", "byName"])

    assert decode({}, Whole) == Whole()
    assert decode(nulls, Whole) == Whole()
    assert decode({"when": "2020-01-01T00:00:00Z"}, Strict) == Strict(when=datetime(2020, 1, 1, tzinfo=UTC), maybe=None)


def test_of_several_spellings_the_first_that_is_not_null_wins_and_another_value_is_kept() -> None:
    """Nothing that came is lost, and an empty twin leaves no trace."""
    both = decode({"downloadUrl": "one", "url": "two"}, Whole)
    second = decode({"downloadUrl": None, "url": "two"}, Whole)

    assert (both.link, both.unknown) == (Secret("one"), {"url": "two"})
    assert (second.link, second.unknown) == (Secret("two"), {})


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("2020-03-09T21:18.46Z", {"when": "2020-03-09T21:18.46Z"}),
        ("yesterday", {"when": "yesterday"}),
        (1583788726, {"when": 1583788726}),
        ({"$date": 1}, {"when": {"$date": 1}}),
        ("0001-01-01T00:00:00", {}),
        ("", {}),
    ],
)
def test_a_date_that_cannot_be_read_is_none_and_its_text_is_kept(text: Any, unknown: dict[str, Any]) -> None:
    """A listing does not fail for a malformed date; what means "never" is simply None."""
    whole = decode({"when": text}, Whole)

    assert whole.when is None
    assert whole.unknown == unknown


@pytest.mark.parametrize("value", [-1, "-1", 1.5, True, "1,419", 2**63, [1]])
def test_a_size_that_cannot_be_one_is_none_and_is_kept(value: Any) -> None:
    """A hint that makes no sense costs nobody a listing, and is compared with nothing."""
    whole = decode({"length": value}, Whole)

    assert whole.length is None
    assert whole.unknown == {"length": value}
    assert decode({"length": " 1419 "}, Whole) == Whole(length=1419)


@pytest.mark.parametrize(
    ("payload", "problems"),
    [
        ([], ("$: an array where an object was expected",)),
        (None, ("$: null where an object was expected",)),
        ({"number": "twelve"}, ("$.number: text where a whole number was expected",)),
        ({"number": "1e3"}, ("$.number: text where a whole number was expected",)),
        ({"number": True}, ("$.number: true or false where a whole number was expected",)),
        ({"number": 1.5}, ("$.number: a number where a whole number was expected",)),
        ({"price": "NaN"}, ("$.price: text where a number was expected",)),
        ({"price": []}, ("$.price: an array where a number was expected",)),
        ({"fullName": {"a": "hidden"}}, ("$.fullName: an object where text was expected",)),
        ({"fullName": True}, ("$.fullName: true or false where text was expected",)),
        ({"enabled": 1}, ("$.enabled: a number where true or false was expected",)),
        ({"results": {"guid": "A"}}, ("$.results: an object where an array was expected",)),
        ({"byName": [1]}, ("$.byName: an array where an object was expected",)),
        ({"byName": {"x": {}}}, ("$.byName.x.guid: missing or null, and it is required",)),
        ({"url": 7, "names": [None]}, ("$.names[0]: null where text was expected",)),
        (
            {"results": [{"guid": "A"}, {"size": 1}, {"guid": "B", "size": "big"}], "number": {}},
            (
                "$.number: an object where a whole number was expected",
                "$.results[1].guid: missing or null, and it is required",
                "$.results[2].size: text where a whole number was expected",
            ),
        ),
    ],
)
def test_every_wrong_place_is_named_by_its_path_and_never_by_its_value(payload: Any, problems: tuple[str, ...]) -> None:
    """All problems of a payload are told at once."""
    with pytest.raises(DecodeError) as caught:
        decode(payload, Whole, request="GET /things")

    assert caught.value.problems == problems
    assert "hidden" not in str(caught.value)


def test_a_required_date_that_cannot_be_read_is_a_problem() -> None:
    """Only a field that may be None becomes None."""
    with pytest.raises(DecodeError) as caught:
        decode({"when": "never"}, Strict)

    assert caught.value.problems == ("$.when: text where a date-time was expected",)


def test_a_page_of_wrong_rows_gives_twenty_lines_and_a_number() -> None:
    """An error stays readable, and survives a pickle."""
    with pytest.raises(DecodeError) as caught:
        decode([{}] * 400, list[Part], request="GET /things")

    assert len(caught.value.problems) == 21
    assert caught.value.problems[0] == "$[0].guid: missing or null, and it is required"
    assert caught.value.problems[-1] == "and 380 more of this kind"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_keys_of_the_wire_are_escaped_in_paths() -> None:
    """A key with a control character cannot rewrite somebody's terminal."""
    with pytest.raises(DecodeError) as caught:
        decode({"byName": {"a\x1b[2J": 1}}, Whole)

    assert caught.value.problems == ("$.byName.a\\x1b[2J: a number where an object was expected",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (8989, 8989),
        ("8989", 8989),
        (" 8989 ", 8989),
        ("-1", -1),
        (5.0, 5),
        ("5.0", 5),
        ("", None),
        (None, None),
        (2**63, 2**63),
    ],
)
def test_whole_numbers_are_read_in_every_form_that_services_send(value: Any, expected: int | None) -> None:
    """Text and fractions of nothing are numbers; empty text is none."""
    assert decode({"guid": "A", "size": value}, Part).size == expected


# --- date-times -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-03-09T21:18:46Z", datetime(2020, 3, 9, 21, 18, 46, tzinfo=UTC)),
        ("2020-03-09t21:18:46z", datetime(2020, 3, 9, 21, 18, 46, tzinfo=UTC)),
        ("2020-03-09 21:18:46 UTC", datetime(2020, 3, 9, 21, 18, 46, tzinfo=UTC)),
        ("2020-03-09T21:18:46.1Z", datetime(2020, 3, 9, 21, 18, 46, 100000, tzinfo=UTC)),
        ("2020-03-09T21:18:46,12Z", datetime(2020, 3, 9, 21, 18, 46, 120000, tzinfo=UTC)),
        ("2020-03-09T21:18:46.1234567Z", datetime(2020, 3, 9, 21, 18, 46, 123456, tzinfo=UTC)),
        ("2020-03-09T21:18:46.1234567", datetime(2020, 3, 9, 21, 18, 46, 123456)),  # noqa: DTZ001  naive on purpose
        ("2020-03-09T21:18:46+02:00", datetime(2020, 3, 9, 21, 18, 46, tzinfo=PLUS_TWO)),
        ("2020-03-09T21:18:46+0200", datetime(2020, 3, 9, 21, 18, 46, tzinfo=PLUS_TWO)),
        ("2020-03-09T21:18:46-07", datetime(2020, 3, 9, 21, 18, 46, tzinfo=timezone(timedelta(hours=-7)))),
        ("2020-03-09T21:18Z", datetime(2020, 3, 9, 21, 18, tzinfo=UTC)),
        ("2020-03-09", datetime(2020, 3, 9)),  # noqa: DTZ001  naive on purpose
        ("0001-01-01T00:00:00", None),
        ("0001-01-01T00:00:00Z", None),
        ("2020-03-09T21:18.46Z", None),
        ("2020-13-09T21:18:46Z", None),
        ("2020-02-30T00:00:00Z", None),
        ("2020-03-09T21:18:46+99:00", None),
        ("٢٠٢٠-03-09T21:18:46Z", None),
        ("", None),
        ("soon", None),
    ],
)
def test_date_times_are_read_leniently_and_exactly(text: str, expected: datetime | None) -> None:
    """Any number of fraction digits, every spelling of a zone; what is no date is None."""
    timestamp = read_datetime(text)

    assert timestamp == expected
    assert expected is None or timestamp is None or timestamp.utcoffset() == expected.utcoffset()


@given(st.datetimes(min_value=datetime(2, 1, 1)))  # noqa: DTZ001  the strategy wants naive bounds
def test_every_iso_text_of_a_moment_is_read_back(timestamp: datetime) -> None:
    """What Python writes, the reader reads."""
    assert read_datetime(timestamp.isoformat() + "Z") == timestamp.replace(tzinfo=UTC)


@given(st.text(max_size=40))
def test_no_text_makes_the_reader_of_dates_raise(text: str) -> None:
    """Anything is a date-time or None."""
    timestamp = read_datetime(text)

    assert timestamp is None or isinstance(timestamp, datetime)
