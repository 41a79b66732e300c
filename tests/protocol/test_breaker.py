"""The circuit breaker of a host: when it pauses, who tries, and how many may follow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.options import RetryPolicy
from arena_async.protocol.breaker import FAILURES, Breaker, HostPause


def breaker(**policy: float) -> Breaker:
    """Return one whose chance is always a half."""
    return Breaker(RetryPolicy(**policy), lambda: 0.5)  # type: ignore[arg-type]


def paused(found: Breaker, now: float = 0) -> Breaker:
    """Let it fail until it is paused."""
    for _ in range(FAILURES):
        found.fail(now, "503")
    return found


def test_three_failures_in_a_row_pause_a_host() -> None:
    """Two do not, and a success in between starts anew."""
    found = breaker()
    found.fail(0, "503")
    found.fail(0, "503")
    assert found.enter(0) is None
    found.succeed(0)
    assert found.healthy
    found = breaker()
    found.fail(0, "a")
    found.fail(0, "b")
    found.fail(0, "c")
    assert found.enter(0) == HostPause(1.5, lasting=False, why="c")


@pytest.mark.parametrize(("wait", "at_once", "until"), [(17.0, False, 17.0), (None, True, 0.75), (0.1, True, 0.75)])
def test_one_is_enough_for_a_429_and_for_a_time(*, wait: float | None, at_once: bool, until: float) -> None:
    """The stated time or a back-off, whichever is longer."""
    found = breaker()
    found.fail(0, "429", wait=wait, at_once=at_once)
    assert found.enter(0) == HostPause(until, lasting=False, why="429")


def test_one_request_tries_after_a_pause() -> None:
    """The others wait for it; its place comes back when it says nothing."""
    found = paused(breaker())
    assert found.enter(1.5) is None
    assert found.enter(1.5) == HostPause(None, lasting=False, why="503")
    found.leave()
    assert found.enter(1.5) is None


def test_pauses_grow_with_each_one_that_fails() -> None:
    """By the policy, from what three failures are worth on."""
    found, now, waits = paused(breaker()), 0.0, []
    for _ in range(5):
        refusal = found.enter(now)
        assert refusal is not None
        assert refusal.seconds is not None
        waits.append(refusal.seconds)
        now += refusal.seconds
        assert found.enter(now) is None
        found.fail(now, "503", placed=True)
    assert waits == [1.5, 2.5, 4.5, 8.5, 16.5]


def test_what_was_sent_before_the_pause_says_nothing_new() -> None:
    """Neither its failure nor its success; but a time that it states counts."""
    found = paused(breaker())
    found.fail(1, "503")
    found.succeed(1)
    assert found.enter(1) == HostPause(0.5, lasting=False, why="503")
    found.fail(1, "503", wait=20)
    assert found.enter(1) == HostPause(20.0, lasting=False, why="503")


def test_one_more_may_be_out_for_each_that_succeeded() -> None:
    """Until there are enough of them: then nothing is left to remember."""
    found = paused(breaker())
    out = 0
    while found.enter(2) is None:
        out += 1
    assert out == 1
    for succeeded in range(1, 64):
        assert not found.healthy
        found.succeed(2, placed=True)
        out -= 1
        while found.enter(2) is None:
            out += 1
        assert out == succeeded + 1
    found.succeed(2, placed=True)
    assert found.healthy


def test_an_outage_lasts_when_the_next_try_comes_after_the_timeout() -> None:
    """Whoever asks later, waits anew."""
    found = paused(breaker(timeout=2))
    assert found.enter(0) == HostPause(1.5, lasting=False, why="503")
    assert found.enter(1.5) is None
    found.fail(1.5, "503", placed=True)
    assert found.enter(1.5) == HostPause(2.5, lasting=True, why="503")
    assert found.enter(3600) is None
    found.fail(3600, "503", placed=True)
    refusal = found.enter(3600)
    assert refusal is not None
    assert refusal.lasting


def test_a_policy_without_waits_does_not_hammer_a_host_for_ever() -> None:
    """When its attempts are used up, a tenth of a second passes between two."""
    found = paused(breaker(wait_initial=0, wait_jitter=0, attempts=4))
    tries = 0
    while (refusal := found.enter(0)) is None:
        tries += 1
        found.fail(0, "503", placed=True)
    assert tries == 2
    assert refusal.seconds == 0.1


def test_pages_in_a_row_pause_a_host_whatever_the_statuses_say() -> None:
    """Each came with a 200; only content makes up for them."""
    found = breaker()
    for _ in range(2):
        found.succeed(0)
        found.judge(0, content=False)
    assert found.enter(0) is None
    found.judge(0, content=True)
    assert found.healthy
    found = breaker()
    for _ in range(3):
        found.succeed(0)
        found.judge(0, content=False)
    refusal = found.enter(0)
    assert refusal is not None
    assert found.enter(refusal.seconds or 0) is None
    found.succeed(2, placed=True)
    assert found.enter(2) == HostPause(1.0, lasting=False, why="a page came in the place of content")
    found.judge(2, content=True)
    assert found.enter(2) is None
    assert found.enter(2) is None
    assert found.enter(2) is not None


ENDS: dict[str, Callable[[Breaker, float], None]] = {
    "fail": lambda found, now: found.fail(now, "503", placed=True),
    "429": lambda found, now: found.fail(now, "429", placed=True, at_once=True, wait=5.0),
    "succeed": lambda found, now: found.succeed(now, placed=True),
    "leave": lambda found, _: found.leave(),
}
OTHERS: dict[str, Callable[[Breaker, float], None]] = {
    "late": lambda found, now: found.fail(now, "late"),
    "page": lambda found, now: found.judge(now, content=False),
    "content": lambda found, now: found.judge(now, content=True),
}


@given(st.lists(st.sampled_from([*ENDS, *OTHERS, "enter"])), st.sampled_from([0.0, 0.5, 2.0]))
def test_whatever_happens_places_add_up_and_somebody_may_try(moves: list[str], step: float) -> None:
    """No place is lost, and a pause has an end."""
    found, now, out = breaker(), 0.0, 0
    for move in moves:
        now += step
        if move == "enter":
            out += found.enter(now) is None and found.limited
        elif move in OTHERS:
            OTHERS[move](found, now)
        elif out:
            out -= 1
            ENDS[move](found, now)
    for _ in range(out):
        found.leave()
    refusal = found.enter(now)
    if refusal is not None:
        assert refusal.seconds is not None
        assert found.enter(now + refusal.seconds) is None
