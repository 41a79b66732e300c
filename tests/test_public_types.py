"""A user can import and check every type that a public signature names."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import types
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any, ForwardRef, TypeVar, get_args, get_origin, is_typeddict

import attrs
import pytest

from arena_async import ArenaClient, ArenaCredentials, CentrePointClient, CentrePointCredentials, UrlSet

PACKAGES = [f"arena_async{name}" for name in ("", ".providers.arena", ".providers.centrepoint", ".providers.urls")]
PUBLIC = {
    name: getattr(import_module(package), name) for package in PACKAGES for name in import_module(package).__all__
}
CLASSES = [value for value in PUBLIC.values() if inspect.isclass(value)]

#: Classes whose objects a user gets and does not make: their constructors are not public.
MADE_BY_THE_LIBRARY = {
    # from Downloader, Mirror and lists
    "OutcomeStream", "Paginator", "Session",
    # attributes of ArenaClient, and what they return
    "Criteria", "EventQueue", "Events", "ExportFiles", "Exports", "ExtractFiles", "Extracts", "Files", "ImportFiles",
    "Imports", "ItemFiles", "Items", "PendingEvent", "StoredFiles", "Watch",
    # attributes of CentrePointClient, and what they return
    "AlgorithmSettings", "Computed", "DataFileSet", "DataRequests", "DatasetFileSet", "Datasets", "DayFileSet",
    "DayFiles", "MinuteSummaries", "Programs", "Studies", "StudyFileSet", "StudyList", "StudyObjects", "Subjects",
    "Uploads", "Webhooks",
}  # fmt: skip

#: Where Any stays, and why.
ANY = {
    "Page.items": "rows of any list",
    "Page.__init__(items)": "rows of any list",
    "Notice.rows": "rows of any list",
    "Notice.__init__(rows)": "rows of any list",
    "Outcome.open(return)": "aiofiles names no type for an open file",
    "Request.json": "JSON",
    "Request.__init__(json)": "JSON",
    "Criteria.as_json(return)": "JSON",
    "RunFailedError.__init__(run)": "a run of any service",
    "NotAsRequestedError.__init__(result)": "an object of any service",
    "Session.spawn(work)": "what a coroutine is sent and yields",
    "DayQuery.reader(return)": "the function reads JSON",
}


#: What only this library calls, although its name has no underscore.
INTERNAL = {
    "Criteria.groups",
    "DayQuery.paginator(api)",
    "DayQuery.resolved(api)",
    "DayQuery.shape",
    "Exports.records",
    "Extracts.records",
    "Imports.records",
    "OutcomeStream.next_numbered(return)",
    "Submission.opened(return)",
}


@attrs.frozen
class Annotation:
    """One annotation of a public signature, as it is written."""

    where: str
    module: str
    text: Any


def annotations() -> Iterator[Annotation]:
    """Yield all of them: functions, methods, properties and attributes."""
    for name, value in PUBLIC.items():
        if inspect.isfunction(value):
            yield from of_function(name, value)
        elif inspect.isclass(value):
            yield from of_class(value)


def of_class(cls: type) -> Iterator[Annotation]:
    """Yield what a class and its bases annotate in public."""
    for base in cls.__mro__:
        if not base.__module__.startswith("arena_async"):
            continue
        for name, value in list(vars(base).items()):
            private = name.startswith("_") and (name != "__init__" or cls.__name__ in MADE_BY_THE_LIBRARY)
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if inspect.isfunction(function) and not private:
                yield from of_function(f"{cls.__name__}.{name}", inspect.unwrap(function))
        for name, text in inspect.get_annotations(base).items():
            if not name.startswith("_"):
                yield Annotation(f"{cls.__name__}.{name}", base.__module__, text)


def of_function(where: str, function: Any) -> Iterator[Annotation]:
    """Yield the annotations of a function."""
    for name, text in inspect.get_annotations(function).items():
        yield Annotation(f"{where}({name})", function.__module__, text)


@cache
def names_of(module: str) -> dict[str, Any]:
    """Return the names of a module, with those that only a type checker imports."""
    found = dict(vars(sys.modules[module]))
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                if alias.name not in found:
                    found[alias.asname or alias.name] = getattr(import_module(node.module), alias.name)
    return found


def types_in(annotation: Any, module: str) -> Iterator[Any]:
    """Yield every class, type variable and special form in an annotation; aliases and **kwargs are resolved."""
    if isinstance(annotation, ForwardRef):
        module = annotation.__forward_module__ or module
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        for node in ast.walk(ast.parse(annotation, mode="eval")):
            if isinstance(node, ast.Name) and not hasattr(builtins, node.id):
                yield from types_in(names_of(module)[node.id], module)
    elif is_typeddict(annotation):
        for text in inspect.get_annotations(annotation).values():
            yield from types_in(text, annotation.__module__)
    elif get_origin(annotation) is not None:
        yield get_origin(annotation)
        for argument in get_args(annotation):
            if not isinstance(argument, str | list):
                yield from types_in(argument, module)
    elif not isinstance(annotation, types.ModuleType):
        yield annotation


def is_row(where: str) -> bool:
    """Return whether this is an object of a service, whose undocumented parts stay JSON."""
    owner = PUBLIC[where.partition(".")[0].partition("(")[0]]
    known = owner.__module__.startswith("arena_async.providers.") and owner.__module__.endswith("models")
    return attrs.has(owner) and (known or "unknown" in attrs.fields_dict(owner))


def test_every_type_of_a_public_signature_is_public() -> None:
    """What a signature names can be imported from a public package, so that a user can annotate his own code."""
    hidden = {
        annotation.where
        for annotation in annotations()
        for found in types_in(annotation.text, annotation.module)
        if inspect.isclass(found)
        and not isinstance(found, TypeVar)
        and found.__module__.startswith("arena_async")
        and found not in CLASSES
    }

    assert sorted(hidden - INTERNAL) == []
    assert sorted(INTERNAL - hidden) == []


def test_no_public_signature_takes_or_returns_anything() -> None:
    """``Any`` switches the type checker of the user off; it stands for JSON only, and where the table says why."""
    json = ("Mapping[str, Any]", "dict[str, Any]")
    found = {
        annotation.where
        for annotation in annotations()
        if Any in set(types_in(annotation.text, annotation.module))
        and not is_row(annotation.where)
        and not any(form in str(annotation.text) for form in json)
    }

    assert sorted(found - set(ANY)) == []
    assert sorted(set(ANY) - found) == []


@pytest.mark.parametrize(
    "client",
    [
        ArenaClient(ArenaCredentials("robot@example.com", "word")),
        CentrePointClient(CentrePointCredentials("id", "word")),
        UrlSet(["https://example.com/a.zip"]),
    ],
    ids=repr,
)
def test_attributes_of_a_client_have_no_side_effects(client: ArenaClient | CentrePointClient | UrlSet) -> None:
    """Each can be looked at without an event loop, raises nothing, and sends nothing."""
    missing = [name for name in dir(client) if not hasattr(client, name)]

    assert missing == []
    assert (client.requests_sent, client.session.requests_sent, client.quota) == (0, 0, client.session.quota)
    assert [getattr(client, name) for name in vars(client)] == list(vars(client).values())
