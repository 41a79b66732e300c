"""
From the bytes of a response to models; the only module that uses cattrs.

The rules of the wire, all of them:

* Keys are camelCase on the wire and snake_case on a model. A field with other keys lists them:
  ``attrs.field(metadata={"wire": ("arenaSessionId", "arena_session_id")})``; the first one that is there and not null
  is taken. Such a list replaces the camelCase name.
* A key that no field took is kept unchanged in the field ``unknown: dict[str, Any]``, where the model has one.
* A missing key, or null, gives the field's default. A field without a default and without ``| None`` is required.
* Whole numbers may come as text; text may come as a number; true and false may come as text. Empty text is no number.
* Date-times are read by :func:`read_datetime`. One that cannot be read is None, and its raw text stays in ``unknown``.
  One without a zone stays naive, unless the field says what it means: ``metadata={"zone": datetime.UTC}``, or the
  model does for all of its fields: ``wire_zone = datetime.UTC``.
* What should be a number of bytes (``metadata={"size": True}``) and cannot be one is None, and stays in ``unknown``: it
  is a hint about content, and no reason to lose an entry.
* Arrays become lists or tuples, objects become models, ``dict[str, ...]`` or stay as they are (``Any``), links and
  tokens become :class:`~arena_async.protocol.messages.Secret` where the model says so.

Types of a model are resolved when it is first decoded, so its annotations must be importable at run time.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from types import UnionType
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin

import attrs
import cattrs
from cattrs.cols import list_structure_factory
from cattrs.errors import BaseValidationError, ClassValidationError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, make_mapping_structure_fn, override

from arena_async.errors import DecodeError
from arena_async.protocol.messages import Secret, printable

__all__ = ["decode", "parse_json", "read_datetime", "wire_names"]

T = TypeVar("T")

_BOM = b"\xef\xbb\xbf"
#: Levels of brackets. Documented bodies have about ten.
_DEEPEST = 100
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
#: Lines of an error; a page of 400 wrong rows says the same thing 400 times.
_MAX_PROBLEMS = 20

#: Bytes of a file, at the most: what file systems and databases can count.
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
    Parse the body of a response, whatever its ``Content-Type`` says: JSON is UTF-8.

    A byte order mark is skipped. NaN and infinities, numbers of thousands of digits, and more than 100 levels of
    brackets are rejected.

    Args:
        body: The body, free of any content encoding.
        request: The line of the request, for the error.

    Raises:
        DecodeError: It is empty, an HTML page, no UTF-8, or no JSON.
    """
    text = body.removeprefix(_BOM).strip(b" \t\r\n")
    if not text:
        _refuse("$: the body is empty", request=request)
    if text.startswith(b"<"):
        _refuse(
            "$: the body is an HTML or XML page",
            request=request,
            advice="A proxy, a login page or a gateway answered in its place; check the base URL and the proxy.",
        )
    if _too_deep(text):
        _refuse(f"$: more than {_DEEPEST} levels of brackets", request=request)
    value, problem = _load(text)
    # Raised out here: the parser's own errors hold the whole body, and a chained error would carry it along.
    if problem is not None:
        _refuse(f"$: {problem}", request=request)
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
    return _refuse(*problems, request=request)


def wire_names(attribute: attrs.Attribute[Any]) -> tuple[str, ...]:
    """Return the keys of a field on the wire; the first one is the documented name."""
    head, *rest = attribute.name.split("_")
    names = attribute.metadata.get("wire", head + "".join(part.capitalize() for part in rest))
    return (names,) if isinstance(names, str) else tuple(names)


def read_datetime(text: str) -> datetime | None:
    """
    Read an ISO 8601 date-time leniently: any number of fraction digits, ``T`` or a space, ``Z``, ``UTC`` or an offset.

    The offset is kept. Without one the result is naive. A date alone is its midnight. None when the text is no
    date-time, and for the year 1, which stands for "never" in some services.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    fraction = ((match["fraction"] or "") + "000000")[:6]
    clock = f"{match['hour'] or '00'}:{match['minute'] or '00'}:{match['second'] or '00'}.{fraction}"
    try:
        local = datetime.fromisoformat(f"{match['day']}T{clock}")
        return None if local.year == 1 else local.replace(tzinfo=_zone(match["zone"]))
    except ValueError:
        return None


def _zone(text: str | None) -> tzinfo | None:
    """Read ``Z``, ``UTC``, ``+02:00``, ``+0200`` or ``+02``."""
    if text is None:
        return None
    if text[0] not in "+-":
        return UTC
    digits = text[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def _load(text: bytes) -> tuple[Any, str | None]:
    """Parse, or return why not."""
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite), None
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} at character {error.pos} of {len(text)}"
    except RecursionError:
        return None, "too many levels of brackets"
    except ValueError as error:
        return None, "a number that is not finite" if "finite" in str(error) else "a number of too many digits"


def _no_constant(name: str) -> NoReturn:
    """Reject ``NaN`` and ``Infinity``, which are no JSON."""
    raise ValueError(f"{name} is not finite")


def _finite(text: str) -> float:
    """Read a number with a fraction or an exponent; ``1e999`` would be infinite."""
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
    for _ in range(_DEEPEST):
        inner = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(inner) == len(brackets):
            return False
        brackets = inner
    return bool(brackets)


def _refuse(*problems: str, request: str, advice: str = "") -> NoReturn:
    """Raise the error of some problems."""
    shown = problems[:_MAX_PROBLEMS]
    if len(problems) > len(shown):
        shown += (f"and {len(problems) - len(shown)} more of the kind",)
    more = f" (and {len(problems) - 1} more; see problems)" if len(problems) > 1 else ""
    advice = advice or "The service may have changed; update the library, or report the request and this line."
    raise DecodeError(
        f"{request or 'An answer'}: the payload is not what the service documents, {shown[0]}{more}. {advice}",
        problems=shown,
        request=request or None,
    )


class _UnexpectedError(ValueError):
    """A value of another type than the model has."""


def _problems(error: Exception, value: Any, path: str = "$") -> Iterator[str]:
    """
    Return a line for each wrong value: its path in the payload, and what was expected.

    ``cattrs.transform_error`` names the attribute of the model where the key on the wire is wanted.
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


@functools.cache
def _converter() -> cattrs.Converter:
    """Build the converter."""
    converter = cattrs.Converter()
    for kind, read in (
        (int, _int),
        (float, _float),
        (str, _str),
        (bool, _bool),
        (datetime, _datetime),
        (Secret, _secret),
    ):
        converter.register_structure_hook(kind, read)
    # Plain functions of one parameter: cattrs looks at the signature of a factory.
    converter.register_structure_hook_factory(
        lambda kind: _origin(kind) in (list, tuple), lambda kind: _array_hook(kind, converter)
    )
    converter.register_structure_hook_factory(
        lambda kind: _origin(kind) is dict, lambda kind: _object_hook(kind, converter)
    )
    converter.register_structure_hook_factory(
        lambda kind: isinstance(kind, type) and attrs.has(kind), lambda kind: _model_hook(kind, converter)
    )
    return converter


def _int(value: Any, _: Any = None) -> int:
    """Read a whole number, which may come as text or with a fraction of nothing."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(value, "a whole number")
    return value


def _float(value: Any, _: Any = None) -> float:
    """Read a number, which may come as text."""
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
    """Read text, which may come as a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(value, "text")
    return str(value)


def _bool(value: Any, _: Any = None) -> bool:
    """Read true or false, which may come as text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise _wrong(value, "true or false")


def _secret(value: Any, _: Any = None) -> Secret:
    """Read text that must not be shown."""
    return Secret(_str(value))


def _datetime(value: Any, _: Any = None) -> datetime:
    """Read a date-time; that of a field was read already."""
    time = read_datetime(value) if isinstance(value, str) else value
    if not isinstance(time, datetime):
        raise _wrong(value, "a date-time")
    return time


def _origin(kind: Any) -> Any:
    """Return ``list`` for ``list[int]``, and ``Union`` or ``UnionType`` for a union."""
    return get_origin(kind)


def _array_hook(kind: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """Return the hook of an array. That of cattrs iterates over anything, text and objects too."""
    array: Any = list
    structure = list_structure_factory(array[get_args(kind)[0]], converter)
    make = _origin(kind)

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise _wrong(value, "an array")
        return make(structure(value, kind))

    return read


def _object_hook(kind: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """Return the hook of an object with free keys."""
    structure = make_mapping_structure_fn(kind, converter)

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, "an object")
        return structure(value, kind)

    return read


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
    kinds = get_args(kind) if _is_union(kind) else (kind,)
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


def _is_union(kind: Any) -> bool:
    """Return whether a type is ``A | B`` or ``Optional[A]``."""
    return _origin(kind) in (Union, UnionType)


def _model_hook(model: type[Any], converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """
    Return the hook of a model: that of cattrs, behind what it has no option for.

    These are several keys for a field, null in place of a default, a date or a size that cannot be read, and the keys
    that no field has taken.
    """
    attributes = [attribute for attribute in attrs.fields(attrs.resolve_types(model)) if attribute.init]
    zone = getattr(model, "wire_zone", None)
    fields = tuple(_field(attribute, zone) for attribute in attributes if attribute.name != "unknown")
    keeps_unknown = len(fields) < len(attributes)
    overrides: dict[str, Any] = {"unknown": override(struct_hook=lambda value, _: value)} if keeps_unknown else {}
    structure = make_dict_structure_fn(model, converter, **overrides)

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
    """Take the value of one field from ``source`` to ``values``, and its key out of ``unknown``."""
    found, value = "", None
    for name in field.names:
        value = source.get(name)
        if value is not None:
            found = name
            break
    if value is None or (value == "" and field.textless and not field.required):
        for name in field.names:
            unknown.pop(name, None)
        return
    if field.dated:
        result: Any = _read_time(field, value)
    else:
        result = None if field.size and not _is_size(value) else value
    values[field.name] = result
    if result is None and not (field.dated and _means_never(value)):
        return  # what cannot be read stays among the unknown
    for name in field.names:
        if name == found or source.get(name) is None:
            unknown.pop(name, None)


def _read_time(field: _ModelField, value: Any) -> Any:
    """Return a date-time; of one that cannot be read None, or the value itself where the field needs one."""
    time = read_datetime(value) if isinstance(value, str) else None
    if time is None:
        return value if field.required else None
    return time.replace(tzinfo=field.zone) if time.tzinfo is None and field.zone is not None else time


def _is_size(value: Any) -> bool:
    """Return whether a value is a number of bytes that a file can have."""
    try:
        return 0 <= _int(value) <= _MAX_SIZE
    except _UnexpectedError:
        return False


def _means_never(value: Any) -> bool:
    """Return whether a value stands for no date: empty text, or the first instant of the year 1."""
    return value == "" or (isinstance(value, str) and value.startswith("0001-01-01"))
