from __future__ import annotations

import ast
import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import arena_async

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_the_same_everywhere() -> None:
    """What is installed, what pyproject.toml says and the newest entry of the changelog agree."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert importlib.metadata.version("arena-async") == PROJECT["version"]
    assert re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)[0] == PROJECT["version"]


def test_type_checkers_may_read_the_package() -> None:
    """The marker file is there."""
    assert importlib.resources.files("arena_async").joinpath("py.typed").is_file()


def test_the_public_names_are_what_can_be_imported() -> None:
    """``__all__`` is sorted, every name in it exists, and ``dir`` shows them."""
    assert arena_async.__all__ == sorted(set(arena_async.__all__))
    assert all(getattr(arena_async, name) is not None for name in arena_async.__all__)
    assert set(arena_async.__all__) <= set(dir(arena_async))


def test_type_checkers_see_the_same_names() -> None:
    """What is imported under TYPE_CHECKING is what is imported when it is used."""
    module = ast.parse(Path(arena_async.__file__).read_text(encoding="utf-8"))
    seen = {
        (alias.asname or alias.name, node.module)
        for branch in module.body
        if isinstance(branch, ast.If)
        for node in ast.walk(branch)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert seen == set(arena_async._HOMES.items())
    assert {name for name, _ in seen} == set(arena_async.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The message names the package and the name."""
    with pytest.raises(AttributeError, match=r"'arena_async' has no attribute 'Nothing'"):
        arena_async.Nothing  # noqa: B018


@pytest.mark.process
def test_importing_the_package_loads_nothing_heavy() -> None:
    """A program that only wants to catch our errors does not pay for an HTTP client."""
    heavy = ["aiohttp", "aiofiles", "anyio", "asyncio", "cattrs", "cyclopts", "rich", "sqlite3", "uvloop"]
    program = f"import sys, arena_async, arena_async.errors; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"


def test_the_plugin_and_the_command_are_declared() -> None:
    """Pytest finds the fixtures and the shell finds the command."""
    entries = importlib.metadata.distribution("arena-async").entry_points

    assert (
        entries.select(group="pytest11", name="arena_async")["arena_async"].value == "arena_async.testing.pytest_plugin"
    )
    assert callable(entries.select(group="console_scripts")["arena-async"].load())


@pytest.mark.parametrize("extra", ["cli", "dev", "fast"])
def test_the_extras_are_the_documented_ones(extra: str) -> None:
    """Each of the three can be asked for."""
    assert extra in (importlib.metadata.metadata("arena-async").get_all("Provides-Extra") or [])


def test_every_requirement_has_a_floor() -> None:
    """The session ``lowest`` can only hold what is declared."""
    requirements = [
        *PROJECT["dependencies"],
        *(r for extra in PROJECT["optional-dependencies"].values() for r in extra),
    ]

    assert [r for r in requirements if not r.startswith("arena-async") and not re.search(r"[>~]=", r)] == []
