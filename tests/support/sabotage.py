"""
The protections that rows of the fault matrix depend on, and how each is removed to see its tests fail.

A module ``sabotage_<group>.py`` beside this one registers them::

    @protection("the start of a range is checked")
    def _(patch: Patch) -> None:
        patch.replace("arena_async.protocol.ranges:judge_head", believing)

A test that starts a child process calls :func:`inherited.take_over` in it first.

What a run with ``--sabotage`` accepts as the proof that a test depends on its protection: an exception in the call
phase of the test, where the invariants are checked too. What it does not accept, and reports as an error of the harness
with the name of the protection:

- a removal that is not registered, whose module cannot be imported, or that raises, here or in a child process; a
  target that does not exist is such an error (:class:`HarnessError`);
- a failure in the setup of the test;
- an ``AttributeError``, ``ImportError``, ``NameError`` or ``TypeError`` that comes out of the code of a replacement or
  ends the test: it says that the replacement does not fit what it replaces. It counts even where the program turns it
  into something else. A removal that wants such an error says so: ``@protection(..., raises=TypeError)``.

A test that passes without its protection is HOLLOW, which is a failure. A removal that is never reached shows as that.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import attrs
import pytest

__all__ = [
    "FAULTS",
    "PROTECTIONS",
    "VARIABLE",
    "Always",
    "HarnessError",
    "Patch",
    "Removal",
    "apply_from_environment",
    "import_all",
    "load",
    "protection",
]

#: Names the protection that child processes have to do without.
VARIABLE = "MATRIX_SABOTAGE"
#: Names the file that child processes append the faults of the removal to.
FAULTS = "MATRIX_SABOTAGE_FAULTS"

#: What says that a replacement does not fit.
_MISFITS = (AttributeError, ImportError, NameError, TypeError)
_PACKAGE = "arena_async"


class HarnessError(Exception):
    """The harness cannot do what it is asked for; nothing is said about the program."""


class Patch:
    """
    Replaces parts of the program until :meth:`undo`, and notes what goes wrong in the replacements.

    Args:
        report: Called with one line for each fault of a replacement, from any thread.
        allowed: Misfits that the removal wants.
    """

    def __init__(self, report: Callable[[str], object], allowed: tuple[type[Exception], ...] = ()) -> None:
        self._patch = pytest.MonkeyPatch()
        self.report = report
        self._misfits = tuple(kind for kind in _MISFITS if kind not in allowed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def undo(self) -> None:
        """Put everything back."""
        self._patch.undo()

    def current(self, target: str) -> Any:
        """Return what is at ``module:Qualified.name``."""
        return _resolve(target)[2]

    def replace(self, target: str, replacement: object) -> Any:
        """
        Replace what is at ``module:Qualified.name``, and return what was there.

        The module may be a package: then it is in the one module of it that defines the name. What a module defines is
        replaced in every module that has imported it by this name. Where the target names a module that has only
        imported it, it is replaced in that module alone.
        """
        owner, name, found = _resolve(target)
        guarded = self._guarded(replacement)
        self._patch.setattr(owner, name, guarded)
        if isinstance(owner, ModuleType) and getattr(found, "__module__", owner.__name__) == owner.__name__:
            for module in _modules():
                if vars(module).get(name) is found:
                    self._patch.setattr(module, name, guarded)
        return found

    def add(self, target: str, value: object) -> None:
        """Set what is not there: a name that hides a builtin, or one that only instances have."""
        path, _, name = target.rpartition("." if "." in target.partition(":")[2] else ":")
        owner = _resolve(path)[2] if ":" in path else _module(path)
        self._patch.setattr(owner, name, self._guarded(value), raising=False)

    def remove(self, target: str) -> None:
        """Delete what is at ``module:Qualified.name``."""
        owner, name, _ = _resolve(target)
        self._patch.delattr(owner, name)

    def _guarded(self, value: Any) -> Any:
        """Note the misfits that a replacement raises."""
        if isinstance(value, staticmethod):
            return staticmethod(self._guarded(value.__func__))
        if isinstance(value, property) and value.fget is not None:
            return property(self._guarded(value.fget))
        if not inspect.isfunction(value) or inspect.isgeneratorfunction(value):
            return value
        if inspect.iscoroutinefunction(value):

            @functools.wraps(value)
            async def wait(*args: Any, **kwargs: Any) -> Any:
                with self._noting():
                    return await value(*args, **kwargs)

            return wait

        @functools.wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._noting():
                return value(*args, **kwargs)

        return call

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except self._misfits as error:
            if _is_ours(error.__traceback__):
                self.report(f"a replacement raised {type(error).__name__}: {error}")
            raise


def _is_ours(trace: TracebackType | None) -> bool:
    """Return whether an error was raised by the code of a removal itself."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).name.startswith("sabotage")


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise HarnessError(f"the module {name} does not exist: {error}") from error


def _defining_module(package: ModuleType, name: str) -> ModuleType:
    """Return the one module of a package that defines a name, or the package itself."""
    inside = [module for module in _modules() if module.__name__.startswith(f"{package.__name__}.")]
    there = [module for module in inside if name in vars(module)]
    own = [module for module in there if getattr(vars(module)[name], "__module__", None) == module.__name__]
    values = {id(vars(module)[name]) for module in own or there}
    if len(values) > 1:
        raise HarnessError(f"{package.__name__}:{name} is not one thing: several modules define it")
    return (own or there or [package])[0]


def _resolve(target: str) -> tuple[Any, str, Any]:
    """Find ``module:Qualified.name``: the object that has it, its last name, and itself."""
    module, _, path = target.partition(":")
    found: Any = _module(module)
    first = path.partition(".")[0]
    if hasattr(found, "__path__") and not hasattr(found, first):
        found = _defining_module(found, first)
    owner: Any = None
    name = ""
    for name in path.split("."):
        owner = found
        try:
            found = getattr(owner, name)
        except AttributeError:
            raise HarnessError(f"{target} does not exist: nothing has the name {name!r} there") from None
    return owner, name, found


def _modules() -> list[ModuleType]:
    """Return the modules of the package and of the tests' support that are imported."""
    beside = str(Path(__file__).parent)
    return [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == _PACKAGE or str(getattr(module, "__file__", "")).startswith(beside)
    ]


@attrs.frozen
class Always:
    """An attribute that has one value, whatever is put into it."""

    value: object

    def __get__(self, owner: object, kind: type | None = None) -> object:
        return self.value

    def __set__(self, owner: object, value: object) -> None:
        pass


@attrs.frozen
class Removal:
    """How a protection is removed."""

    name: str
    remove: Callable[[Patch], object]
    raises: tuple[type[Exception], ...]

    def apply(self, report: Callable[[str], object]) -> Patch:
        """Remove the protection until the patch is undone, and report faults of the removal, one line each."""
        patch = Patch(report, self.raises)
        try:
            self.remove(patch)
        except HarnessError:
            patch.undo()
            raise
        except Exception as error:
            patch.undo()
            raise HarnessError(f"the removal raised {type(error).__name__}: {error}") from error
        return patch

    def is_proof(self, error: BaseException) -> bool:
        """Return whether an error that ended a test can be the consequence of the removal."""
        if isinstance(error, BaseExceptionGroup):
            return all(map(self.is_proof, error.exceptions))
        return not isinstance(error, (HarnessError, *_MISFITS)) or isinstance(error, self.raises)


PROTECTIONS: dict[str, Removal] = {}


def protection(
    name: str, *, raises: type[Exception] | tuple[type[Exception], ...] = ()
) -> Callable[[Callable[[Patch], object]], Callable[[Patch], object]]:
    """Register how a protection is removed, and which misfits are what its tests then fail with."""

    def register(remove: Callable[[Patch], object]) -> Callable[[Patch], object]:
        if name in PROTECTIONS:
            raise HarnessError(f"the protection {name!r} is registered twice")
        PROTECTIONS[name] = Removal(name, remove, raises if isinstance(raises, tuple) else (raises,))
        return remove

    return register


def load(name: str) -> Removal:
    """Return the removal of a protection."""
    for path in sorted(Path(__file__).parent.glob("sabotage_*.py")):
        try:
            importlib.import_module(path.stem)
        except Exception as error:
            raise HarnessError(f"{path.name} cannot be imported: {type(error).__name__}: {error}") from error
    if name not in PROTECTIONS:
        raise HarnessError("it is not registered in tests/support/sabotage_*.py")
    return PROTECTIONS[name]


@functools.cache
def import_all() -> None:
    """Import the whole package, so that no module is imported while a replacement is in another."""
    package = importlib.import_module(_PACKAGE)
    for found in pkgutil.walk_packages(package.__path__, f"{_PACKAGE}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def apply_from_environment() -> None:
    """Remove in this child process what the parent has to do without, for the life of the process."""
    name = os.environ.get(VARIABLE)
    if not name:
        return
    faults = Path(os.environ[FAULTS])

    def report(line: str) -> None:
        with faults.open("a", encoding="utf-8") as file:
            file.write(f"in a child process {line}\n")

    try:
        load(name).apply(report)
    except HarnessError as error:
        report(str(error))
        raise
