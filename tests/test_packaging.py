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
from arena_async.options import VERSION

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_the_same_everywhere() -> None:
    """What is installed, what pyproject.toml says and the newest entry of the changelog agree."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert importlib.metadata.version("arena-async") == PROJECT["version"] == VERSION
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

    assert seen == set(arena_async._MODULES.items())
    assert {name for name, _ in seen} == set(arena_async.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The message names the package and the name."""
    with pytest.raises(AttributeError, match=r"'arena_async' has no attribute 'Nothing'"):
        arena_async.Nothing  # noqa: B018


#: What nobody pays for before a client is made or a file is brought home.
HEAVY = [
    "aiofiles", "aiohttp", "anyio", "asyncio", "cattrs", "concurrent.futures", "email", "hashlib", "json", "socket",
    "sqlite3", "ssl", "subprocess", "tempfile", "uvloop", "zipfile",
]  # fmt: skip


def loaded(program: str, *modules: str) -> list[str]:
    """Run a program in a process of its own and give those of the modules that it has loaded at its end."""
    ending = f"import atexit, sys; atexit.register(lambda: print([m for m in {modules} if m in sys.modules]))\n"
    done = subprocess.run(
        [sys.executable, "-c", ending + program], capture_output=True, text=True, check=False, timeout=60
    )
    return list(ast.literal_eval(done.stdout.splitlines()[-1]))


@pytest.mark.process
def test_importing_the_package_loads_nothing_heavy() -> None:
    """A program that only wants to catch our errors does not pay for an HTTP client."""
    program = "import arena_async, arena_async.errors, arena_async.options"

    assert loaded(program, "attr", "cyclopts", "rich", *HEAVY) == ["attr"]


@pytest.mark.process
@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["sync", "--help"], ["sync", "centrepoint", "--help"], ["synk"], ["sync", "arena", "extracts"]],
    ids=" ".join,
)
def test_help_and_mistakes_cost_no_more_than_the_parser(words: list[str]) -> None:
    """What is answered without doing anything loads nothing that does something."""
    program = f"import sys; from arena_async.__main__ import main; sys.argv[1:] = {words}; sys.exit(main())"
    ours = ["arena_async.protocol", "arena_async.http", "arena_async.transfer", "arena_async.cli.running"]

    assert loaded(program, "cyclopts", *ours, *HEAVY) == ["cyclopts"]


@pytest.mark.process
def test_the_version_is_told_without_an_event_loop() -> None:
    """Reading it from the installed package takes an archive reader, and nothing more."""
    program = "import sys; from arena_async.__main__ import main; sys.argv[1:] = ['--version']; sys.exit(main())"

    assert loaded(program, "cyclopts", "aiohttp", "anyio", "asyncio", "cattrs", "sqlite3", "ssl") == ["cyclopts"]


@pytest.mark.process
def test_the_plugin_costs_other_test_suites_nothing() -> None:
    """Pytest loads it in every suite of the environment; the simulators are loaded for the test that asks for one."""
    program = "import pytest, arena_async.testing.pytest_plugin as p; p.testing.__all__"
    ours = ["arena_async.http", "arena_async.providers", "arena_async.testing.server", "arena_async.transfer"]

    assert loaded(program, "pytest", "aiofiles", "aiohttp", "anyio", "attr", "cattrs", "sqlite3", *ours) == ["pytest"]


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
