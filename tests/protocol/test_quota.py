"""Allowances: what may leave, what waits, what must not leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.errors import ConfigurationError, QuotaExhaustedError
from arena_async.protocol.quota import ClockReading, DailyQuota, Hold, Quota, Reservation, SlidingWindow

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
RESET = START + timedelta(hours=12)


def at(seconds: float = 0.0) -> ClockReading:
    """Return a moment so many seconds after the start, on both clocks."""
    return ClockReading(seconds, START + timedelta(seconds=seconds))


def said(remaining: int | None, resets_at: datetime | None = RESET) -> Quota:
    """Return what an answer said."""
    return Quota(remaining=remaining, resets_at=resets_at)


def fly(limiter: Any, quota: Quota | None = None, *, now: ClockReading | None = None) -> None:
    """Send one request from its booking to its answer."""
    now = now or at()
    reservation = limiter.reserve(now)
    assert isinstance(reservation, Reservation)
    limiter.sent(reservation, now)
    limiter.settle(reservation, quota, now)


def send(limiter: Any, second: float = 0) -> Reservation:
    """Send a request, and return what it was booked as."""
    reservation = limiter.reserve(at(second))
    assert isinstance(reservation, Reservation)
    limiter.sent(reservation, at(second))
    return reservation


class TestDailyAllowance:
    """The allowance of a day."""

    def test_while_the_number_is_unknown_one_flies_alone(self) -> None:
        """The second waits for the first, and its answer opens the gate for as many as are left."""
        limiter = DailyQuota()
        first = limiter.reserve(at())
        assert isinstance(first, Reservation)
        assert limiter.reserve(at()) == Hold(None)
        limiter.sent(first, at())
        limiter.settle(first, said(3), at())
        assert [type(limiter.reserve(at())) for _ in range(4)] == [Reservation, Reservation, Reservation, Hold]

    def test_the_reserve_and_what_is_in_flight_bound_what_leaves(self) -> None:
        """QU03: at 101 left and a reserve of 100 one may leave, and then none."""
        limiter = DailyQuota(reserve=100)
        fly(limiter, said(101))
        reservation = limiter.reserve(at())
        assert isinstance(reservation, Reservation)
        assert limiter.reserve(at()) == Hold(None)
        limiter.sent(reservation, at())
        limiter.settle(reservation, said(100), at())
        with pytest.raises(QuotaExhaustedError) as caught:
            limiter.reserve(at())
        error = caught.value
        assert (error.remaining, error.reserve, error.resets_at, error.status) == (100, 100, RESET, None)

    def test_a_refund_lets_the_next_one_go(self) -> None:
        """What was never written never happened."""
        limiter = DailyQuota()
        fly(limiter, said(1))
        reservation = limiter.reserve(at())
        assert isinstance(reservation, Reservation)
        limiter.settle(reservation, None, at())
        assert isinstance(limiter.reserve(at()), Reservation)

    def test_what_was_sent_without_an_answer_is_spent(self) -> None:
        """QU21: counted here until the service says a number again."""
        limiter = DailyQuota()
        fly(limiter, said(2))
        fly(limiter)
        assert limiter.quota == said(1)

    def test_the_number_never_rises_within_a_window(self) -> None:
        """QU06: answers that overtake each other."""
        limiter = DailyQuota()
        fly(limiter, said(90))
        first, second = send(limiter), send(limiter)
        limiter.settle(second, said(88), at())
        limiter.settle(first, said(89), at())
        assert limiter.quota == said(88)

    def test_it_rises_with_the_answer_to_the_only_request_in_flight(self) -> None:
        """QU24: the service gave the company more; nothing else can be on its way that the number does not have."""
        limiter = DailyQuota()
        fly(limiter, said(5))
        fly(limiter, said(900))
        assert limiter.quota == said(900)

    def test_a_request_without_an_answer_stays_subtracted(self) -> None:
        """QU24: the number of the next answer may not have it yet; that of one sent a minute later has."""
        limiter = DailyQuota(reserve=10)
        fly(limiter, said(13))
        lost, other = send(limiter), send(limiter)
        limiter.settle(lost, None, at(1))
        limiter.settle(other, said(12), at(2))
        assert limiter.quota == said(11)
        fly(limiter, said(11), now=at(59.9))
        with pytest.raises(QuotaExhaustedError) as caught:
            limiter.reserve(at(59.95))
        assert caught.value.remaining == 10

    def test_the_answer_to_one_sent_a_minute_later_has_it(self) -> None:
        """QU24: from then on the number of the service counts again."""
        limiter = DailyQuota(reserve=10)
        fly(limiter, said(14))
        limiter.settle(send(limiter), None, at(1))
        assert limiter.quota == said(13)
        fly(limiter, said(12), now=at(60))
        assert limiter.quota == said(12)
        assert isinstance(limiter.reserve(at(61)), Reservation)

    def test_an_answer_without_a_number_is_in_the_next_that_is_sent(self) -> None:
        """QU24: but not in one that was on its way already."""
        limiter = DailyQuota()
        fly(limiter, said(20))
        silent, other = send(limiter), send(limiter)
        limiter.settle(silent, Quota(), at(1))
        limiter.settle(other, said(19), at(1))
        assert limiter.quota == said(18)
        fly(limiter, said(17), now=at(2))
        assert limiter.quota == said(17)

    def test_those_without_an_answer_close_it_only_with_nothing_in_flight(self) -> None:
        """QU24: an answer that is still to come may settle them; after it, nobody can tell, so nothing is sent."""
        limiter = DailyQuota(reserve=1)
        fly(limiter, said(4))
        lost, other = send(limiter), send(limiter)
        limiter.settle(lost, None, at(1))
        assert isinstance(limiter.reserve(at(1)), Reservation)
        assert limiter.reserve(at(1)) == Hold(None)
        limiter.settle(other, said(2), at(1))
        assert limiter.reserve(at(1)) == Hold(None)

    def test_without_any_number_nothing_is_kept(self) -> None:
        """A service that never states one is asked one request at a time, for ever, in the same memory."""
        limiter = DailyQuota()
        for second in range(100):
            fly(limiter, None, now=at(2 * second))
        fly(limiter, said(50), now=at(300))
        assert limiter.quota == said(50)

    def test_the_services_number_wins_downwards(self) -> None:
        """Others spend from the same allowance."""
        limiter = DailyQuota()
        fly(limiter, said(90))
        fly(limiter, said(7))
        assert limiter.quota == said(7)

    def test_a_later_reset_opens_a_new_window(self) -> None:
        """QU06: and the number may be higher there."""
        limiter = DailyQuota()
        fly(limiter, said(5))
        fly(limiter, said(9999, RESET + timedelta(days=1)))
        assert limiter.quota == said(9999, RESET + timedelta(days=1))

    def test_a_reset_that_wavers_by_seconds_opens_none(self) -> None:
        """QU06: the instant is computed anew for each answer."""
        limiter = DailyQuota()
        fly(limiter, said(5))
        fly(limiter, said(4, RESET + timedelta(seconds=2)))
        assert limiter.quota == said(4)

    def test_an_answer_from_the_window_before_changes_nothing(self) -> None:
        """QU06: it was on its way when the window turned."""
        limiter = DailyQuota()
        later = ClockReading(50_000.0, RESET + timedelta(seconds=5))
        fly(limiter, said(9999, RESET + timedelta(days=1)), now=later)
        limiter.observe(said(0, RESET), later)
        assert limiter.quota == said(9999, RESET + timedelta(days=1))

    def test_once_the_reset_has_passed_one_flies_alone_again(self) -> None:
        """QU20: nobody knows what the new window holds."""
        limiter = DailyQuota()
        fly(limiter, said(0))
        with pytest.raises(QuotaExhaustedError):
            limiter.reserve(at(12 * 3600 - 1))
        assert isinstance(limiter.reserve(at(12 * 3600)), Reservation)
        assert limiter.reserve(at(12 * 3600)) == Hold(None)

    def test_a_reset_in_the_past_does_not_open_the_gate(self) -> None:
        """Another clock, or nonsense: the same time of the next day is meant."""
        limiter = DailyQuota()
        fly(limiter, said(0, START - timedelta(days=4000, hours=1)))
        with pytest.raises(QuotaExhaustedError):
            limiter.reserve(at(22 * 3600))
        assert isinstance(limiter.reserve(at(23 * 3600)), Reservation)

    def test_without_any_reset_it_stays_closed_for_a_day(self) -> None:
        """The longest window that is documented."""
        limiter = DailyQuota()
        fly(limiter, said(0, None))
        with pytest.raises(QuotaExhaustedError) as caught:
            limiter.reserve(at(86_399))
        assert caught.value.resets_at is None
        assert isinstance(limiter.reserve(at(86_400)), Reservation)

    def test_the_limit_that_a_login_announced_is_shown(self) -> None:
        """It says nothing about what is left."""
        limiter = DailyQuota()
        assert limiter.quota is None
        limiter.observe(Quota(limit=1000), at())
        assert limiter.quota == Quota(limit=1000)
        limiter.reserve(at())
        assert limiter.reserve(at()) == Hold(None)

    @pytest.mark.parametrize("reserve", [-1, 1.5, True, "100", None])
    def test_a_reserve_that_is_no_number_is_refused(self, reserve: Any) -> None:
        """Before anything is sent."""
        with pytest.raises(ConfigurationError):
            DailyQuota(reserve=reserve)

    @given(
        actions=st.lists(st.sampled_from(["reserve", "sent", "answer", "silence", "refund", "others"]), max_size=200),
        start=st.integers(0, 30),
        reserve=st.integers(0, 10),
    )
    def test_the_reserve_holds_whatever_happens(self, actions: list[str], start: int, reserve: int) -> None:
        """What the service has left falls below the reserve only by what others spend."""
        limiter = DailyQuota(reserve=reserve)
        left, taken = start, 0
        fly(limiter, said(left))
        booked: list[Reservation] = []
        flying: list[Reservation] = []
        for action in actions:
            if action == "reserve":
                try:
                    reservation = limiter.reserve(at())
                except QuotaExhaustedError:
                    continue
                if isinstance(reservation, Reservation):
                    booked.append(reservation)
            elif action == "sent" and booked:
                flying.append(booked.pop())
                limiter.sent(flying[-1], at())
                left -= 1
            elif action in ("answer", "silence") and flying:
                limiter.settle(flying.pop(0), said(max(left, 0)) if action == "answer" else None, at())
            elif action == "refund" and booked:
                limiter.settle(booked.pop(), None, at())
            elif action == "others" and left > 0:
                left, taken = left - 1, taken + 1
            assert left >= min(reserve, start) - taken


class TestSlidingWindow:
    """So many in any minute."""

    def test_no_more_than_the_limit_leaves_in_a_window(self) -> None:
        """QU15: the next one waits until the oldest is over."""
        limiter = SlidingWindow(limit=2)
        fly(limiter, now=at(0))
        fly(limiter, now=at(10))
        assert limiter.reserve(at(11)) == Hold(49.0)
        fly(limiter, now=at(60))
        assert limiter.reserve(at(61)) == Hold(9.0)

    def test_whoever_waits_as_long_as_told_finds_room(self) -> None:
        """QU15: sums of fractions are rounded, and no wait may become so short that the clock does not move."""
        limiter, now = SlidingWindow(limit=7), 0.0
        for _ in range(500):
            answer = limiter.reserve(at(now))
            if isinstance(answer, Hold):
                assert answer.seconds is not None
                assert now + answer.seconds > now
                now += answer.seconds
                continue
            limiter.sent(answer, at(now))
            limiter.settle(answer, None, at(now))
            now += 0.1

    def test_a_request_counts_from_when_it_left(self) -> None:
        """A slow connection moves it later, as the service sees it."""
        limiter = SlidingWindow(limit=1)
        reservation = limiter.reserve(at(0))
        assert isinstance(reservation, Reservation)
        assert limiter.reserve(at(5)) == Hold(None)
        limiter.sent(reservation, at(20))
        assert limiter.reserve(at(70)) == Hold(10.0)

    def test_a_refund_makes_room(self) -> None:
        """What never left does not count."""
        limiter = SlidingWindow(limit=1)
        reservation = limiter.reserve(at(0))
        assert isinstance(reservation, Reservation)
        limiter.settle(reservation, None, at())
        assert isinstance(limiter.reserve(at(0)), Reservation)

    @pytest.mark.parametrize(("limit", "seconds"), [(0, 60), (-1, 60), (True, 60), (1.5, 60), (1, 0), (1, -1)])
    def test_a_limit_that_lets_nothing_out_is_refused(self, limit: Any, seconds: float) -> None:
        """Before anything is sent."""
        with pytest.raises(ConfigurationError):
            SlidingWindow(limit=limit, seconds=seconds)

    @given(pauses=st.lists(st.floats(0, 30), max_size=80), limit=st.integers(1, 5))
    def test_in_no_minute_more_than_the_limit_is_sent(self, pauses: list[float], limit: int) -> None:
        """QU15: wherever the minute begins."""
        limiter = SlidingWindow(limit=limit)
        now, sent = 0.0, []
        for pause in pauses:
            now += pause
            while isinstance(answer := limiter.reserve(at(now)), Hold):
                assert answer.seconds is not None
                now += answer.seconds + 1e-6
            limiter.sent(answer, at(now))
            sent.append(now)
        for one in sent:
            assert sum(one <= other < one + 60 for other in sent) <= limit
