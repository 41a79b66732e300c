"""JSON that is parsed in steps: the same values as at once, in parts, and within bounds."""

from __future__ import annotations

import collections
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.protocol.json_steps import MAX_VALUES, Steps, TooDeepError, TooManyValuesError, parse_steps

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    LEAVES | st.sampled_from(["NaN", '"NaN"', "[1", "}", "\\", '\\"', "a\\", "{}"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def run(steps: Steps) -> tuple[Any, int]:
    """Return what is parsed, and after how many steps."""
    number = 1
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, number
        number += 1


@given(value=VALUES, step=st.integers(1, 64), indent=st.none() | st.just(1), ascii_only=st.booleans())
def test_a_text_in_steps_is_the_same_value_as_at_once(
    value: Any, step: int, indent: int | None, ascii_only: bool
) -> None:
    """However small the steps are, and whatever its strings hold."""
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        expected = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            run(parse_steps(body, step=step))
        return

    assert run(parse_steps(body, step=step))[0] == expected


@given(value=VALUES, step=st.integers(1, 64), data=st.data())
def test_a_text_that_is_damaged_is_rejected_or_read_as_at_once(value: Any, step: int, data: st.DataObject) -> None:
    """A character that is taken out or put in never makes another value of it than the parser makes at once."""
    text = json.dumps(value)
    at = data.draw(st.integers(0, len(text) - 1))
    change = data.draw(st.sampled_from(["", *'[]{}",:\\1N', "NaN", "Infinity", "[NaN]", "[]"]))
    body = (text[:at] + change + text[at + 1 :]).strip(" \t\r\n").encode()
    if not body:
        return
    try:
        expected = json.loads(body, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        with pytest.raises(ValueError):
            run(parse_steps(body, step=step))
        return

    assert run(parse_steps(body, step=step))[0] == expected


@pytest.mark.parametrize(
    "body",
    [b"[NaN, [1, 2, 3]]", b"[[1, 2, 3], NaN]", b"[[1, NaN, 3]]", b"[-Infinity, [1, 2, 3]]", b"[[1, 2, 3], 1e999]"],
)
def test_a_number_that_is_not_finite_is_rejected_wherever_it_is(body: bytes) -> None:
    """Beside the parts and inside of them."""
    with pytest.raises(ValueError, match="not finite"):
        run(parse_steps(body, step=8))


@pytest.mark.parametrize("body", [b"[[1, 2, 3], 4", b"[1, 2, 3, 4]]", b"[1, 2, 3] [4]", b'["[1, 2, 3'])
def test_unbalanced_brackets_are_rejected(body: bytes) -> None:
    """Without parsing the whole once more."""
    with pytest.raises(json.JSONDecodeError, match="Unbalanced brackets"):
        run(parse_steps(body, step=8))


@pytest.mark.parametrize("step", [8, 1024])
def test_64_levels_are_read_and_65_are_not(step: int) -> None:
    """At once and in steps; brackets in strings are none."""
    text = '"' + "[" * 100 + '"'

    assert run(parse_steps(f"{'[' * 64}{text}{']' * 64}".encode(), step=step))[0] is not None
    with pytest.raises(TooDeepError):
        run(parse_steps(f"{'[' * 65}{text}{']' * 65}".encode(), step=step))


@pytest.mark.parametrize("value", [b"[],", b"{},", b"1,", b'"",', b'"\\n",'])
def test_a_page_of_millions_of_values_is_rejected_before_it_is_parsed(value: bytes) -> None:
    """Each would take up to fifty times as much memory as it has bytes."""
    body = b"[" + value * MAX_VALUES + b"0]"

    with pytest.raises(TooManyValuesError):
        collections.deque(itertools.islice(parse_steps(body), 10))


def test_a_page_of_7_mib_is_parsed_in_many_short_steps() -> None:
    """100 rows with 2,000 properties each: as many steps as rows at least, and each parses one row at most."""
    row = {"id": 1, "tags": [{"k": number, "v": "some text here"} for number in range(2000)]}
    page = {"items": [row] * 100, "totalCount": 100}
    value, steps = run(parse_steps(json.dumps(page).encode()))

    assert value == page
    assert steps > 100
