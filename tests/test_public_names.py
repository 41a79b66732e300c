"""What ``import arena_async`` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import arena_async


def test_the_public_names_are_sorted_and_each_is_there() -> None:
    """The list is what users read; every name in it can be imported."""
    names = list(arena_async.__all__)

    assert names == sorted(names)
    assert [name for name in names if getattr(arena_async, name, None) is None] == []


def test_every_public_name_is_public_where_it_lives() -> None:
    """The table of homes leads to modules that export the name themselves."""
    homes = arena_async._MODULES

    assert sorted(homes) == list(arena_async.__all__)
    assert [name for name, home in homes.items() if name not in import_module(home).__all__] == []


def test_all_errors_are_public() -> None:
    """Whatever is raised can be caught by a name of the package."""
    assert set(import_module("arena_async.errors").__all__) <= set(arena_async.__all__)


def test_unknown_names_are_refused_and_known_ones_listed() -> None:
    """It behaves as any module: completion finds the names, a typing error is an AttributeError."""
    assert set(arena_async.__all__) <= set(dir(arena_async))
    with pytest.raises(AttributeError, match="no attribute 'ArenaKlient'"):
        arena_async.ArenaKlient  # noqa: B018


@pytest.mark.process
def test_the_import_alone_loads_nothing_heavy() -> None:
    """Neither the HTTP client nor the decoder is loaded before a name that needs them is used."""
    script = (
        "import sys, arena_async\n"
        "heavy = {'aiohttp', 'aiofiles', 'anyio', 'attr', 'cattrs', 'sqlite3', 'asyncio', 'rich', 'cyclopts'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "arena_async.ArenaAsyncError\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "arena_async.ArenaClient\n"
        "print('aiohttp' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n[]\nTrue\n"
