"""The public door to the simulators, and the fixtures that come with the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

from arena_async import testing

pytest_plugins = ["pytester"]

TEST_OF_A_USER = """
{mark}
async def test_the_fixtures_are_running(arena_simulator, centrepoint_simulator):
    assert centrepoint_simulator.origin().startswith("http://127.0.0.1:")
    async with arena_simulator.client() as client:
        assert [one.guid async for one in client.extracts.search()] == [arena_simulator.extract]
"""


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_the_fixtures_work_in_both_modes(pytester: pytest.Pytester, mode: str) -> None:
    """A test needs no import of ours, and in strict mode no more than its own mark."""
    mark = "" if mode == "auto" else "import pytest\n@pytest.mark.asyncio"
    pytester.makepyfile(TEST_OF_A_USER.format(mark=mark))
    scope = "asyncio_default_fixture_loop_scope=function"
    result = pytester.runpytest_subprocess(f"--asyncio-mode={mode}", "-o", scope, "-W", "error")
    result.assert_outcomes(passed=1)


def test_the_plugin_costs_a_test_run_nothing_it_does_not_use() -> None:
    """Loading the plugin imports neither the HTTP library nor a provider."""
    code = (
        "import sys, arena_async.testing.pytest_plugin as p; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'aiohttp', 'cattrs', 'attrs', 'anyio'}), "
        "'arena_async.providers' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[] False"


def test_the_door_has_three_names_and_no_other() -> None:
    """What is public is listed, and can be imported by name."""
    assert testing.__all__ == ["ArenaSimulator", "CentrePointSimulator", "faults"]
    assert set(testing.__all__) <= set(dir(testing))
    assert testing.faults.drop(after_bytes=3).stop_after == 3
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = testing.Nonsense


async def test_a_client_of_the_simulator_is_logged_in_and_takes_options() -> None:
    """It spends what it is asked to spend, with the reason it was given."""
    async with testing.ArenaSimulator(files=2) as simulator:
        async with simulator.client(usage_reason="Vendor Product/1.0") as client:
            runs = [run.guid async for run in client.extracts.runs(simulator.extract)]
        assert len(runs) == 2
        assert simulator.seen("GET */runs")[0].headers["arena-usage-reason"] == "Vendor Product/1.0"


async def test_a_client_of_the_centrepoint_simulator_is_ready_to_use() -> None:
    """It finds token end point and base without being told."""
    async with testing.CentrePointSimulator() as simulator, simulator.client() as client:
        assert client is not None
