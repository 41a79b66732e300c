"""
Decode the bytes of a response into models; the only module that uses cattrs.

The rules:

* Keys are camelCase on the wire and snake_case on a model. A field with other keys lists them:
  ``wire("arenaSessionId", "arena_session_id")``, or ``metadata={"wire": (...)}``; the first one that is present and
  not null is used. Such a list replaces the camelCase name.
* A key that no field uses is kept unchanged in the field ``unknown: dict[str, Any]``, if the model has one.
* For a missing key, or null, the field has its default. A field without a default and without ``| None`` is required.
* Integers may be sent as text, text as a number, true and false as text. Empty text is not a number.
* Date-times are read by :func:`read_datetime`. One that cannot be read is None, and its raw text stays in ``unknown``.
  One without a zone stays naive, unless the field declares its zone: ``metadata={"zone": datetime.UTC}``, or the model
  does for all of its fields: ``wire_zone = datetime.UTC``.
* A number of bytes (``metadata={"size": True}``) that cannot be one is None and stays in ``unknown``: it is a hint and
  no reason to lose an entry.
* Arrays become lists or tuples, objects become models, ``dict[str, ...]`` or stay unchanged (``Any``), signed URLs and
  tokens become :class:`~arena_async.protocol.messages.Secret` where the model declares it.

Types of a model are resolved when it is first decoded, so its annotations must be importable at run time.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, tzinfo
from types import UnionType
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin

import attrs
import cattrs
from cattrs.cols import list_structure_factory
from cattrs.errors import BaseValidationError, ClassValidationError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, make_mapping_structure_fn, override

from arena_async.errors import DecodeError
from arena_async.protocol.json_steps import (
    MAX_DEPTH,
    MAX_VALUES,
    TOO_LARGE,
    Steps,
    TooDeepError,
    TooManyValuesError,
    parse_steps,
)
from arena_async.protocol.messages import Secret, printable

__all__ = ["decode", "json_steps", "parse_json", "read_datetime", "wire", "wire_names"]

T = TypeVar("T")

_BOM = b"\xef\xbb\xbf"
#: Lines of an error; a page of 400 wrong rows repeats one problem 400 times.
_MAX_PROBLEMS = 20

#: Bytes of a file, at most: what file systems and databases can count.
_MAX_SIZE = 2**63 - 1

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,30}(?:\.0*)?\s*")
_INSTANT = re.compile(
    r"""(?xi) \s* (?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})
        (?: [t\ ] (?P<hour>[0-9]{2}) : (?P<minute>[0-9]{2})
            (?: : (?P<second>[0-9]{2}) (?: [.,] (?P<fraction>[0-9]*) )? )?
            \s* (?P<zone> z | utc | gmt | [+-][0-9]{2} (?: :? [0-9]{2} )? )? )? \s* """
)


def parse_json(body: bytes, *, request: str = "") -> Any:
    """
    Parse the body of a small response at once.

    Its arguments and errors are those of :func:`json_steps`.
    """
    steps = json_steps(body, request=request)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def json_steps(body: bytes, *, request: str = "") -> Steps:
    """
    Parse the body of a response in short steps, whatever its ``Content-Type``: JSON is UTF-8.

    A byte order mark is skipped. NaN and infinities, numbers of thousands of digits, more than 64 levels of brackets
    and, above 1 MiB, more than a million values are rejected.

    Args:
        body: The body, free of any content encoding.
        request: The line of the request, for the error.

    Raises:
        DecodeError: It is empty, an HTML page, not UTF-8, or not JSON.
    """
    text = body.removeprefix(_BOM).strip(b" \t\r\n")
    problem, advice = "", ""
    value: Any = None
    if not text:
        problem = "the body is empty"
    elif text.startswith(b"<"):
        problem = "the body is an HTML or XML page"
        advice = "A proxy, a login page or a gateway responded in its place; check the base URL and the proxy."
    else:
        try:
            value = yield from parse_steps(text)
        except TooDeepError:
            problem = f"more than {MAX_DEPTH} levels of brackets"
        except TooManyValuesError:
            _reject(f"{TOO_LARGE}: more than {MAX_VALUES:,} values", request=request, advice="Request less.")
        except UnicodeDecodeError as error:
            problem = f"not UTF-8 at byte {error.start}"
        except json.JSONDecodeError as error:
            problem = f"not JSON: {error.msg} at character {error.pos} of {len(text)}"
        except RecursionError:
            problem = "too many levels of brackets"
        except ValueError as error:
            problem = "a number that is not finite" if "finite" in str(error) else "a number of too many digits"
    # Raised out here: the parser's own errors hold the complete body, and a chained error would keep it.
    if problem:
        _reject(f"$: {problem}", request=request, advice=advice)
    return value


def decode(payload: Any, model: type[T], *, request: str = "") -> T:
    """
    Return a model, or a list or tuple of models, from parsed JSON, by the rules at the top of this module.

    Args:
        payload: The result of :func:`parse_json`, or a part of it.
        model: An attrs class, or ``list[...]``, ``tuple[..., ...]``, ``dict[str, ...]`` of one.
        request: The line of the request, for the error.

    Raises:
        DecodeError: ``problems`` has one line for each wrong value, with its path and never with the value.
    """
    try:
        return _converter().structure(payload, model)
    except (BaseValidationError, _UnexpectedError) as error:
        problems = list(_problems(error, payload))
    return _reject(*problems, request=request)


def wire(*names: str, default: Any = None, hashed: bool | None = None, **metadata: Any) -> Any:
    """Return a field with these keys on the wire, the documented one first, and perhaps ``zone`` or ``size``."""
    return attrs.field(default=default, hash=hashed, metadata={"wire": names, **metadata})


def wire_names(attribute: attrs.Attribute[Any]) -> tuple[str, ...]:
    """Return the keys of a field on the wire; the first one is the documented name."""
    head, *rest = attribute.name.split("_")
    names = attribute.metadata.get("wire", head + "".join(part.capitalize() for part in rest))
    return (names,) if isinstance(names, str) else tuple(names)


def read_datetime(text: str) -> datetime | None:
    """
    Read an ISO 8601 date-time leniently: any number of fraction digits, ``T`` or a space, ``Z``, ``UTC`` or an offset.

    The offset is kept. Without one the result is naive. A date alone is its midnight. None if the text is not a
    date-time, and for the year 1, which means "never" in some services.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    fraction = ((match["fraction"] or "") + "000000")[:6]
    clock = f"{match['hour'] or '00'}:{match['minute'] or '00'}:{match['second'] or '00'}.{fraction}"
    zone = match["zone"] or ""
    try:
        found = datetime.fromisoformat(f"{match['day']}T{clock}{zone if zone[:1] in '+-' else 'Z'}")
    except ValueError:
        return None
    return None if found.year == 1 else found


def _reject(*problems: str, request: str, advice: str = "") -> NoReturn:
    """Raise the error for some problems."""
    shown = problems[:_MAX_PROBLEMS]
    if len(problems) > len(shown):
        shown += (f"and {len(problems) - len(shown)} more of this kind",)
    more = f" (and {len(problems) - 1} more; see problems)" if len(problems) > 1 else ""
    advice = advice or "The service may have changed; update the library, or report the request and this line."
    raise DecodeError(
        f"{request or 'A response'}: the payload is not what the service documents, {shown[0]}{more}. {advice}",
        problems=shown,
        request=request or None,
    )


class _UnexpectedError(ValueError):
    """A value of another type than the model has."""


def _problems(error: Exception, value: Any, path: str = "$") -> Iterator[str]:
    """
    Yield a line for each wrong value: its path in the payload, and what was expected.

    ``cattrs.transform_error`` names the attribute of the model where the key on the wire is needed.
    """
    if isinstance(error, ClassValidationError):
        fields = attrs.fields_dict(error.cl)
        for inner, attribute in error.group_exceptions()[0]:
            names = wire_names(fields[attribute.name])
            key = next((name for name in names if name in value), names[0])
            yield from _problems(inner, value.get(key), f"{path}.{key}")
    elif isinstance(error, IterableValidationError):
        for inner, element in error.group_exceptions()[0]:
            step = f"[{element.index}]" if isinstance(element.index, int) else f".{element.index}"
            yield from _problems(inner, value[element.index], path + step)
    else:
        text = "missing or null, and it is required" if isinstance(error, KeyError) else str(error)
        yield f"{printable(path)}: {text}"


_KINDS = {dict: "an object", list: "an array", str: "text", bool: "true or false", int: "a number", float: "a number"}


def _wrong(value: object, wanted: str) -> _UnexpectedError:
    """Return the error of a value: the expected and the received type, never the value."""
    received = "null" if value is None else _KINDS.get(type(value), "something else")
    return _UnexpectedError(f"{received} where {wanted} was expected")


#: Any kind of type may be looked at.
_origin: Callable[[Any], Any] = get_origin


@functools.cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    hooks = {int: _int, float: _float, str: _str, bool: _bool, datetime: _datetime}
    for kind, read in hooks.items():
        converter.register_structure_hook(kind, read)
    converter.register_structure_hook(Secret, lambda value, _: Secret(_str(value)))
    # Plain functions of one parameter: cattrs looks at the signature of a factory.
    converter.register_structure_hook_factory(
        lambda kind: _origin(kind) in (list, tuple), lambda kind: _array_hook(kind, converter)
    )
    converter.register_structure_hook_factory(
        lambda kind: _origin(kind) is dict,
        lambda kind: _only(dict, "an object", make_mapping_structure_fn(kind, converter)),
    )
    converter.register_structure_hook_factory(
        lambda kind: isinstance(kind, type) and attrs.has(kind), lambda kind: _model_hook(kind, converter)
    )
    return converter


def _int(value: Any, _: Any = None) -> int:
    """Read an integer, which may be text or have a fraction of zero."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(value, "a whole number")
    return value


def _float(value: Any, _: Any = None) -> float:
    """Read a number, which may be text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _wrong(value, "a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(value, "a number")
    return number


def _str(value: Any, _: Any = None) -> str:
    """Read text, which may be a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(value, "text")
    return str(value)


def _bool(value: Any, _: Any = None) -> bool:
    """Read true or false, which may be text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise _wrong(value, "true or false")


def _datetime(value: Any, _: Any = None) -> datetime:
    """Return a date-time; that of a field is one already."""
    time = read_datetime(value) if isinstance(value, str) else value
    if not isinstance(time, datetime):
        raise _wrong(value, "a date-time")
    return time


def _only(allowed: Any, wanted: str, structure: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a hook that takes values of some types only. Those of cattrs iterate over anything, text included."""

    def read(value: Any, kind: Any) -> Any:
        if not isinstance(value, allowed):
            raise _wrong(value, wanted)
        return structure(value, kind)

    return read


def _array_hook(kind: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    array: Any = list
    structure, make = list_structure_factory(array[get_args(kind)[0]], converter), get_origin(kind)
    return _only((list, tuple), "an array", lambda value, kind: make(structure(value, kind)))


@attrs.frozen
class _ModelField:
    """One field of a model: its keys on the wire and which values it takes."""

    name: str
    names: tuple[str, ...]
    required: bool
    optional: bool
    dated: bool
    textless: bool
    zone: tzinfo | None
    size: bool


def _field(attribute: attrs.Attribute[Any], zone: tzinfo | None) -> _ModelField:
    kind = attribute.type if attribute.type is not None else Any
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    optional = kind is Any or type(None) in kinds
    return _ModelField(
        name=attribute.name,
        names=wire_names(attribute),
        required=attribute.default is attrs.NOTHING and not optional,
        optional=optional and attribute.default is attrs.NOTHING,
        dated=datetime in kinds,
        textless=bool({int, float} & set(kinds)) and str not in kinds,
        zone=attribute.metadata.get("zone", zone),
        size=attribute.metadata.get("size", False),
    )


def _model_hook(model: type[Any], converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """
    Return the hook of a model: that of cattrs, after the steps that it has no option for.

    These are several keys for a field, null in place of a default, a date or a size that cannot be read, and unknown
    keys.
    """
    attributes = [attribute for attribute in attrs.fields(attrs.resolve_types(model)) if attribute.init]
    zone = getattr(model, "wire_zone", None)
    fields = tuple(_field(attribute, zone) for attribute in attributes if attribute.name != "unknown")
    keeps_unknown = len(fields) < len(attributes)
    # What is read below already is kept as it is.
    ready = [field.name for field in fields if field.dated and not field.required]
    if keeps_unknown:
        ready.append("unknown")
    keep: Any = override(struct_hook=lambda value, _: value)
    structure = make_dict_structure_fn(model, converter, **dict.fromkeys(ready, keep))

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, "an object")
        unknown = dict(value)
        values: dict[str, Any] = {}
        for field in fields:
            if field.optional:
                values[field.name] = None
            if not value.keys().isdisjoint(field.names):
                _take(field, value, values, unknown)
        if keeps_unknown:
            values["unknown"] = unknown
        return structure(values, model)

    return read


def _take(field: _ModelField, source: dict[str, Any], values: dict[str, Any], unknown: dict[str, Any]) -> None:
    """Copy the value of one field from ``source`` to ``values``, and remove its key from ``unknown``."""
    found = next((name for name in field.names if source.get(name) is not None), "")
    value = source.get(found) if found else None
    used: Sequence[str] = field.names
    if value is not None and not (value == "" and field.textless and not field.required):
        result: Any = value
        if field.dated:
            time = read_datetime(value) if isinstance(value, str) else None
            if time is not None:
                result = time.replace(tzinfo=time.tzinfo or field.zone)
            elif not field.required:
                result = None
        elif field.size and not _is_size(value):
            result = None
        values[field.name] = result
        if result is None and not (field.dated and _means_never(value)):
            return  # It stays in unknown.
        used = [name for name in field.names if name == found or source.get(name) is None]
    for name in used:
        unknown.pop(name, None)


def _is_size(value: Any) -> bool:
    """Return whether a value is a number of bytes that a file can have."""
    try:
        return 0 <= _int(value) <= _MAX_SIZE
    except _UnexpectedError:
        return False


def _means_never(value: Any) -> bool:
    """Return whether a value means no date: empty text, or the first instant of the year 1."""
    return value == "" or (isinstance(value, str) and value.startswith("0001-01-01"))
