"""Parse JSON in steps of a few milliseconds, between which an event loop can do other work."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any, TypeAlias

from arena_async.options import MIB

__all__ = ["MAX_DEPTH", "MAX_VALUES", "TOO_LARGE", "Steps", "TooDeepError", "TooManyValuesError", "parse_steps"]

#: What the problem of a :class:`~arena_async.errors.DecodeError` begins with where requesting again is of no use.
TOO_LARGE = "too large"

#: Yields between two steps, and returns the parsed value.
Steps: TypeAlias = Generator[None, None, Any]
#: An array or object in a text: where it begins and ends, and its value if it is known already.
_Part: TypeAlias = tuple[int, int, Any]

#: Levels of brackets, at most. Documented bodies have about ten.
MAX_DEPTH = 64
#: Values and escaped characters of a text of more than one step, at most: 400 rows of 2,500.
MAX_VALUES = 1_000_000
#: How much smaller the parts of a text are that is larger than a step.
_PARTS = 8
#: Brackets that are looked at in one step.
_BRACKETS = 5_000
#: What leads to the next bracket outside of strings, and that bracket; or, where none is near, what leads to it.
_TO_BRACKET = re.compile(r"""(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+"){0,1000}+([\[\]{}])?+""", re.DOTALL)


class TooDeepError(ValueError):
    """There are more than :data:`MAX_DEPTH` levels of brackets."""


class TooManyValuesError(ValueError):
    """There are more than :data:`MAX_VALUES` values."""


_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NOTHING: Iterator[Any] = iter(())
#: The value of a part that is parsed together with the larger one around it.
_LATER = object()


def parse_steps(body: bytes, *, step: int = MIB) -> Steps:
    """
    Parse a JSON text.

    An array or object that is larger than a step is put together from its inner ones, each parsed on its own.

    Args:
        body: UTF-8 without a byte order mark and without white space around it.
        step: Bytes that are parsed at once.

    Raises:
        UnicodeDecodeError: It is not UTF-8.
        ValueError: It is not JSON, or it has a number that is not finite or of too many digits.
        TooDeepError: It has too many levels of brackets.
        TooManyValuesError: It is larger than a step and has too many values.
    """
    text = body.decode("utf-8")
    if len(body) <= step:
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _too_deep(body):
            raise TooDeepError
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    count = 0
    for character in ",[{\\":
        yield
        count += text.count(character)
        if count > MAX_VALUES:
            raise TooManyValuesError
    if text[0] not in "[{":
        return _load(text)
    return (yield from _parse_large(text, step // _PARTS))


def _parse_large(text: str, part_size: int) -> Steps:
    """Parse an array or object; one inside of it that is not larger than ``part_size`` is parsed at once."""
    opened: list[tuple[int, list[_Part]]] = []
    whole: _Part = (0, 0, _LATER)
    for number, found in enumerate(_TO_BRACKET.finditer(text)):
        if number % _BRACKETS == 0:
            yield
        bracket, end = found[1], found.end()
        if bracket in ("[", "{"):
            opened.append((end - 1, []))
            if len(opened) > MAX_DEPTH:
                raise TooDeepError
        elif bracket is not None and opened:
            start, parts = opened.pop()
            value = (yield from _assemble(text, start, end, parts)) if end - start > part_size else _LATER
            whole = (start, end, value)
            if opened:
                opened[-1][1].append(whole)
    if opened or whole[:2] != (0, len(text)):
        raise json.JSONDecodeError("Unbalanced brackets", text, len(text))
    return _load(text) if whole[2] is _LATER else whole[2]


def _assemble(text: str, at: int, end: int, parts: Sequence[_Part]) -> Steps:
    """Parse an array or object that is larger than a step: its parts first, then what is around them."""
    around, values = [], []
    for start, after, value in parts:
        around.append(text[at:start])
        at = after
        values.append(_load(text[start:after]) if value is _LATER else value)
        yield
    around.append(text[at:end])
    # The parser asks for the value of each NaN, in order; one more than there are parts is a number that is not finite.
    inner = iter(values)
    value = _load("NaN".join(around), inner)
    if next(inner, inner) is not inner:
        raise ValueError("not finite")
    return value


def _load(text: str, inner: Iterator[Any] = _NOTHING) -> Any:
    """Parse a text in one step; each NaN in it stands for the next of some values."""

    def constant(name: str) -> Any:
        value = next(inner, inner) if name == "NaN" else inner
        if value is inner:
            raise ValueError("not finite")
        return value

    return json.loads(text, parse_constant=constant, parse_float=_finite)


def _finite(text: str) -> float:
    """Read a number; ``1e999``, ``NaN`` and ``Infinity`` are not finite."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _too_deep(text: bytes) -> bool:
    """
    Return whether balanced brackets are nested too deep, in a few passes at C speed.

    Unbalanced ones are left to the parser, which rejects them.
    """
    outside_strings = b"".join(text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    brackets = outside_strings.translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        inner = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(inner) == len(brackets):
            return False
        brackets = inner
    return bool(brackets)
