"""What observers are told, what they may do meanwhile, and what a report says."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
from pathlib import Path

import pytest

from arena_async import Action, Event, Finished, Outcome, Progress, Report, Started
from arena_async.errors import (
    ConfigurationError,
    IntegrityError,
    QuotaExhaustedError,
    StalledError,
    TransferError,
    TransfersFailedError,
)
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Secret
from arena_async.transfer.events import EventEmitter
from arena_async.transfer.outcomes import as_error

FILE = RemoteFile(key="k", service="s", tenant="t", parts=(), stem="a")


def advanced(done: int) -> Progress:
    """Make one event."""
    return Progress(file=FILE, bytes_done=done)


async def test_a_plain_function_is_told_on_the_loop_and_in_order() -> None:
    """At once, so that it may touch what belongs to the loop."""
    reported: list[tuple[Event, int]] = []
    emitter = EventEmitter(lambda event: reported.append((event, threading.get_ident())))

    emitter.emit(Started(file=FILE, action=Action.FETCH))
    emitter.emit(advanced(5))

    assert reported == [
        (Started(file=FILE, action=Action.FETCH), threading.get_ident()),
        (advanced(5), threading.get_ident()),
    ]
    await emitter.aclose()


async def test_a_coroutine_function_is_awaited_one_event_after_the_other() -> None:
    """The order is kept however long each takes."""
    reported: list[Event] = []
    busy = 0

    async def observer(event: Event) -> None:
        nonlocal busy
        busy += 1
        assert busy == 1
        await asyncio.sleep(0)
        reported.append(event)
        busy -= 1

    emitter = EventEmitter(observer)
    for done in range(5):
        emitter.emit(advanced(done))
    await emitter.drain()

    assert reported == [advanced(done) for done in range(5)]
    await emitter.aclose()


async def test_an_observer_that_raises_is_logged_once_and_told_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    """CC11: the transfer does not notice."""
    reported = 0

    def observer(_: Event) -> None:
        nonlocal reported
        reported += 1
        raise ZeroDivisionError

    emitter = EventEmitter(observer)
    for done in range(3):
        emitter.emit(advanced(done))
    await emitter.aclose()

    assert reported == 3
    assert [record.message for record in caplog.records] == [
        "The observer failed; the transfers go on, and it receives further events."
    ]


async def test_a_coroutine_observer_that_raises_or_cancels_itself_is_told_the_rest() -> None:
    """CC11, for coroutine functions."""
    reported: list[int] = []

    async def observer(event: Event) -> None:
        assert isinstance(event, Progress)
        reported.append(event.bytes_done)
        if event.bytes_done == 1:
            raise asyncio.CancelledError
        raise ZeroDivisionError

    emitter = EventEmitter(observer)
    for done in range(3):
        emitter.emit(advanced(done))
    await emitter.aclose()

    assert reported == [0, 1, 2]


async def test_an_observer_that_blocks_once_is_called_on_a_thread_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The loop pays for one event at the most."""
    now = 0.0
    threads: list[int] = []

    def observer(_: Event) -> None:
        nonlocal now
        now += 5.0
        threads.append(threading.get_ident())

    emitter = EventEmitter(observer, clock=lambda: now)
    for done in range(3):
        emitter.emit(advanced(done))
    await emitter.drain()

    assert threads[0] == threading.get_ident()
    assert len(threads) == 3
    assert threads[1] == threads[2] != threads[0]
    assert ["thread of its own" in record.message for record in caplog.records] == [True]
    await emitter.aclose()


async def test_an_observer_that_never_comes_back_does_not_keep_anybody() -> None:
    """What waits is bounded, and the end waits only so long."""
    stuck = asyncio.Event()
    reported: list[Event] = []

    async def observer(event: Event) -> None:
        reported.append(event)
        await stuck.wait()

    emitter = EventEmitter(observer, max_waiting=10, drain_timeout=0.0)
    for done in range(1000):
        emitter.emit(advanced(done))
    await asyncio.sleep(0)
    settled = Finished(outcome=Outcome(FILE, Action.FETCH))
    emitter.emit(settled)
    before = len(reported)
    stuck.set()
    await emitter.drain()

    assert before == 1
    assert len(reported) <= 12
    assert reported[-1] == settled
    await emitter.aclose()


async def test_the_end_does_not_wait_for_an_observer_that_never_comes_back() -> None:
    """It waits only so long."""
    reported: list[Event] = []

    async def observer(event: Event) -> None:
        reported.append(event)
        await asyncio.get_running_loop().create_future()

    emitter = EventEmitter(observer, max_waiting=10, drain_timeout=0.0)
    for done in range(1000):
        emitter.emit(advanced(done))
    await asyncio.sleep(0)

    await emitter.aclose()

    assert len(reported) == 1


async def test_nobody_is_told_after_the_end() -> None:
    """Closing twice is harmless."""
    reported: list[Event] = []
    emitter = EventEmitter(reported.append)
    await emitter.aclose()
    await emitter.aclose()

    emitter.emit(advanced(1))

    assert reported == []


def test_a_report_sums_up() -> None:
    """Failures, bytes and counts."""
    good = Outcome(FILE, Action.FETCH, Path("a"), "length", 1, 100)
    bad = Outcome(FILE, Action.REFRESH, None, "none", 3, 50, StalledError("slow"))
    report = Report(outcomes=(good, bad))

    assert report.failures == (bad,)
    assert report.bytes_written == 150
    assert report.counts[Action.KEEP] == 0


def test_a_clean_report_raises_nothing() -> None:
    """Nothing failed, nothing stopped it."""
    Report(outcomes=(Outcome(FILE, Action.FETCH),)).raise_for_failures()


def test_all_failures_come_in_one_group() -> None:
    """With the error that stopped the run, once, even where it is a file's error too."""
    slow, quota = StalledError("slow"), QuotaExhaustedError("used up")
    report = Report(outcomes=(Outcome(FILE, Action.FETCH, error=slow),), error=quota, not_started=3)

    with pytest.raises(TransfersFailedError, match="1 files failed and 3 were not started") as caught:
        report.raise_for_failures()
    assert caught.value.exceptions == (slow, quota)

    with pytest.raises(TransfersFailedError) as caught:
        Report(outcomes=(Outcome(FILE, Action.FETCH, error=slow),), error=slow).raise_for_failures()
    assert caught.value.exceptions == (slow,)


def test_an_error_of_ours_learns_its_file_and_another_is_wrapped() -> None:
    """An outcome always holds an error of the library's tree."""
    ours = IntegrityError("bad")
    odd = ValueError("https://host/x?sig=secret")

    assert as_error(ours, file="k", attempts=2) is ours
    assert (ours.file, ours.attempts) == ("k", 2)
    wrapped = as_error(odd, file="k")
    assert isinstance(wrapped, TransferError)
    assert "ValueError" in str(wrapped)
    assert "secret" not in str(wrapped)


def test_outcomes_and_events_can_be_pickled_and_show_no_link() -> None:
    """They cross process borders without the link."""
    file = RemoteFile(key="k", service="s", tenant="t", parts=(), stem="a", link=Secret("https://h/x?sig=secret"))
    outcome = Outcome(file, Action.FETCH, Path("a"), error=StalledError("slow"))

    assert "secret" not in repr(Finished(outcome=outcome))
    assert b"secret" not in pickle.dumps(outcome)


async def test_an_observer_left_far_behind_is_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    """One line at the end, no complaint about coroutines that nobody awaited."""

    async def observer(_: Event) -> None:
        await asyncio.get_running_loop().create_future()

    emitter = EventEmitter(observer, drain_timeout=0.0)
    emitter.emit(advanced(1))
    emitter.emit(advanced(2))
    with caplog.at_level(logging.WARNING):
        await emitter.aclose()

    assert "events behind" in caplog.text


async def test_a_file_that_came_home_can_be_read_without_holding_the_loop_up(tmp_path: Path) -> None:
    """In pieces, from the first byte on."""
    (tmp_path / "a").write_bytes(b"0123456789")
    outcome = Outcome(file=FILE, action=Action.FETCH, path=tmp_path / "a")

    assert outcome.ok
    async with outcome.open() as file:
        assert [await file.read(4), await file.read(4), await file.read(4), await file.read(4)] == [
            b"0123",
            b"4567",
            b"89",
            b"",
        ]


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(file=FILE, action=Action.FETCH, path=Path("a"), error=StalledError("it stopped")),
        Outcome(file=FILE, action=Action.SKIP, reason="it has no content"),
        Outcome(file=FILE, action=Action.GONE, path=Path("a"), reason="no longer listed"),
    ],
)
def test_a_file_that_did_not_come_home_says_why_it_cannot_be_read(outcome: Outcome) -> None:
    """Before anything is opened."""
    assert not outcome.ok
    with pytest.raises(ConfigurationError, match=r"it stopped|no content|no longer listed"):
        outcome.open()
