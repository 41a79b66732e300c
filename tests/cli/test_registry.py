"""The services: each has its client, its simulator and its commands, and listing them costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command_line import environment, run

from arena_async.providers.registry import PROVIDERS, Service
from arena_async.testing import ArenaSimulator, CentrePointSimulator

EVERY = pytest.mark.parametrize("service", list(PROVIDERS))


@EVERY
async def test_a_client_of_each_service_is_led_to_its_simulator(service: Service) -> None:
    """The settings that a simulator describes are those that the client takes, and the example is complete."""
    provider = PROVIDERS[service]
    async with provider.load_simulator()(**{provider.size_option: 1000}) as simulator:
        described = simulator.describe()
        client = provider.load_client().from_env(environ=described["environment"])
        await client.aclose()

    assert client.session.base_url == described["base_url"]
    assert provider.example.format(**described).startswith(f"arena-async sync {service} ")


@EVERY
@pytest.mark.process
@pytest.mark.parametrize("verb", ["sync", "plan", "list"])
async def test_each_service_has_its_commands(verb: str, service: Service) -> None:
    """The module of its name in the command line has them."""
    done = await run(verb, service, "--help", env=environment())

    assert (done.code, done.err) == (0, "")
    assert PROVIDERS[service].title in done.out


@pytest.mark.process
async def test_every_column_of_a_listing_is_there() -> None:
    """Rows of every level have the attributes that the table shows."""
    async with ArenaSimulator() as arena, CentrePointSimulator() as centrepoint:
        study, subject = str(centrepoint.study), str(centrepoint.subject)
        listings: list[tuple[int, tuple[str, ...]]] = [
            (5, ("centrepoint", "datasets", study)),
            (4, ("centrepoint", "day-files", study, subject, centrepoint.category)),
            (4, ("centrepoint", "studies")),
            (4, ("centrepoint", "subjects", study)),
            (2, ("centrepoint", "programs", study)),
        ]
        for source, guid in (("extracts", arena.extract), ("exports", arena.export), ("imports", arena.import_)):
            runs = await run("list", "arena", source, guid, env=environment(arena))
            listings += [
                (3, ("arena", source)),
                (3 if source == "extracts" else 4, ("arena", source, guid)),
                (5, ("arena", source, guid, runs.out.split("\t")[0])),
            ]
        for columns, words in listings:
            done = await run("list", *words, env=environment(arena, centrepoint))
            assert (done.code, done.err) == (0, ""), words
            assert done.out.splitlines()[0].count("\t") == columns - 1, words


def test_reading_the_table_loads_no_client() -> None:
    """It stays cheap enough for ``--help``."""
    script = "import sys, arena_async.providers.registry\nprint('aiohttp' in sys.modules, 'asyncio' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "False False\n"
