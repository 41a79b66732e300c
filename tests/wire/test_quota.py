"""Allowances: what may leave, what waits, what must not leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.errors import ConfigurationError, QuotaExhaustedError
from arena_async.wire.quota import DailyAllowance, Hold, Moment, Quota, SlidingWindow, Ticket

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
RESET = START + timedelta(hours=12)


def at(seconds: float = 0.0) -> Moment:
    """Give a moment so many seconds after the start, on both clocks."""
    return Moment(seconds, START + timedelta(seconds=seconds))


def said(remaining: int | None, resets_at: datetime | None = RESET) -> Quota:
    """Give what an answer said."""
    return Quota(remaining=remaining, resets_at=resets_at)


def fly(gate: Any, quota: Quota | None = None, *, now: Moment | None = None) -> None:
    """Send one request from its booking to its answer."""
    now = now or at()
    ticket = gate.reserve(now)
    assert isinstance(ticket, Ticket)
    gate.sent(ticket, now)
    gate.settle(ticket, quota, now)


class TestDailyAllowance:
    """The allowance of a day."""

    def test_while_the_number_is_unknown_one_flies_alone(self) -> None:
        """The second waits for the first, and its answer opens the gate for as many as are left."""
        gate = DailyAllowance()
        first = gate.reserve(at())
        assert isinstance(first, Ticket)
        assert gate.reserve(at()) == Hold(None)
        gate.sent(first, at())
        gate.settle(first, said(3), at())
        assert [type(gate.reserve(at())) for _ in range(4)] == [Ticket, Ticket, Ticket, Hold]

    def test_the_reserve_and_what_is_in_flight_bound_what_leaves(self) -> None:
        """QU03: at 101 left and a reserve of 100 one may leave, and then none."""
        gate = DailyAllowance(reserve=100)
        fly(gate, said(101))
        ticket = gate.reserve(at())
        assert isinstance(ticket, Ticket)
        assert gate.reserve(at()) == Hold(None)
        gate.sent(ticket, at())
        gate.settle(ticket, said(100), at())
        with pytest.raises(QuotaExhaustedError) as caught:
            gate.reserve(at())
        error = caught.value
        assert (error.remaining, error.reserve, error.resets_at, error.status) == (100, 100, RESET, None)

    def test_a_refund_lets_the_next_one_go(self) -> None:
        """What was never written never happened."""
        gate = DailyAllowance()
        fly(gate, said(1))
        ticket = gate.reserve(at())
        assert isinstance(ticket, Ticket)
        gate.refund(ticket)
        assert isinstance(gate.reserve(at()), Ticket)

    def test_what_was_sent_without_an_answer_is_spent(self) -> None:
        """QU21: counted here until the service says a number again."""
        gate = DailyAllowance()
        fly(gate, said(2))
        fly(gate)
        assert gate.quota == said(1)

    def test_the_number_never_rises_within_a_window(self) -> None:
        """QU06: answers that overtake each other."""
        gate = DailyAllowance()
        for number in (90, 88, 89):
            fly(gate, said(number))
        assert gate.quota == said(88)

    def test_the_services_number_wins_downwards(self) -> None:
        """Others spend from the same allowance."""
        gate = DailyAllowance()
        fly(gate, said(90))
        fly(gate, said(7))
        assert gate.quota == said(7)

    def test_a_later_reset_opens_a_new_window(self) -> None:
        """QU06: and the number may be higher there."""
        gate = DailyAllowance()
        fly(gate, said(5))
        fly(gate, said(9999, RESET + timedelta(days=1)))
        assert gate.quota == said(9999, RESET + timedelta(days=1))

    def test_a_reset_that_wavers_by_seconds_opens_none(self) -> None:
        """QU06: the instant is computed anew for each answer."""
        gate = DailyAllowance()
        fly(gate, said(5))
        fly(gate, said(6, RESET + timedelta(seconds=2)))
        assert gate.quota == said(5)

    def test_an_answer_from_the_window_before_changes_nothing(self) -> None:
        """QU06: it was on its way when the window turned."""
        gate = DailyAllowance()
        later = Moment(50_000.0, RESET + timedelta(seconds=5))
        fly(gate, said(9999, RESET + timedelta(days=1)), now=later)
        gate.observe(said(0, RESET), later)
        assert gate.quota == said(9999, RESET + timedelta(days=1))

    def test_once_the_reset_has_passed_one_flies_alone_again(self) -> None:
        """QU20: nobody knows what the new window holds."""
        gate = DailyAllowance()
        fly(gate, said(0))
        with pytest.raises(QuotaExhaustedError):
            gate.reserve(at(12 * 3600 - 1))
        assert isinstance(gate.reserve(at(12 * 3600)), Ticket)
        assert gate.reserve(at(12 * 3600)) == Hold(None)

    def test_a_reset_in_the_past_does_not_open_the_gate(self) -> None:
        """Another clock, or nonsense: the same time of the next day is meant."""
        gate = DailyAllowance()
        fly(gate, said(0, START - timedelta(days=4000, hours=1)))
        with pytest.raises(QuotaExhaustedError):
            gate.reserve(at(22 * 3600))
        assert isinstance(gate.reserve(at(23 * 3600)), Ticket)

    def test_without_any_reset_it_stays_closed_for_a_day(self) -> None:
        """The longest window that is documented."""
        gate = DailyAllowance()
        fly(gate, said(0, None))
        with pytest.raises(QuotaExhaustedError) as caught:
            gate.reserve(at(86_399))
        assert caught.value.resets_at is None
        assert isinstance(gate.reserve(at(86_400)), Ticket)

    def test_a_closed_gate_holds_everybody(self) -> None:
        """A later moment wins over an earlier one."""
        gate = DailyAllowance()
        gate.close_until(30.0)
        gate.close_until(20.0)
        assert gate.reserve(at(10)) == Hold(20.0, told=True)
        assert isinstance(gate.reserve(at(30)), Ticket)

    def test_the_limit_that_a_login_announced_is_shown(self) -> None:
        """It says nothing about what is left."""
        gate = DailyAllowance()
        assert gate.quota is None
        gate.observe(Quota(limit=1000), at())
        assert gate.quota == Quota(limit=1000)
        gate.reserve(at())
        assert gate.reserve(at()) == Hold(None)

    @pytest.mark.parametrize("reserve", [-1, 1.5, True, "100", None])
    def test_a_reserve_that_is_no_number_is_refused(self, reserve: Any) -> None:
        """Before anything is sent."""
        with pytest.raises(ConfigurationError):
            DailyAllowance(reserve=reserve)

    @given(
        actions=st.lists(st.sampled_from(["reserve", "sent", "answer", "silence", "refund", "others"]), max_size=200),
        start=st.integers(0, 30),
        reserve=st.integers(0, 10),
    )
    def test_the_reserve_holds_whatever_happens(self, actions: list[str], start: int, reserve: int) -> None:
        """What the service has left falls below the reserve only by what others spend."""
        gate = DailyAllowance(reserve=reserve)
        left, taken = start, 0
        fly(gate, said(left))
        booked: list[Ticket] = []
        flying: list[Ticket] = []
        for action in actions:
            if action == "reserve":
                try:
                    ticket = gate.reserve(at())
                except QuotaExhaustedError:
                    continue
                if isinstance(ticket, Ticket):
                    booked.append(ticket)
            elif action == "sent" and booked:
                flying.append(booked.pop())
                gate.sent(flying[-1], at())
                left -= 1
            elif action in ("answer", "silence") and flying:
                gate.settle(flying.pop(0), said(max(left, 0)) if action == "answer" else None, at())
            elif action == "refund" and booked:
                gate.refund(booked.pop())
            elif action == "others" and left > 0:
                left, taken = left - 1, taken + 1
            assert left >= min(reserve, start) - taken


class TestSlidingWindow:
    """So many in any minute."""

    def test_no_more_than_the_limit_leaves_in_a_window(self) -> None:
        """QU15: the next one waits until the oldest is over."""
        gate = SlidingWindow(limit=2)
        fly(gate, now=at(0))
        fly(gate, now=at(10))
        assert gate.reserve(at(11)) == Hold(49.0)
        fly(gate, now=at(60))
        assert gate.reserve(at(61)) == Hold(9.0)

    def test_whoever_waits_as_long_as_told_finds_room(self) -> None:
        """QU15: sums of fractions are rounded, and no wait may become so short that the clock does not move."""
        gate, now = SlidingWindow(limit=7), 0.0
        for _ in range(500):
            answer = gate.reserve(at(now))
            if isinstance(answer, Hold):
                assert answer.seconds is not None
                assert now + answer.seconds > now
                now += answer.seconds
                continue
            gate.sent(answer, at(now))
            gate.settle(answer, None, at(now))
            now += 0.1

    def test_a_request_counts_from_when_it_left(self) -> None:
        """A slow connection moves it later, as the service sees it."""
        gate = SlidingWindow(limit=1)
        ticket = gate.reserve(at(0))
        assert isinstance(ticket, Ticket)
        assert gate.reserve(at(5)) == Hold(None)
        gate.sent(ticket, at(20))
        assert gate.reserve(at(70)) == Hold(10.0)

    def test_a_refund_makes_room(self) -> None:
        """What never left does not count."""
        gate = SlidingWindow(limit=1)
        ticket = gate.reserve(at(0))
        assert isinstance(ticket, Ticket)
        gate.refund(ticket)
        assert isinstance(gate.reserve(at(0)), Ticket)

    def test_a_retry_after_closes_it(self) -> None:
        """QU07: for everybody."""
        gate = SlidingWindow(limit=5)
        gate.close_until(17.0)
        assert gate.reserve(at(7)) == Hold(10.0, told=True)
        assert isinstance(gate.reserve(at(17)), Ticket)

    @pytest.mark.parametrize(("limit", "seconds"), [(0, 60), (-1, 60), (True, 60), (1.5, 60), (1, 0), (1, -1)])
    def test_a_limit_that_lets_nothing_out_is_refused(self, limit: Any, seconds: float) -> None:
        """Before anything is sent."""
        with pytest.raises(ConfigurationError):
            SlidingWindow(limit=limit, seconds=seconds)

    @given(pauses=st.lists(st.floats(0, 30), max_size=80), limit=st.integers(1, 5))
    def test_in_no_minute_more_than_the_limit_is_sent(self, pauses: list[float], limit: int) -> None:
        """QU15: wherever the minute begins."""
        gate = SlidingWindow(limit=limit)
        now, sent = 0.0, []
        for pause in pauses:
            now += pause
            while isinstance(answer := gate.reserve(at(now)), Hold):
                assert answer.seconds is not None
                now += answer.seconds + 1e-6
            gate.sent(answer, at(now))
            sent.append(now)
        for one in sent:
            assert sum(one <= other < one + 60 for other in sent) <= limit
