"""The long part of the tests: schedules, kills at every step, and a soak, for as many minutes as there are."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from restless_machine import SCENARIOS, play, play_to_a_step, playground
from sending_machine import play_sending, sending
from soak import soak
from torturing import Torture

pytestmark = pytest.mark.process

#: What each part gets of the time.
SCHEDULES, SENDING, STEPS, SOAK = 0.3, 0.15, 0.25, 0.3
#: Schedules that are played from one seed.
BATCH, SENDING_BATCH = 25, 10
#: Files of one pass of the soak, for each minute of the whole and at the most. There are as many passes as there is
#: time for; the least number of them takes a slow machine about the share of the soak.
FILES_A_MINUTE, MAX_FILES = 150, 10_000


def test_the_promises_hold_in_many_schedules(torture: Torture, tmp_path: Path) -> None:
    """A service and a client do anything in any order; one seed gives a batch of schedules, the next one another."""
    with playground(tmp_path) as ground:
        torture.play_many("schedules", ground, partial(play, schedules=BATCH), share=SCHEDULES)


def test_nothing_is_sent_twice_in_many_schedules(torture: Torture, tmp_path: Path) -> None:
    """A service loses its responses and a client is killed while it changes it; a batch of schedules from each seed."""
    with sending(tmp_path) as ground:
        torture.play_many("sending", ground, partial(play_sending, schedules=SENDING_BATCH), share=SENDING)


def test_a_stop_before_any_step_loses_nothing(torture: Torture, tmp_path: Path) -> None:
    """
    SIGKILL before every step of a small sync, then in a folder that is begun and one that changes, then cancellations.

    The first is played to its end however long it takes; of the others as much as there is time for, in an order of
    chance.
    """
    ends = time.monotonic() + torture.minutes * 60 * STEPS
    played: Counter[str] = Counter()
    chance = random.Random(torture.seed)
    with playground(tmp_path) as ground:

        def stop(scenario: str, how: str, step: int) -> bool:
            try:
                came = play_to_a_step(ground, scenario, how, step)
            except BaseException:
                torture.say(f"steps: {scenario}, {how} {step} BREAKS A PROMISE, see above")
                raise
            played[f"{scenario} {how.removesuffix('_at')}"] += came
            return came

        # Files that are ready at the same moment share a group, so that one life takes some steps fewer than another.
        last = missed = 0
        while missed < 3:
            last += 1
            missed = 0 if stop("fresh", "kill_at", last) else missed + 1
        ways = [way for way in itertools.product(SCENARIOS, ("kill_at", "cancel_at")) if way != ("fresh", "kill_at")]
        others = [(*way, step) for way in ways for step in range(1, last)]
        chance.shuffle(others)
        for one in others:
            if time.monotonic() >= ends:
                break
            stop(*one)
    torture.say("steps: " + ", ".join(f"{name} {count}" for name, count in played.items()))


async def test_thousands_of_files_from_an_unlucky_service_are_all_right(torture: Torture, tmp_path: Path) -> None:
    """Every twentieth answer goes wrong: the folder is right, the price is low, and nothing grows."""
    files = min(MAX_FILES, int(FILES_A_MINUTE * torture.minutes))
    found = await soak(tmp_path, files=files, seed=torture.seed, seconds=torture.minutes * 60 * SOAK)
    for line in found.lines():
        torture.say(f"soak: {line}")
    assert found.wrong == []
