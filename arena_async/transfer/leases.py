"""
Runs that share a directory: one run of a query at a time, and each file in one run at a time.

::

    take ──▶ no other run of the query ──▶ the lease counts up while the run goes on ──▶ it is removed
      ├────▶ another one that has ended ──▶ its lease and its claims are removed ──▶ take again
      └────▶ another one ──▶ wait and take again, or fail

    claim the keys of a page before they are requested ──▶ those that another run has claimed are decided again later

Both are rows of the ledger, so that they hold for all processes and machines that use the directory, also where files
cannot be locked. A lease names its process by machine, number and start: one that has ended is known at once on the
same machine. Otherwise a run has ended when its count has not moved for a minute of the waiting one's own clock, so
that clocks that differ or step make no difference.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from arena_async.errors import ArenaAsyncError, ClosedError, DestinationBusyError
from arena_async.protocol.messages import printable
from arena_async.transfer.filesystem import machine, start_of
from arena_async.transfer.ledger_schema import LedgerConnection, decoded
from arena_async.transfer.models import PAGE, LedgerEntry
from arena_async.transfer.workers import Lock, end_tasks, wait_to_end

if TYPE_CHECKING:
    from arena_async.transfer.context import Context

__all__ = [
    "IfRunning",
    "Lease",
    "Process",
    "RunLease",
    "Silence",
    "claim",
    "end",
    "has_ended",
    "pause_after",
    "renew",
    "select",
    "take",
]

log = logging.getLogger("arena_async")

#: What a run does while another one of the same query works on the directory.
IfRunning = Literal["wait", "fail"]

#: Seconds between two counts of a lease, and without a count after which its run has ended.
BEAT, MAX_SILENCE = 10.0, 60.0
#: Seconds between the first two looks at another run, the growth of that, and the most.
_FIRST_PAUSE, _GROWTH, _MAX_PAUSE = 1.0, 1.5, 10.0
#: The runs of this process. A ledger that was copied from another place may name further ones.
_OURS: Final[set[str]] = set()


@attrs.frozen
class Process:
    """
    A process, so that another one of the same number is not taken for it.

    Args:
        machine: Where its number means something: the host, its boot and the namespace of the process numbers.
        pid: Its number.
        start: When it started, as the system counts; "" where that is not known.
    """

    machine: str
    pid: int
    start: str

    @classmethod
    def current(cls) -> Process:
        """Return this process."""
        pid = os.getpid()
        return cls(machine(), pid, start_of(pid) or "")

    @property
    def shown(self) -> str:
        """It in a message."""
        return f"process {self.pid} on {printable(self.machine.partition(' ')[0])}"


@attrs.frozen
class Lease:
    """
    A run of a directory as the ledger has it.

    Args:
        id: Identifies the run.
        scope: The query.
        process: Where it runs.
        beats: Its count, which moves as long as it goes on.
    """

    id: str
    scope: str
    process: Process
    beats: int = 0


def has_ended(
    process: Process, silence: float, *, us: Process, ours: bool, start_of: Callable[[int], str | None] = start_of
) -> bool:
    """
    Return whether what a process was doing has ended, or counts as ended.

    Args:
        process: The process.
        silence: Seconds for which its count has not moved.
        us: This process.
        ours: Whether this process is doing it; that says nothing about another one.
        start_of: Returns when a process of this machine started: "" where that is not known, None if it has ended.
    """
    if silence >= MAX_SILENCE:
        return True
    if process == us:
        return not ours
    if process.machine != us.machine:
        return False
    start = start_of(process.pid)
    return start is None or ("" not in (start, process.start) and start != process.start)


@attrs.define(eq=False)
class Silence:
    """
    Notices counts that do not move.

    Args:
        monotonic: Returns seconds that never jump.
    """

    _monotonic: Callable[[], float]
    _seen: dict[str, tuple[int, float]] = attrs.field(factory=dict)

    def of(self, counter: str, count: int) -> float:
        """Return for how many seconds a count has been the same, as far as this object has seen."""
        now = self._monotonic()
        before, since = self._seen.get(counter, (count, now))
        if before != count:
            since = now
        self._seen[counter] = (count, since)
        return now - since

    def ended(self, leases: Iterable[Lease]) -> list[Lease]:
        """Return the leases whose runs have ended."""
        us = Process.current()
        return [
            one for one in leases if has_ended(one.process, self.of(one.id, one.beats), us=us, ours=one.id in _OURS)
        ]


def pause_after(looks: int) -> float:
    """Return the seconds to wait for another run after so many looks at it."""
    return min(_FIRST_PAUSE * _GROWTH ** min(looks, 20), _MAX_PAUSE)


@attrs.define(eq=False)
class RunLease:
    """
    The lease of one run. Used by one task; :meth:`claim` is called on threads.

    Args:
        context: The directory, open.
        lease: The run.
        silence: Notices other runs that have ended.
    """

    _context: Context
    _lease: Lease
    _silence: Silence
    _dropped: set[str] = attrs.field(factory=set)
    _lock: Any = attrs.field(factory=Lock)
    _beating: asyncio.Task[None] | None = None
    _ending: asyncio.Task[None] | None = None
    _ended: bool = False

    @classmethod
    def of(cls, context: Context, scope: str) -> RunLease:
        """Return the lease of a new run of a query, which is not taken yet."""
        lease = Lease(secrets.token_hex(8), scope, Process.current())
        return cls(context, lease, Silence(context.clock.monotonic))

    async def take(self, if_running: IfRunning) -> None:
        """
        Take the lease; wait as long as another run of the query works on the directory, or fail.

        Raises:
            DestinationBusyError: Another run works on it, and ``if_running`` is ``fail``.
            StorageError: The ledger failed.
            ClosedError: The directory was closed meanwhile.
        """
        context, looks = self._context, 0
        _OURS.add(self._lease.id)
        while (other := await context.run(self._take)) is not None:
            what = f"{context.root}: another run of the same query ({other.process.shown}) works on this folder"
            if if_running == "fail":
                raise DestinationBusyError(
                    f"{what}, so nothing was requested. Run again when it has ended, or let this one wait for it "
                    "(if_running='wait', --if-running wait)."
                )
            if not looks:
                log.warning("%s; waiting until it has ended.", what)
            await context.clock.sleep(pause_after(looks))
            looks += 1
        if looks:
            log.warning("%s: the other run has ended; this one begins.", context.root)
        self._beating = asyncio.create_task(self._beat(), name="arena_async lease")

    def claim(self, entries: Mapping[str, LedgerEntry | None]) -> set[str]:
        """
        Claim keys, and return those that are to be decided again. For a thread.

        Args:
            entries: What was known about each key when it was decided. Where another run has claimed it, or has
                committed it since, that is out of date.
        """
        ledger, run = self._context.ledger, self._lease.id
        taken, known = ledger.claim(run, list(entries))
        if taken and (ended := self._silence.ended(ledger.other_leases(but=run))):
            ledger.end_leases(ended)
            taken, known = ledger.claim(run, list(entries))
        return taken | {key for key, entry in known.items() if entry != entries[key]}

    def drop(self, key: str) -> None:
        """Remove a claim with the next count: the file failed, or was not begun."""
        self._dropped.add(key)

    async def aclose(self) -> None:
        """Remove the lease and its claims. Safe to call twice, and from any task; a cancellation comes after it."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name="arena_async lease")
        await wait_to_end(self._ending)
        self._ending.result()

    def _take(self) -> Lease | None:
        """Take the lease, or return that of another run of the query. On a thread."""
        ended: list[Lease] = []
        with self._lock:
            while not self._ended:
                others = self._context.ledger.take_lease(self._lease, ended)
                ended = self._silence.ended(others) if others else []
                if not ended:
                    return next((one for one in others if one.scope == self._lease.scope), None)
        raise ClosedError(f"{self._context.root}: the folder was closed before the run began.")

    async def _beat(self) -> None:
        """Count from time to time, by the timer of the loop: the clock of a test may jump, and nothing waits here."""
        while True:
            await asyncio.sleep(BEAT)
            dropped, self._dropped = self._dropped, set()
            try:
                await self._context.run(self._count, list(dropped))
            except ArenaAsyncError as error:
                self._dropped |= dropped
                log.info("%s: the lease of the run was not renewed: %s", self._context.root, error)

    def _count(self, dropped: Sequence[str]) -> None:
        with self._lock:
            if not self._ended:
                self._lease = attrs.evolve(self._lease, beats=self._lease.beats + 1)
                self._context.ledger.renew_lease(self._lease, dropped)

    async def _end(self) -> None:
        if self._beating is not None:
            await end_tasks(self._beating)
        try:
            await self._context.run(self._remove)
        except ArenaAsyncError as error:
            log.info("%s: the lease of the run was not removed, and ends by itself: %s", self._context.root, error)

    def _remove(self) -> None:
        with self._lock:
            self._ended = True
            _OURS.discard(self._lease.id)
            self._context.ledger.end_leases([self._lease])


# ---- in a transaction of the ledger


def select(db: LedgerConnection, but: str) -> list[Lease]:
    """Return all leases but one; a row that this library cannot have written is left out."""
    rows = db.execute("SELECT id, scope, machine, pid, start, beats FROM leases WHERE id <> ?", (but,))
    return [
        Lease(str(key), str(decoded(scope)), Process(str(where), pid, str(start)), beats)
        for key, scope, where, pid, start, beats in rows
        if isinstance(pid, int) and isinstance(beats, int)
    ]


def take(db: LedgerConnection, lease: Lease, ended: Sequence[Lease]) -> list[Lease]:
    """Remove leases that have ended, write one if no other run has the same query, and return all others."""
    end(db, ended)
    others = select(db, lease.id)
    if all(other.scope != lease.scope for other in others):
        _write(db, lease)
    return others


def end(db: LedgerConnection, leases: Sequence[Lease]) -> None:
    """Remove leases with their claims, unless they have counted on meanwhile."""
    for lease in leases:
        removed = db.execute("DELETE FROM leases WHERE id = ? AND beats <= ?", (lease.id, lease.beats)).rowcount
        if removed:
            db.execute("DELETE FROM claims WHERE run = ?", (lease.id,))


def renew(db: LedgerConnection, lease: Lease, dropped: Sequence[str]) -> None:
    """Count a lease on, also one that another run has taken for ended, and remove claims of it."""
    _write(db, lease)
    db.executemany("DELETE FROM claims WHERE key = ? AND run = ?", [(key, lease.id) for key in dropped])


def claim(db: LedgerConnection, run: str, keys: Sequence[str]) -> set[str]:
    """Claim keys for a run, and return those that others have claimed."""
    rows = [(key, run) for key in keys]
    if db.executemany("INSERT OR IGNORE INTO claims (key, run) VALUES (?, ?)", rows).rowcount == len(rows):
        return set()
    taken: set[str] = set()
    for start in range(0, len(keys), PAGE):
        page = keys[start : start + PAGE]
        query = f"SELECT key FROM claims WHERE run <> ? AND key IN ({', '.join('?' * len(page))})"  # noqa: S608
        taken.update(decoded(key) for (key,) in db.execute(query, (run, *page)))
    return taken


def _write(db: LedgerConnection, lease: Lease) -> None:
    process = lease.process
    db.execute(
        "INSERT OR REPLACE INTO leases (id, scope, machine, pid, start, beats) VALUES (?, ?, ?, ?, ?, ?)",
        (lease.id, lease.scope, process.machine, process.pid, process.start, lease.beats),
    )
