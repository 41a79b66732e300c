from __future__ import annotations

import inspect
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis.strategies import floats, none

from arena_async.errors import ConfigurationError
from arena_async.options import KIB, MIB, PollPolicy, RetryPolicy, Timeouts, TransferOptions

NOT_NUMBERS: list[Any] = ["5", None, True, float("nan"), float("inf"), -float("inf"), [], 1j]

#: Class, field, the least or greatest value it takes, and the next one it does not.
BOUNDS: list[tuple[type[Any], str, Any, Any]] = [
    (RetryPolicy, "attempts", 1, 0),
    (RetryPolicy, "timeout", 0.001, 0),
    (RetryPolicy, "wait_initial", 0, -0.001),
    (RetryPolicy, "wait_max", 0, -0.001),
    (RetryPolicy, "wait_jitter", 0, -0.001),
    (RetryPolicy, "wait_exp_base", 1, 0.999),
    (Timeouts, "connect", 0.001, 0),
    (Timeouts, "read", 0.001, 0),
    (Timeouts, "pool", 0.001, 0),
    (Timeouts, "slowest_rate", 0, -1),
    (Timeouts, "slowest_over", 0.001, 0),
    (PollPolicy, "every", 0.001, 0),
    (PollPolicy, "timeout", 0.001, 0),
    (TransferOptions, "workers", 1, 0),
    (TransferOptions, "workers", 256, 257),
    (TransferOptions, "max_workers", 8, 7),
    (TransferOptions, "max_workers", 256, 257),
    (TransferOptions, "chunk_size", 64 * KIB, 64 * KIB - 1),
    (TransferOptions, "chunk_size", 64 * MIB, 64 * MIB + 1),
    (TransferOptions, "attempts", 1, 0),
    (TransferOptions, "max_file_size", 0, -1),
    (TransferOptions, "max_rate", 1024, 1023),
]

WHOLE = [
    (RetryPolicy, "attempts"),
    (TransferOptions, "workers"),
    (TransferOptions, "chunk_size"),
    (TransferOptions, "attempts"),
]

NUMBERS = [
    (kind, field.name)
    for kind in (RetryPolicy, Timeouts, PollPolicy, TransferOptions)
    for field in attrs.fields(kind)
    if field.name not in ("max_workers", "durability", "digest", "layout", "max_file_size", "max_rate")
]


@pytest.mark.parametrize(("kind", "name", "good", "bad"), BOUNDS)
def test_a_bound_is_taken_and_the_next_value_is_refused_by_name(
    kind: type[Any], name: str, good: Any, bad: Any
) -> None:
    """The last good value is kept as given; the first bad one is named in the message."""
    assert getattr(kind(**{name: good}), name) == good
    with pytest.raises(ConfigurationError, match=rf"^{kind.__name__}\.{name} is {bad}\b"):
        kind(**{name: bad})


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
def test_what_is_no_finite_number_is_refused_by_name(kind: type[Any], name: str, value: Any) -> None:
    """Text, None, flags, infinities and NaN are told apart from numbers."""
    with pytest.raises(ConfigurationError, match=rf"^{kind.__name__}\.{name} is "):
        kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), WHOLE)
def test_what_is_counted_is_a_whole_number(kind: type[Any], name: str) -> None:
    """There is no half of a worker."""
    with pytest.raises(ConfigurationError, match="whole number"):
        kind(**{name: 100_000.5})


@pytest.mark.parametrize(
    ("name", "value"), [("durability", "always"), ("durability", None), ("digest", "md5"), ("digest", "")]
)
def test_a_choice_that_is_not_offered_is_refused_with_the_offer(name: str, value: Any) -> None:
    """The message names the field and what it takes."""
    with pytest.raises(ConfigurationError, match=rf"^TransferOptions\.{name} is {value!r}; it takes one of '"):
        TransferOptions(**{name: value})


def test_the_longest_interval_is_not_shorter_than_the_first() -> None:
    """Asking more and more often would be the opposite of what is wanted."""
    assert PollPolicy(every=10, max_interval=10).max_interval == 10
    with pytest.raises(ConfigurationError, match=r"^PollPolicy\.max_interval is 9 s and shorter than every, 10 s"):
        PollPolicy(every=10, max_interval=9)


@pytest.mark.parametrize(
    ("policy", "seconds", "polls"),
    [
        # QU13: a run of forty minutes.
        (PollPolicy(), 40 * 60, 18),
        (PollPolicy(), None, 82),
        (PollPolicy(), 0, 1),
        (PollPolicy(), 0.1, 2),
        (PollPolicy(), 5, 2),
        (PollPolicy(), 1e9, 82),
        (PollPolicy(every=60, max_interval=60, timeout=600), None, 11),
        (PollPolicy(every=60, max_interval=60, timeout=600), 90, 3),
        (PollPolicy(every=1, max_interval=1.5, timeout=10), None, 8),
        (PollPolicy(every=1e-6, max_interval=1e-6, timeout=1000), None, 1_000_000_001),
    ],
)
def test_what_a_wait_costs_at_most_is_known_beforehand(policy: PollPolicy, seconds: float | None, polls: int) -> None:
    """In requests, the first and the last question included; and it is known at once, however many they are."""
    assert policy.max_polls(seconds) == polls


@given(
    every=floats(0.5, 100),
    max_interval=floats(1, 10),
    timeout=floats(1, 50_000),
    finished=floats(0, 50_000),
    expected=none() | floats(0, 50_000),
    passed=floats(0, 50_000),
)
@example(every=2.0, max_interval=1.0, timeout=1.0, finished=5e-324, expected=None, passed=0.0)
def test_no_wait_costs_more_than_was_said(
    every: float, max_interval: float, timeout: float, finished: float, expected: float | None, passed: float
) -> None:
    """Whatever is known about earlier runs, and however the intervals fall."""
    policy = PollPolicy(every=every, max_interval=every * max_interval, timeout=timeout)
    now, requested = 0.0, 1
    while now < min(finished, timeout):
        pause = policy.pause(requested, passed=passed + now, expected=expected)
        assert every <= pause <= policy.max_interval
        now, requested = now + min(pause, timeout - now), requested + 1

    assert requested <= policy.max_polls(finished)
    assert requested <= policy.max_polls()


@pytest.mark.parametrize("kind", [RetryPolicy, Timeouts, PollPolicy, TransferOptions])
def test_an_unknown_setting_is_a_type_error(kind: type[Any]) -> None:
    """A misspelt name does not pass silently."""
    with pytest.raises(TypeError, match="atempts"):
        kind(atempts=3)


@pytest.mark.parametrize("kind", [RetryPolicy, Timeouts, PollPolicy, TransferOptions])
def test_settings_are_frozen_values(kind: type[Any]) -> None:
    """They cannot be changed, compare by value, and go to another process."""
    settings = kind()

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(settings, attrs.fields(kind)[0].name, 1)
    assert settings == kind()
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize("kind", [RetryPolicy, Timeouts, PollPolicy, TransferOptions])
def test_every_setting_is_explained(kind: type[Any]) -> None:
    """The docstring has a line for each field."""
    for field in attrs.fields(kind):
        assert f"    {field.name}: " in inspect.cleandoc(kind.__doc__ or "")


def test_the_defaults_are_the_documented_ones() -> None:
    """Changing one of them is a change users must read about."""
    assert attrs.asdict(RetryPolicy()) == {
        "attempts": 5, "timeout": 300.0, "wait_initial": 0.5, "wait_max": 60.0, "wait_jitter": 1.0,
        "wait_exp_base": 2.0,
    }  # fmt: skip
    assert attrs.asdict(Timeouts()) == {
        "connect": 15.0, "read": 60.0, "pool": 60.0, "slowest_rate": 1024.0, "slowest_over": 60.0,
    }  # fmt: skip
    assert attrs.asdict(PollPolicy()) == {"every": 5.0, "max_interval": 300.0, "timeout": 21_600.0}
    assert attrs.asdict(TransferOptions()) == {
        "workers": 8, "max_workers": None, "chunk_size": 1_048_576, "attempts": 5, "durability": "group",
        "digest": "sha256", "layout": None, "max_file_size": None, "max_rate": None,
    }  # fmt: skip
