"""What is decided about files, places, failures and plans, without touching anything."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async import Action, Plan, PlannedFile
from arena_async.errors import (
    ApiError,
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    ConflictError,
    ContentError,
    DeadlineError,
    DestinationBusyError,
    DiskFullError,
    IntegrityError,
    LinkExpiredError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    ServerError,
    SourceChangedError,
    StalledError,
    StorageError,
    ThrottledError,
    TlsError,
    TransportError,
    UnsafeNameError,
    UnsafeUrlError,
)
from arena_async.protocol.filenames import duplicate_key, layout_problem
from arena_async.protocol.filenames import duplicate_path as collision_path
from arena_async.protocol.filenames import target_path as place
from arena_async.protocol.files import Cost, RemoteFile
from arena_async.protocol.messages import Secret
from arena_async.transfer.duplicates import is_newer
from arena_async.transfer.models import FileState
from arena_async.transfer.models import LedgerEntry as Entry
from arena_async.transfer.planner import (
    Move,
    Tries,
    decide,
    decide_retry,
    is_same_content,
)

FILE = RemoteFile(
    key="arena/1/a",
    service="arena",
    tenant="https://api.example:443 7",
    parts=("arena", "extracts"),
    stem="a",
    extension=".zip",
    name="A.zip",
    change="c1",
    fields={"extract": "e1", "run": "r1"},
)
ENTRY = Entry(key=FILE.key, path="arena/extracts/a.zip", size=10, mtime_ns=77, change="c1")
THERE = FileState(size=10, mtime_ns=77)


@pytest.mark.parametrize(
    ("file", "entry", "on_disk", "action"),
    [
        ({}, None, None, Action.FETCH),
        ({}, None, THERE, Action.FETCH),
        ({}, {}, THERE, Action.KEEP),
        ({}, {"state": "committing"}, THERE, Action.KEEP),
        ({}, {}, None, Action.FETCH),
        ({}, {}, FileState(size=11, mtime_ns=77), Action.REFRESH),
        ({}, {}, FileState(size=10, mtime_ns=78), Action.REFRESH),
        ({"change": "c2"}, {}, THERE, Action.REFRESH),
        ({"change": ""}, {"change": ""}, THERE, Action.KEEP),
        ({}, {"path": "elsewhere/a.zip"}, THERE, Action.FETCH),
        ({"skip": "no content"}, None, None, Action.SKIP),
        ({"skip": "no content"}, {}, THERE, Action.KEEP),
        ({"skip": "no content"}, {}, None, Action.SKIP),
        ({"skip": "no content", "change": "c2"}, {}, THERE, Action.SKIP),
        ({"skip": "no content"}, {}, FileState(size=11, mtime_ns=77), Action.SKIP),
        ({}, {"state": "skipped", "reason": "not yours"}, None, Action.FETCH),
        ({}, {"state": "skipped"}, THERE, Action.FETCH),
    ],
)
def test_a_file_is_kept_only_with_proof(
    file: dict[str, Any], entry: dict[str, Any] | None, on_disk: FileState | None, action: Action
) -> None:
    """Known, unchanged at the service, untouched on the disk, at the same place: all four, or it is fetched."""
    known = None if entry is None else attrs.evolve(ENTRY, **entry)

    decision = decide(attrs.evolve(FILE, **file), known, on_disk, path="arena/extracts/a.zip")

    assert decision.action is action


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"name": "another"}, True),
        ({"change": "2"}, False),
        ({"size": 6}, False),
        ({"size": None}, False),
        ({"link": Secret("https://h/a?sig=2")}, True),
        ({"link": Secret("https://h/b?sig=1")}, False),
        ({"link": Secret("https://other/a?sig=1")}, False),
        ({"link": None}, True),
    ],
)
def test_a_fresh_entry_is_of_the_same_content_by_its_mark_its_size_and_its_place(
    changes: dict[str, Any], *, same: bool
) -> None:
    """TR29: what came is continued only then; that the link is signed anew says nothing."""
    old = RemoteFile(
        key="k", service="s", tenant="t", parts=(), stem="a", size=5, change="1", link=Secret("https://h/a?sig=1")
    )

    assert is_same_content(attrs.evolve(old, **changes), old) is same


def test_the_newer_row_is_told_by_its_change_mark() -> None:
    """The vendor's name only decides between rows of the same change mark."""
    assert is_newer("2024-05-02|b", "b", than=("2024-05-01|z", "z"))
    assert not is_newer("2024-05-01|z", "z", than=("2024-05-02|b", "b"))
    assert is_newer("", "b", than=("", "a"))
    assert not is_newer("", "a", than=("", "a"))


# ------------------------------------------------------------------------------------------------------------- places


def test_the_documented_layout_is_used_without_a_template() -> None:
    """Folders, stem and extension come from the file."""
    assert place(FILE) == "arena/extracts/a.zip"


def test_a_template_is_filled_with_identifying_fields() -> None:
    """Each component is filled on its own."""
    assert place(FILE, "{service}/{extract}-{run}/{stem}.zip") == "arena/e1-r1/a.zip"


def test_a_field_cannot_leave_its_component() -> None:
    """NM14: what comes from data is cleaned after it was filled in."""
    hostile = attrs.evolve(FILE, fields={"extract": "../../etc", "run": "/"})

    path = PurePosixPath(place(hostile, "{extract}/{run}/{stem}.zip"))

    assert len(path.parts) == 3
    assert not path.is_absolute()
    assert ".." not in path.parts


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ("{extract!r}/x", "more than the name"),
        ("{extract.__class__}", "more than the name"),
        ("{extract[0]}", "more than the name"),
        ("{extract:>10}", "more than the name"),
        ("{}", "more than the name"),
        ("{extract", "cannot be read"),
        ("../{extract}", "empty folder"),
        ("/{extract}", "empty folder"),
        ("a//{extract}", "empty folder"),
        ("fixed.zip", "no field"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(layout: str, says: str) -> None:
    """It is refused before anything is fetched."""
    assert says in (layout_problem(layout) or "")
    with pytest.raises(ConfigurationError, match=says):
        place(FILE, layout)


def test_an_unknown_field_names_those_there_are() -> None:
    """The sentence helps to write it right."""
    with pytest.raises(ConfigurationError, match=r"\{subject\}.*extension, extract, run, service, stem"):
        place(FILE, "{subject}/{stem}")


def test_a_twin_gets_its_mark_before_the_extension() -> None:
    """The mark is of the vendor's name, so it is the same on every run."""
    path = collision_path("s/d.csv.gz", "old_export.csv.gz", ".csv.gz")

    assert path == "s/d~1036be03.csv.gz"
    assert duplicate_key("k", "old_export.csv.gz") == "k~1036be03"


# ----------------------------------------------------------------------------------------------------------- failures


def judge(error: Exception, tries: Tries | None = None, **facts: Any) -> Any:
    """Judge with half of every wait."""
    given = {"attempts": 5, "random": lambda: 0.5, **facts}
    return decide_retry(error, tries or Tries(sent=1, without_progress=1), **given)


@pytest.mark.parametrize(
    ("error", "facts", "move", "stop", "drop"),
    [
        (TransportError("x"), {}, Move.AGAIN, None, False),
        (StalledError("x"), {}, Move.AGAIN, None, False),
        (DeadlineError("x"), {}, Move.AGAIN, None, False),
        (ServerError("x", status=503, transient=True), {}, Move.AGAIN, None, False),
        (ApiError("x", status=400, transient=True), {}, Move.AGAIN, None, False),
        (ThrottledError("x", status=429), {}, Move.AGAIN, None, False),
        (IntegrityError("cut"), {"missing": True}, Move.AGAIN, None, False),
        (ServerError("x", status=501), {}, Move.GIVE_UP, None, False),
        (ApiError("x", status=400, code=1), {}, Move.GIVE_UP, None, False),
        (ConflictError("x", status=409), {}, Move.GIVE_UP, None, False),
        (NotFoundError("x", status=404), {}, Move.GIVE_UP, None, True),
        (TlsError("x"), {}, Move.GIVE_UP, None, False),
        (UnsafeUrlError("x"), {}, Move.GIVE_UP, None, False),
        (ValueError("x"), {}, Move.GIVE_UP, None, False),
        (MemoryError(), {}, Move.GIVE_UP, None, False),
        (IntegrityError("digest"), {}, Move.CORRUPT, None, True),
        (ContentError("html"), {}, Move.GIVE_UP, None, True),
        (SourceChangedError("x"), {}, Move.RESTART, None, True),
        (LinkExpiredError("x"), {}, Move.RENEW, None, False),
        (PermissionDeniedError("x", status=403), {"linked": True}, Move.RENEW, None, False),
        (PermissionDeniedError("x", status=403), {}, Move.GIVE_UP, None, False),
        (AuthenticationError("x", stale_login=True, transient=True), {}, Move.AGAIN, None, False),
        (AuthenticationError("x", stale_login=True), {}, Move.GIVE_UP, "service", False),
        (QuotaExhaustedError("x"), {}, Move.GIVE_UP, "service", False),
        (ClosedError("x"), {}, Move.GIVE_UP, "service", False),
        (DiskFullError("x"), {}, Move.GIVE_UP, "disk", False),
        (StorageError("x"), {}, Move.GIVE_UP, "disk", False),
        (DestinationBusyError("x"), {}, Move.GIVE_UP, None, False),
        (UnsafeNameError("x"), {}, Move.GIVE_UP, None, False),
    ],
)
def test_each_failure_has_its_move(
    error: Exception, facts: dict[str, Any], move: Move, stop: str | None, *, drop: bool
) -> None:
    """The first time it happens."""
    recovery = judge(error, **facts)

    assert (recovery.move, recovery.stop, recovery.drop) == (move, stop, drop)


@pytest.mark.parametrize(
    ("error", "tries", "facts"),
    [
        (TransportError("x"), Tries(sent=5, without_progress=5), {}),
        (TransportError("x"), Tries(sent=50, without_progress=1), {}),
        (SourceChangedError("x"), Tries(sent=3, restarts=2), {}),
        (SourceChangedError("x"), Tries(sent=2, restarts=1), {"whole": True}),
        (IntegrityError("x"), Tries(sent=2, corrupt=1), {}),
        (LinkExpiredError("x"), Tries(sent=4, renewals=3), {}),
        (PermissionDeniedError("x"), Tries(sent=4, renewals=3), {"linked": True}),
        (AuthenticationError("x", stale_login=True, transient=True), Tries(sent=2, logins=1), {}),
        (ThrottledError("x", retry_after=301.0), Tries(sent=1, without_progress=1), {}),
        (LinkExpiredError("x"), Tries(sent=50), {}),
    ],
)
def test_each_patience_has_an_end(error: Exception, tries: Tries, facts: dict[str, Any]) -> None:
    """What was tried often enough is not tried again."""
    assert judge(error, tries, **facts).move is Move.GIVE_UP


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR])
def test_a_folder_that_is_forbidden_does_not_stop_the_others(code: int) -> None:
    """The system said something about one place, not about the disk."""
    error = StorageError("x")
    error.__cause__ = OSError(code, "no")

    assert judge(error).stop is None


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC])
def test_a_broken_disk_stops_the_others(code: int) -> None:
    """No other file could be written either."""
    error = StorageError("x")
    error.__cause__ = OSError(code, "no")

    assert judge(error).stop == "disk"


def test_a_wait_grows_and_has_full_jitter() -> None:
    """Between 0 and a bound that doubles; the service's own wish wins when it is longer."""
    waits = [judge(TransportError("x"), Tries(sent=n, without_progress=n)).wait for n in (1, 2, 3, 4)]

    assert waits == [0.75, 1.0, 1.5, 2.5]
    assert judge(TransportError("x"), random=lambda: 0.0).wait == 0.0
    assert judge(ThrottledError("x", retry_after=17.0)).wait == 17.0
    assert judge(ThrottledError("x", retry_after=300.0)).wait == 300.0


def test_a_dead_idle_connection_is_tried_again_at_once_and_once() -> None:
    """The server never saw the request; a second time in a row it is a failure like others."""
    error = TransportError("x", unanswered_reuse=True)

    assert judge(error).wait == 0.0
    assert judge(error, Tries(sent=2, without_progress=2, lost=1)).wait > 0


@pytest.mark.parametrize(
    ("came", "progress", "total", "without_progress"),
    [
        (0, 0, None, 3),
        (1, 1, None, 3),
        (65_535, 65_535, 10**6, 3),
        (65_536, 65_536, 10**6, 0),
        (65_536, 65_536, 10**8, 3),
        (10**6, 10**6, 10**8, 0),
        (10**6, 0, 10**8, 3),
    ],
)
def test_only_real_progress_resets_the_patience(
    came: int, progress: int, total: int | None, without_progress: int
) -> None:
    """TR49: a byte at a time is no progress, nor are bytes that came before."""
    assert (
        Tries(sent=3, without_progress=2).after(received=came, progress=progress, total=total).without_progress
        == without_progress
    )


def test_content_makes_a_new_link_and_a_new_login_possible_again() -> None:
    """The counters of what is asked for once in a row start anew when bytes came."""
    tries = Tries(sent=3, renewals=1, logins=1, lost=1, restarts=1, corrupt=1)

    after = tries.after(received=1, progress=1, total=None)

    assert (after.renewals, after.logins, after.lost, after.restarts, after.corrupt) == (0, 0, 0, 1, 1)


FAILURES = st.sampled_from(
    [
        TransportError("x"),
        TransportError("x", unanswered_reuse=True),
        StalledError("x"),
        ServerError("x", transient=True),
        ThrottledError("x", retry_after=3.0),
        IntegrityError("x"),
        SourceChangedError("x"),
        LinkExpiredError("x"),
        AuthenticationError("x", stale_login=True, transient=True),
    ]
)


@given(st.lists(st.tuples(FAILURES, st.integers(0, 10**6), st.booleans()), min_size=60, max_size=80), st.integers(1, 6))
def test_no_sequence_of_failures_is_asked_for_ever(failures: list[tuple[Exception, int, bool]], attempts: int) -> None:
    """Whatever happens, and however much comes each time, the requests for one file have a bound."""
    tries = Tries()
    for error, came, missing in failures:
        tries = tries.sending().after(received=came, progress=came, total=None)
        move = decide_retry(error, tries, attempts=attempts, missing=missing, linked=True, random=lambda: 0.5).move
        if move is Move.GIVE_UP:
            break
        tries = attrs.evolve(
            tries,
            restarts=tries.restarts + (move is Move.RESTART),
            corrupt=tries.corrupt + (move is Move.CORRUPT),
            renewals=tries.renewals + (move is Move.RENEW),
        )
    assert tries.sent <= 10 * attempts


# --------------------------------------------------------------------------------------------------------------- plans

PLAN = Plan(
    scope="arena/extracts/e1",
    files=(
        PlannedFile(key="k1", action=Action.FETCH, path="a/1.zip", size=10, name="1", extension=".zip", change="c1"),
        PlannedFile(key="k2", action=Action.REFRESH, path="a/2.zip", size=20),
        PlannedFile(key="k3", action=Action.GONE, path="a/3.zip", size=30, reason="it is no longer listed"),
        PlannedFile(key="k4", action=Action.SKIP, path="a/4.zip", reason="no content"),
    ),
    kept=7,
    whole=True,
    cost=Cost(listing=2, per_file=1, remaining=900, reserve=50, resets_at=datetime(2026, 5, 1, 7, tzinfo=UTC)),
    listing=3,
    look_up=1,
    made_at=datetime(2026, 4, 30, 12, tzinfo=UTC),
)


def test_a_plan_counts_what_it_holds() -> None:
    """Files to fetch, bytes and requests."""
    assert PLAN.counts[Action.KEEP] == 7
    assert PLAN.counts[Action.FETCH] == 1
    assert [file.key for file in PLAN.to_fetch] == ["k1", "k2"]
    assert PLAN.bytes_to_fetch == 30
    unknown = attrs.evolve(PLAN, files=(attrs.evolve(PLAN.files[0], size=None),))
    assert unknown.bytes_to_fetch is None


def test_a_plan_says_what_it_costs_step_by_step() -> None:
    """What was spent on the listing, and what carrying it out takes, beside what is left."""
    assert PLAN.steps == {"listing": 3, "look_up": 1, "content": 2}
    assert (PLAN.requests, PLAN.remaining, PLAN.reserve) == (3, 900, 50)
    assert PLAN.resets_at == datetime(2026, 5, 1, 7, tzinfo=UTC)
    assert attrs.evolve(PLAN, look_up=None).requests == 2


@pytest.mark.parametrize(("remaining", "fits"), [(53, True), (52, False), (50, False), (0, False), (None, None)])
def test_a_plan_says_whether_it_fits(remaining: int | None, fits: bool | None) -> None:
    """Into what is left without the reserve; nobody knows where nobody said."""
    assert attrs.evolve(PLAN, cost=attrs.evolve(PLAN.cost, remaining=remaining)).fits is fits


def test_a_plan_of_an_earlier_version_can_be_read() -> None:
    """What it did not know yet is looked up again."""
    data = json.loads(PLAN.to_json())
    for name in ("listing", "look_up"):
        del data[name]
    for row in data["files"]:
        del row["extension"], row["change"]

    plan = Plan.from_json(json.dumps(data))

    assert (plan.listing, plan.look_up, plan.files[0].change) == (0, None, "")


def test_a_plan_is_written_down_and_read_back() -> None:
    """Plain JSON, nothing lost."""
    assert Plan.from_json(PLAN.to_json()) == PLAN
    assert json.loads(PLAN.to_json())["files"][0] == {
        "key": "k1",
        "action": "fetch",
        "path": "a/1.zip",
        "size": 10,
        "name": "1",
        "reason": "",
        "extension": ".zip",
        "change": "c1",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"arena_async_plan": 1}',
        '{"arena_async_plan": 2}',
        PLAN.to_json().replace('"fetch"', '"steal"'),
        PLAN.to_json().replace('"size": 10', '"size": "10"'),
        PLAN.to_json().replace('"kept": 7', '"kept": true'),
    ],
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    """With one error, before anything is done."""
    with pytest.raises(ConfigurationError):
        Plan.from_json(text)
