"""How the protections of the rows about disks, names and crashes are taken away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sabotage import protection

from arena_async.errors import StorageError
from arena_async.transfer import fetching, storage
from arena_async.transfer.planning import Move, Recovery, Tries
from arena_async.transfer.storage import Staged, Storage

# --- full disks -------------------------------------------------------------------------------------------------------


@protection("a full disk is no reason to ask the network again")
def _(patch: pytest.MonkeyPatch) -> None:
    judge = fetching.judge_failure

    def try_again(error: Exception, tries: Tries, **known: Any) -> Recovery:
        if isinstance(error, StorageError):
            return Recovery(move=Move.AGAIN if tries.asked < 3 else Move.GIVE_UP)
        return judge(error, tries, **known)

    patch.setattr(fetching, "judge_failure", try_again)


@protection("what the system says becomes a typed error")
def _(patch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def as_it_came(*_: object, **__: object) -> Iterator[None]:
        yield

    patch.setattr(storage, "_explaining", as_it_came)


@protection("a size that does not fit is seen before it is asked for")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Storage, "check_space", lambda *_, **__: None)


@protection("what could not be forced to the disk is dropped")
def _(patch: pytest.MonkeyPatch) -> None:
    def keep(self: Staged, sync: Callable[[int], None]) -> bool:
        try:
            sync(self._open())
        except OSError as error:
            raise storage._explained(error, self.path, "forced to the disk", file=self.key) from error
        return True

    patch.setattr(Staged, "_force", keep)
