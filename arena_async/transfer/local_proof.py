"""What reading local files again shows: whether they are the listed or the recorded ones, which costs no request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from arena_async.errors import StorageError
from arena_async.transfer.context import Context
from arena_async.transfer.directory import Directory
from arena_async.transfer.filesystem import Proceed
from arena_async.transfer.final_files import Read, digest, read_final, recorded_state
from arena_async.transfer.models import Action, FileState, LedgerEntry
from arena_async.transfer.outcomes import as_error
from arena_async.transfer.partial_file import TAIL, FoundPartial, drop_partial
from arena_async.transfer.planner import Decision, PlannedRow, decide
from arena_async.transfer.verify import ContentVerifier, VerificationResult

__all__ = ["Verification", "Verified", "compare", "drop_copies", "is_copy", "prove"]


def prove(
    proceed: Proceed, context: Context, planned: Sequence[tuple[PlannedRow, Decision, bool]]
) -> list[tuple[PlannedRow, Decision, bool]]:
    """
    Return the rows of a page with those decided again whose local file had to be read.

    Args:
        proceed: Called before each block is read; raises to end it.
        context: The directory.
        planned: What was decided without reading.
    """
    times: list[tuple[LedgerEntry, int]] = []
    proved = [step if not step[1].proof else _prove(context, step, proceed, times) for step in planned]
    context.ledger.retime(times)
    return proved


def drop_copies(context: Context, entry: LedgerEntry) -> None:
    """
    Remove the partial files of a complete file that are not in use and begin as it does.

    Such files are left by a process that was killed while another one completed the file. Never raises: what cannot be
    read stays.
    """
    if context.partials.may_resume(entry.key):
        with contextlib.suppress(StorageError):
            for name, found in context.partials.of_key(entry.key):
                if isinstance(found, FoundPartial) and is_copy(context.directory, found, entry):
                    drop_partial(context.directory, name)


def is_copy(directory: Directory, partial: FoundPartial, entry: LedgerEntry) -> bool:
    """
    Return whether a partial file has the size of a complete one, and the same bytes before its recorded end.

    Raises:
        StorageError: The disk failed.
    """
    end, tail = partial.marks[-1]
    there = digest(directory, entry.path, start=max(0, end - TAIL), until=end)
    return partial.total in (None, entry.size) and there is not None and (there[0], there[1].size) == (tail, entry.size)


def _prove(
    context: Context,
    step: tuple[PlannedRow, Decision, bool],
    proceed: Proceed,
    times: list[tuple[LedgerEntry, int]],
) -> tuple[PlannedRow, Decision, bool]:
    """Decide again about one row, by what the local file holds."""
    row, decision, clear = step
    try:
        if decision.proof == "content":
            kept = _adopt(context, row, proceed)
        else:
            kept = _is_recorded(context, row, proceed, times)
    except StorageError as error:
        # A read that failed proves nothing, and costs no request.
        return attrs.evolve(row, rejected=as_error(error, file=row.key)), Decision(Action.FETCH), False
    if kept:
        return row, Decision(Action.KEEP), clear
    changed = FileState(size=-1, mtime_ns=0)
    return row, decide(row.file, row.entry, changed, path=row.path), clear


def _is_recorded(context: Context, row: PlannedRow, proceed: Proceed, times: list[tuple[LedgerEntry, int]]) -> bool:
    """Return whether the local file has the recorded digest, and note its time then."""
    state = None if row.entry is None else recorded_state(context.directory, row.entry, proceed)
    if row.entry is not None and state is not None:
        times.append((row.entry, state.mtime_ns))
    return state is not None


def _adopt(context: Context, row: PlannedRow, proceed: Proceed) -> bool:
    """Return whether the local file is the listed one by its own content, and write its row then."""
    file = row.file
    verifier = ContentVerifier(
        name=row.path,
        extension=file.extension,
        length=file.size,
        listed_md5=file.md5,
        listed_sha256=file.sha256,
        digest=context.options.digest,
        clock=context.clock.monotonic,
    )

    def verified(blocks: Iterator[bytes], read: Read) -> VerificationResult:
        for block in blocks:
            verifier.feed(block)
        return verifier.finish(read)

    found = read_final(context.directory, row.path, verified, proceed)
    if found is None or found[0].problem is not None or found[0].verified_by in ("length", "none"):
        return False
    result, state = found
    entry = LedgerEntry(
        key=row.key,
        path=row.path,
        size=state.size,
        mtime_ns=state.mtime_ns,
        change=file.change,
        sha256=result.sha256,
        md5=result.md5,
        verified_by=result.verified_by,
        name=file.name,
        at=context.clock.now(),
    )
    context.ledger.write([entry])
    return True


@attrs.frozen(kw_only=True)
class Verified:
    """
    One file that is not as it was written down.

    Args:
        key: Its key.
        path: Where it lies, or should.
        expected: What the ledger says: SHA-256 in hexadecimal, or a size in bytes.
        actual: What is there, or None.
    """

    key: str
    path: Path
    expected: str | int | None = None
    actual: str | int | None = None


@attrs.frozen(kw_only=True)
class Verification:
    """
    What reading all complete files again has shown.

    Args:
        ok: Files whose digest is the one in the ledger.
        changed: Files with other content. They are fetched again by the next sync.
        missing: Files that are not there. They are fetched again by the next sync.
        unknown: Files that are there and of the right size, without a digest in the ledger to compare with.
    """

    ok: int = 0
    changed: tuple[Verified, ...] = ()
    missing: tuple[Verified, ...] = ()
    unknown: tuple[Verified, ...] = ()

    @property
    def bad(self) -> tuple[Verified, ...]:
        """The changed and the missing ones."""
        return self.changed + self.missing


def compare(proceed: Proceed, context: Context, entry: LedgerEntry) -> tuple[str, Verified, FileState | None]:
    """Read one file and compare it with its entry. For a thread."""
    path = context.root / entry.path
    read = digest(context.directory, entry.path, proceed)
    if read is None:
        return "missing", Verified(key=entry.key, path=path, expected=entry.sha256 or entry.size), None
    actual, state = read
    if state.size != entry.size:
        return "changed", Verified(key=entry.key, path=path, expected=entry.size, actual=state.size), state
    if entry.sha256 is None:
        return "unknown", Verified(key=entry.key, path=path, actual=actual), state
    row = Verified(key=entry.key, path=path, expected=entry.sha256, actual=actual)
    return ("ok" if actual == entry.sha256 else "changed"), row, state
