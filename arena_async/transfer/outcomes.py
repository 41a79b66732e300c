"""What became of the files of a run: one outcome for each, and the report over them. Pure."""

from __future__ import annotations

import pickle
import traceback
import zlib
from array import array
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, overload

import attrs

from arena_async.errors import ArenaAsyncError, ConfigurationError, TransferError, TransfersFailedError
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import printable, scrub
from arena_async.transfer.models import Action, Proof

__all__ = ["Outcome", "Outcomes", "Report", "as_error"]

#: Outcomes that a report holds as they are. Of the others, so many are packed together.
_MAX_UNPACKED, _PACKED = 10_000, 256
#: Blocks of packed outcomes that are unpacked at a time.
_MAX_OPEN = 8

#: Actions after which the file lies at its path.
_IN_PLACE = frozenset({Action.FETCH, Action.RESUME, Action.REFRESH, Action.KEEP})


@attrs.frozen
class Outcome:
    """
    What became of one file.

    Args:
        file: The file, without its signed URL.
        action: What was done, or was to be done when ``error`` is set.
        path: Where it lies, or would lie; None where there is no such path.
        verified_by: ``"sha256"``, ``"md5"``, ``"crc"``, ``"length"``, or ``"none"``, which is not verified.
        attempts: Requests that were sent for its content.
        bytes_written: Bytes written to the disk for it in this run.
        error: Why it is not in the directory, or None.
        reason: Why it was skipped, pruned or reported gone, or a notice about the content; else "".
        sha256: The digest of the file in hexadecimal, or None.
        durable: Whether it survives a power loss.
        again_at: When it is requested again (aware), if it was not requested because it has failed for long; or None.
    """

    file: RemoteFile
    action: Action
    _path: Path | str | None = attrs.field(default=None, alias="path")
    verified_by: Proof = "none"
    attempts: int = 0
    bytes_written: int = 0
    error: ArenaAsyncError | None = None
    reason: str = ""
    sha256: str | None = None
    durable: bool = False
    again_at: datetime | None = None

    @property
    def path(self) -> Path | None:
        """Where it lies, or would lie; None where there is no such path."""
        # A run reports many files, and few callers look at each path.
        return None if self._path is None else Path(self._path)

    @property
    def ok(self) -> bool:
        """Whether the file lies at ``path`` now."""
        return self.error is None and self.path is not None and self.action in _IN_PLACE

    def open(self) -> AbstractAsyncContextManager[Any]:
        """
        Open the downloaded file for reading without blocking the event loop (an aiofiles binary file).

        ::

            async with outcome.open() as file:
                while chunk := await file.read(1 << 20):
                    await upload(chunk)

        Raises:
            ConfigurationError: The file was not downloaded; ``error`` or ``reason`` says why.
            FileNotFoundError: It was removed since, when it is entered.
        """
        if self.path is None or not self.ok:
            why = self.error or self.reason or f"it was to be {self.action}"
            raise ConfigurationError(f"{printable(self.file.key)}: there is no file to read: {why}")
        from arena_async.transfer.local_files import open_for_reading  # noqa: PLC0415 - values import no I/O

        return open_for_reading(self.path)


@attrs.define(eq=False)
class Outcomes(Sequence[Outcome]):
    """
    The outcomes of a run, by the position of their files in the listing.

    Beyond 10,000, those without an error are packed, which takes a tenth of the memory, and unpacked when they are
    looked at: looking at all of them takes some 10 µs for each.

    Attributes:
        counts: How many files ended well, by action.
        bytes_written: Bytes written to the disk, those of files that failed included.
    """

    counts: dict[Action, int] = attrs.field(init=False, factory=lambda: dict.fromkeys(Action, 0))
    bytes_written: int = 0
    _numbers: array[int] = attrs.field(init=False, factory=lambda: array("q"))
    _order: Sequence[int] = ()
    _failed: dict[int, Outcome] = attrs.field(init=False, factory=dict)
    _recent: list[Outcome] = attrs.field(init=False, factory=list)
    _blocks: list[bytes] = attrs.field(init=False, factory=list)
    _open: dict[int, list[Outcome]] = attrs.field(init=False, factory=dict)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes with an error."""
        return tuple([self._failed[at] for at in self._order if at in self._failed])

    def add(self, number: int, outcome: Outcome) -> None:
        """Add an outcome; it is seen after the next :meth:`in_order`."""
        self.counts[outcome.action] += outcome.error is None
        if outcome.error is not None:
            self._failed[len(self._numbers)] = outcome
        self.bytes_written += outcome.bytes_written
        self._numbers.append(number)
        self._recent.append(outcome)
        if len(self._recent) == _MAX_UNPACKED + _PACKED:
            block = [one if one.error is None else None for one in self._recent[:_PACKED]]
            self._blocks.append(zlib.compress(pickle.dumps(block), 1))
            del self._recent[:_PACKED]

    def in_order(self) -> Sequence[Outcome]:
        """Return the outcomes by their numbers: a tuple as long as none is packed, else this."""
        order = sorted(range(len(self._numbers)), key=self._numbers.__getitem__)
        if not self._blocks:
            return tuple([self._recent[at] for at in order])
        self._order = array("q", order)
        return self

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, at: int) -> Outcome: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Outcome, ...]: ...
    def __getitem__(self, at: int | slice) -> Outcome | tuple[Outcome, ...]:
        if isinstance(at, slice):
            return tuple([self[one] for one in range(*at.indices(len(self)))])
        at = self._order[at]
        number, within = divmod(at, _PACKED)
        if number >= len(self._blocks):
            return self._recent[at - len(self._blocks) * _PACKED]
        if number not in self._open:
            if len(self._open) == _MAX_OPEN:
                del self._open[next(iter(self._open))]
            self._open[number] = pickle.loads(zlib.decompress(self._blocks[number]))  # noqa: S301 - packed here
        return self._failed.get(at) or self._open[number][within]


@attrs.frozen(kw_only=True)
class Report:
    """
    What became of all files of a run.

    Args:
        outcomes: One for each file with something to report, in the order of the listing; kept files are only
            counted. A tuple up to 10,000; of more, those without an error are held packed, and an index or an
            iteration unpacks them.
        counts: How many files ended well, by action. Every action is a key. ``KEEP`` counts what was listed and is
            in the directory: where only changes were listed, that is fewer than are there.
        not_started: Files that were listed and have no outcome, because the run stopped before.
        requests: Metered requests that were sent, the listing included.
        error: Why the run stopped before its end, or None. Not the failure of a single file.
    """

    outcomes: Sequence[Outcome] = ()
    counts: Mapping[Action, int] = attrs.field(factory=lambda: dict.fromkeys(Action, 0))
    not_started: int = 0
    requests: int = 0
    error: ArenaAsyncError | None = None

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes with an error."""
        if isinstance(self.outcomes, Outcomes):
            return self.outcomes.failures
        return tuple(outcome for outcome in self.outcomes if outcome.error is not None)

    @property
    def bytes_written(self) -> int:
        """Bytes written to the disk, those of files that failed included."""
        if isinstance(self.outcomes, Outcomes):
            return self.outcomes.bytes_written
        return sum(outcome.bytes_written for outcome in self.outcomes)

    def raise_for_failures(self) -> None:
        """
        Raise if anything failed, or if the run stopped before its end.

        Raises:
            TransfersFailedError: It holds one error per file that failed, and the one that stopped the run.
        """
        errors = [outcome.error for outcome in self.failures if outcome.error is not None]
        failed = len(errors)
        if self.error is not None and all(self.error is not error for error in errors):
            errors.append(self.error)
        if not errors:
            return
        left = f" and {self.not_started} were not started" if self.not_started else ""
        raise TransfersFailedError(
            f"{failed} files failed{left}; what is complete stays, and running again takes up the rest", errors
        )


def as_error(error: Exception, *, file: str, attempts: int = 0) -> ArenaAsyncError:
    """Return ``error`` if it is one of ours, else wrap it, so that an outcome always holds one of ours."""
    if isinstance(error, TransferError):
        error.file = error.file or file
        error.attempts = error.attempts or attempts
    if isinstance(error, ArenaAsyncError):
        return error
    # Not chained to it: a foreign error may carry a signed URL in its text.
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return TransferError(
        f"{printable(file)}: it failed with an unexpected {type(error).__name__}{where}: {scrub(str(error))}. This is "
        "a fault of this library or of a file set: please report it.",
        file=file,
        attempts=attempts,
    )
