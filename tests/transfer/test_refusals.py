"""What a failed file means for the runs that follow: for whom, until when, and what is requested first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    ContentError,
    IntegrityError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    ServerError,
    SourceChangedError,
    StalledError,
    StorageError,
    TransportError,
)
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Secret
from arena_async.transfer.models import Action
from arena_async.transfer.planner import decide
from arena_async.transfer.refusals import (
    Refusal,
    RefusalKind,
    group_of,
    is_due,
    reason_of,
    refusal_kind,
    renewed,
)

NOW = datetime(2026, 5, 1, 2, tzinfo=UTC)
FILE = RemoteFile(key="arena/w/exports/e/r/f", service="arena", tenant="w", parts=(), stem="f", change="c1")
REFUSAL = Refusal(key=FILE.key, kind="denied", group="arena/w/exports/e/r", change="c1", since=NOW, again=NOW)


@pytest.mark.parametrize(
    ("error", "linked", "kind"),
    [
        (PermissionDeniedError("x", status=403, code=3024), False, "denied"),
        (NotFoundError("x", status=400, code=3028), False, "denied"),
        (ApiError("x", status=400, code=3011), False, "denied"),
        (PermissionDeniedError("x", status=403), False, "failed"),
        (NotFoundError("x", status=404), False, "failed"),
        (NotFoundError("x", status=410), False, "failed"),
        (ApiError("x", status=410), False, "failed"),
        (ApiError("x", status=400), False, "failed"),
        (ApiError("x", status=451), False, "failed"),
        (NotFoundError("x", status=404), True, "failed"),
        (PermissionDeniedError("x", status=403, code=3024), True, "failed"),
        (ContentError("a page"), False, "failed"),
        (SourceChangedError("x"), False, "failed"),
        (ApiError("x", status=400, code=3017, transient=True), False, None),
        (AuthenticationError("x", status=401, code=1), False, None),
        (ApiError("x", status=403, stale_login=True), False, None),
        (ConflictError("x", status=409, code=1), False, None),
        (QuotaExhaustedError("x", status=429), False, None),
        (ServerError("x", status=500), False, None),
        (ApiError("x", status=501), False, None),
        (TransportError("x"), False, None),
        (StalledError("x"), False, None),
        (StorageError("x"), False, None),
    ],
)
def test_what_a_failure_means(error: Exception, *, linked: bool, kind: RefusalKind | None) -> None:
    """A code of the service is about the account, any other rejection may be a gateway's, and the rest may pass."""
    file = attrs.evolve(FILE, link=Secret("https://host/x?sig=s")) if linked else FILE

    assert refusal_kind(error, file, twice=False) == kind


@pytest.mark.parametrize(
    ("change", "twice", "kind"), [("c1", True, "damaged"), ("", True, "failed"), ("c1", False, None)]
)
def test_content_is_called_damaged_when_it_came_twice_and_a_change_can_show(
    change: str, *, twice: bool, kind: RefusalKind | None
) -> None:
    """Without a change mark nobody would ever see that it is right again."""
    assert refusal_kind(IntegrityError("x"), attrs.evolve(FILE, change=change), twice=twice) == kind


def test_the_reason_has_no_address() -> None:
    """Equal reasons are equal, so that they can be counted."""
    error = PermissionDeniedError("GET /files/1/content: status 403, code 3024.", request="GET /files/1/content")

    assert reason_of(error, "a/b.zip") == "status 403, code 3024."
    assert reason_of(IntegrityError("a/b.zip: the zip content is damaged."), "a/b.zip") == "the zip content is damaged."
    assert reason_of(IntegrityError("other"), "a/b.zip") == "other"


@pytest.mark.parametrize(
    ("kind", "failing_for", "delay"),
    [
        ("denied", timedelta(0), timedelta(hours=20)),
        ("denied", timedelta(days=100), timedelta(hours=20)),
        ("failed", timedelta(0), timedelta(0)),
        ("failed", timedelta(days=1), timedelta(hours=12)),
        ("failed", timedelta(days=6), timedelta(days=3)),
        ("failed", timedelta(days=100), timedelta(days=7)),
    ],
)
def test_when_a_file_is_due_again(kind: RefusalKind, failing_for: timedelta, delay: timedelta) -> None:
    """What a service denies after a day; what a gateway rejects in the next run, then less and less often."""
    before = attrs.evolve(REFUSAL, kind=kind, since=NOW - failing_for, tries=3)

    after = renewed(attrs.evolve(REFUSAL, kind=kind), before, now=NOW)

    assert (after.since, after.tries, after.again - NOW) == (NOW - failing_for, 4, delay)


@pytest.mark.parametrize("before", [None, {"kind": "failed"}, {"change": "c0"}, {"since": NOW + timedelta(days=1)}])
def test_a_failure_of_another_kind_content_or_time_begins_anew(before: dict[str, object] | None) -> None:
    """What was counted before was something else, or was written by a clock that went wrong."""
    earlier = None if before is None else attrs.evolve(REFUSAL, tries=9, **{"since": NOW - timedelta(days=9), **before})  # type: ignore[arg-type]

    after = renewed(REFUSAL, earlier, now=NOW)

    assert (after.since, after.tries) == (NOW, 1)


@pytest.mark.parametrize(
    ("kind", "ahead", "due"),
    [
        ("denied", timedelta(seconds=1), False),
        ("denied", timedelta(0), True),
        ("failed", timedelta(days=7), False),
        ("failed", timedelta(days=7, seconds=1), True),
        ("damaged", timedelta(days=-900), False),
    ],
)
def test_a_file_is_due_at_its_time_or_where_no_run_can_have_set_it(
    kind: RefusalKind, ahead: timedelta, *, due: bool
) -> None:
    """A clock that was years ahead once must not keep files away."""
    assert is_due(attrs.evolve(REFUSAL, kind=kind, again=NOW + ahead), NOW) is due


@given(st.lists(st.integers(min_value=1, max_value=40), max_size=30))
def test_whatever_fails_is_requested_once_a_week_at_least(days: list[int]) -> None:
    """However long it has failed, and however seldom runs are."""
    refusal, now = renewed(attrs.evolve(REFUSAL, kind="failed"), None, now=NOW), NOW
    for step in days:
        now += timedelta(days=step)
        refusal = renewed(attrs.evolve(REFUSAL, kind="failed", since=now), refusal, now=now)

        assert now <= refusal.again <= now + timedelta(days=7)


@pytest.mark.parametrize(
    ("kind", "again", "change", "expected"),
    [
        ("denied", 1, "c1", (Action.SKIP, "not yours", False, "")),
        ("denied", 0, "c1", (Action.FETCH, "not yours", False, "arena/w/exports/e/r")),
        ("failed", 1, "c1", (Action.SKIP, "", True, "")),
        ("failed", 0, "c1", (Action.FETCH, "", False, "")),
        (
            "damaged",
            0,
            "c1",
            (Action.SKIP, "its content has not been right since 2026-05-01, and is unchanged: not yours", False, ""),
        ),
        ("denied", 1, "c2", (Action.FETCH, "", False, "")),
        ("failed", 1, "c2", (Action.FETCH, "", False, "")),
        ("damaged", 0, "c2", (Action.FETCH, "", False, "")),
    ],
)
def test_what_is_done_with_a_file_that_failed(
    kind: RefusalKind, again: int, change: str, expected: tuple[Action, str, bool, str]
) -> None:
    """Skipped with its reason, or failed without a request, until it is due or its change mark moves."""
    refusal = attrs.evolve(REFUSAL, kind=kind, reason="not yours", again=NOW + timedelta(hours=again))

    found = decide(attrs.evolve(FILE, change=change), None, None, path="p", refusal=refusal, now=NOW)

    assert (found.action, found.reason, found.error is not None, found.group) == expected


def test_a_file_that_waits_says_since_when_it_fails_and_when_it_is_requested_again() -> None:
    """The error names what happened, how often, until when, and what to do."""
    refusal = attrs.evolve(
        REFUSAL,
        kind="failed",
        reason="status 404.",
        tries=4,
        since=NOW - timedelta(days=9),
        again=NOW + timedelta(days=4),
    )

    found = decide(FILE, None, None, path="p", refusal=refusal, now=NOW)

    assert str(found.error) == (
        "arena/w/exports/e/r/f: it was not requested. It has failed since 2026-04-22, in 4 runs: status 404. It is "
        "requested again after 2026-05-05 02:00 UTC; ask_again (--ask-again) requests it now."
    )
    assert found.again == NOW + timedelta(days=4)


def test_files_of_one_run_are_refused_together() -> None:
    """A key without its last field names them."""
    assert group_of("arena/w/exports/e/r/f") == "arena/w/exports/e/r"
