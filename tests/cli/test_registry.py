"""The table of services: whoever adds a row gets the words, and the row is right."""

from __future__ import annotations

import inspect
import subprocess
import sys
from contextlib import AsyncExitStack

import pytest

from arena_async.providers.registry import PROVIDERS, Provider

EVERY = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=list(PROVIDERS))


@EVERY
async def test_the_words_of_a_source_are_the_arguments_of_its_files(provider: Provider) -> None:
    """Each word is taken by what makes the files under its own name, and what must be given must be given."""
    async with provider.load_simulator()() as simulator:
        client = provider.load_client().from_env(environ=simulator.describe()["environment"])
        try:
            for source in provider.sources:
                if source.maker:
                    parameters = inspect.signature(source.make(client)).parameters
                    assert {word.name for word in source.words} <= set(parameters)
        finally:
            await client.aclose()


@EVERY
async def test_every_column_of_a_listing_is_there(provider: Provider) -> None:
    """Rows of every level have the attributes that the table shows."""
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(provider.load_simulator()())
        environ = simulator.describe()["environment"]
        client = await stack.enter_async_context(provider.load_client().from_env(environ=environ))
        for source in provider.sources:
            words = source.simulated_words or provider.simulated_words
            path = tuple(getattr(simulator, attribute) for attribute in words)
            for length, listing in sorted(source.listings.items()):
                rows = [row async for row in source.rows(client, path[:length])]
                assert rows
                assert [column for column in listing.columns if not hasattr(rows[0], column)] == []
                path = (*path[:length], getattr(rows[0], "guid", None))


@EVERY
def test_the_parts_of_a_row_agree(provider: Provider) -> None:
    """Names are those of the command line, and as many words lead in as there are levels."""
    assert PROVIDERS[provider.name] is provider
    for source in provider.sources:
        required = sum(word.required for word in source.path)
        levels = list(range(required, len(source.path) + 1))
        assert sorted(source.listings) == levels or (source.maker and not source.listings and not source.path)
        assert source.maker or not source.words
    assert len(provider.simulated_words) == sum(word.required for word in provider.sources[0].words)


def test_reading_the_table_loads_no_client() -> None:
    """It stays cheap enough for ``--help``."""
    script = "import sys, arena_async.providers.registry\nprint('aiohttp' in sys.modules, 'asyncio' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "False False\n"
