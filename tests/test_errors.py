from __future__ import annotations

import copy
import pickle
import re
from datetime import UTC, datetime

import pytest

from arena_async import errors
from arena_async.errors import (
    AccountLockedError,
    ApiError,
    ArenaAsyncError,
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    ContentError,
    DecodeError,
    DiskFullError,
    HostPausedError,
    IntegrityError,
    LinkExpiredError,
    ListingError,
    NotAsRequestedError,
    QuotaExhaustedError,
    RunFailedError,
    StorageError,
    ThrottledError,
    TransferError,
    TransfersFailedError,
    TransportError,
)

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

WITH_FIELDS: list[tuple[ArenaAsyncError, dict[str, object]]] = [
    (ConfigurationError("ARENA_EMAIL is not set."), {}),
    (
        TransportError("reset", request="GET /a", attempts=3, sent=True, unanswered_reuse=True),
        {"request": "GET /a", "attempts": 3, "sent": True, "unanswered_reuse": True},
    ),
    (
        ApiError("no", status=400, code=3011, request="GET /a", transient=True, stale_login=True, retry_after=1.5),
        {"status": 400, "code": 3011, "request": "GET /a", "transient": True, "stale_login": True, "retry_after": 1.5},
    ),
    (AccountLockedError("locked", retry_at=NOON, code=4083), {"retry_at": NOON, "code": 4083, "status": None}),
    (
        QuotaExhaustedError("spent", resets_at=NOON, remaining=3, reserve=5, status=429, code=4084),
        {"resets_at": NOON, "remaining": 3, "reserve": 5, "status": 429, "code": 4084},
    ),
    (ThrottledError("slow down", status=429, retry_after=17.0), {"retry_after": 17.0, "status": 429}),
    (HostPausedError("later", retry_after=17.0, lasting=True), {"retry_after": 17.0, "lasting": True, "status": None}),
    (ContentError("a page", page=True, file="k"), {"page": True, "file": "k", "attempts": 0}),
    (DecodeError("odd", problems=["a @ $.b"], request="GET /a"), {"problems": ("a @ $.b",), "request": "GET /a"}),
    (ListingError("shrank", cursor=400, request="GET /a"), {"cursor": 400, "request": "GET /a"}),
    (RunFailedError("failed", run={"status": "FAILED"}), {"run": {"status": "FAILED"}}),
    (NotAsRequestedError("committed", result={"commit": True}), {"result": {"commit": True}}),
    (LinkExpiredError("over", file="centrepoint/1", attempts=2), {"file": "centrepoint/1", "attempts": 2}),
    (
        IntegrityError("short", expected=10, actual=9, file="arena/1", attempts=4),
        {"expected": 10, "actual": 9, "file": "arena/1", "attempts": 4},
    ),
]


def drawn_tree() -> dict[str, str]:
    """Read the tree in the module's docstring: the name of each class and of the one it hangs from."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ((?:│   |    )*)(├── |└── )?([A-Z]\w+Error)\b", line)
        if not found:
            continue
        depth = len(found[1]) // 4 + bool(found[2])
        path[depth:] = [found[3]]
        if depth:
            parents[found[3]] = path[depth - 1]
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    """What a reader sees at the top of the module is what ``except`` will do."""
    public = [getattr(errors, name) for name in errors.__all__]
    real = {
        kind.__name__: next(base.__name__ for base in kind.__mro__[1:] if base in public)
        for kind in public
        if kind is not ArenaAsyncError
    }

    assert drawn_tree() == real


def test_everything_public_here_is_an_error_of_ours() -> None:
    """One ``except ArenaAsyncError`` catches them all."""
    assert all(issubclass(getattr(errors, name), ArenaAsyncError) for name in errors.__all__)
    assert len(errors.__all__) == 33


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_says_what_it_means(name: str) -> None:
    """Each class has a docstring of its own."""
    assert (
        (vars(getattr(errors, name)).get("__doc__") or "")
        .strip()
        .endswith((".", "``exceptions`` holds one error per file."))
    )


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name != "TransfersFailedError"])
def test_every_error_can_be_pickled(name: str) -> None:
    """Class, message and notes survive the way to another process, and the defaults of the fields with them."""
    error = getattr(errors, name)("bom.zip: what happened.")
    error.add_note("seen at noon")

    back = pickle.loads(pickle.dumps(error))

    assert type(back) is type(error)
    assert str(back) == "bom.zip: what happened."
    assert vars(back) == vars(error)
    assert back.__notes__ == ["seen at noon"]


@pytest.mark.parametrize(("error", "fields"), WITH_FIELDS, ids=lambda value: type(value).__name__)
def test_the_fields_of_an_error_survive_pickling_and_copying(error: ArenaAsyncError, fields: dict[str, object]) -> None:
    """Each documented field reads the same before and after."""
    for same in (error, pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(same) is type(error)
        assert str(same) == str(error)
        assert {name: getattr(same, name) for name in fields} == fields


def test_an_error_without_a_message_is_still_printable() -> None:
    """No message is the empty text, not a failure while failing."""
    assert str(ClosedError()) == ""


def group() -> TransfersFailedError:
    """Make a group of three."""
    return TransfersFailedError(
        "3 of 9 files failed",
        [DiskFullError("no room", file="a"), AuthenticationError("rejected"), IntegrityError("short", file="c")],
    )


def test_a_group_can_be_pickled_with_its_errors() -> None:
    """The errors in it come through with their fields."""
    back = pickle.loads(pickle.dumps(group()))

    assert type(back) is TransfersFailedError
    assert back.message == "3 of 9 files failed"
    assert [str(error) for error in back.exceptions] == ["no room", "rejected", "short"]
    assert back.exceptions[2].file == "c"


def test_a_group_splits_into_groups_of_its_own_class() -> None:
    """Both halves can be caught like the whole."""
    storage, rest = group().split(StorageError)

    assert type(storage) is TransfersFailedError
    assert type(rest) is TransfersFailedError
    assert [type(error) for error in storage.exceptions] == [DiskFullError]
    assert [type(error) for error in rest.exceptions] == [AuthenticationError, IntegrityError]
    assert storage.message == "3 of 9 files failed"


def test_except_star_takes_out_what_it_names() -> None:
    """``except*`` hands over a group of this class, and the rest goes on as one."""
    taken: list[BaseException] = []

    with pytest.raises(TransfersFailedError) as rest:  # noqa: PT012 - except* cannot stand anywhere else
        try:
            raise group()
        except* TransferError as part:
            taken.append(part)

    assert [type(part) for part in taken] == [TransfersFailedError]
    assert [type(error) for error in rest.value.exceptions] == [AuthenticationError]


def test_a_group_is_caught_as_ours_and_as_a_group() -> None:
    """A caller who knows only the base, or only the standard library, catches it."""
    assert issubclass(TransfersFailedError, ArenaAsyncError)
    assert issubclass(TransfersFailedError, ExceptionGroup)


def test_an_empty_group_is_refused() -> None:
    """A group of nothing would be a failure without a cause."""
    with pytest.raises(ValueError, match="non-empty"):
        TransfersFailedError("nothing failed", [])
