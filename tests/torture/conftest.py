"""Torture is played where minutes are given for it, and nowhere else: ``pytest tests/torture --minutes 5 --seed 1``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from torturing import Torture

LINES = pytest.StashKey[list[str]]()
CHOSEN = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how long, and from which seed."""
    group = parser.getgroup("torture")
    group.addoption("--minutes", type=float, help="minutes for the whole of the torture; without it there is none")
    group.addoption("--seed", type=int, help="play what this seed gives, and nothing after it")


def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed where none was given."""
    given = config.getoption("--seed", default=None)
    config.stash[LINES] = []
    config.stash[CHOSEN] = random.SystemRandom().randrange(1_000_000) if given is None else given


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the torture out of the ordinary tests."""
    return True if config.getoption("--minutes", default=None) is None else None


@pytest.fixture
def torture(request: pytest.FixtureRequest) -> Torture:
    """Return what was asked for."""
    config = request.config
    return Torture(
        minutes=config.getoption("--minutes"),
        seed=config.stash[CHOSEN],
        replayed=config.getoption("--seed") is not None,
        lines=config.stash[LINES],
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was played."""
    if config.stash[LINES]:
        terminalreporter.section("torture")
        for line in config.stash[LINES]:
            terminalreporter.line(line)
        terminalreporter.line(f"again: nox -s torture -- --minutes N --seed {config.stash[CHOSEN]}")
