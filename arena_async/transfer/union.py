"""File sets made of others: several as one, and the files of a plan."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, nullcontext
from datetime import datetime
from typing import Any

import attrs

from arena_async.errors import (
    ConfigurationError,
    DecodeError,
    ListingError,
    NotFoundError,
    PermissionDeniedError,
)
from arena_async.protocol.files import (
    Cost,
    FileSet,
    KnowsExpired,
    MetadataCache,
    OpenedFile,
    RemoteFile,
    UsesMetadataCache,
)
from arena_async.transfer.models import Plan, PlannedFile, Restoring, account_of, can_restore

__all__ = ["LOOK_UP_BATCH", "ListFailures", "PlannedSet", "union"]

#: Errors of one list that say nothing about the others of a set: those are walked first, then the error is raised.
OF_ONE_LIST = (ListingError, DecodeError, NotFoundError, PermissionDeniedError)

#: Keys that are looked up at a time, for a plan.
LOOK_UP_BATCH = 100

#: Keys whose set is remembered, so that a fresh URL is requested from the set of the old one.
_REMEMBERED = 4096


def union(*filesets: FileSet) -> FileSet:
    """
    Return one set that lists the files of several, one set after the other.

    A set whose listing fails does not keep the others from being listed; its error comes at the end. No watermark is
    used: what is new in one service says nothing about another.

    Raises:
        ConfigurationError: No set was given.
    """
    if not filesets:
        raise ConfigurationError("union was given no set of files; give at least one.")
    return filesets[0] if len(filesets) == 1 else _Union(filesets)


@attrs.define
class ListFailures:
    """The errors of single lists of a set, to be raised when the others were walked."""

    _errors: list[Exception] = attrs.field(init=False, factory=list)

    @contextmanager
    def collected(self, *kinds: type[Exception]) -> Iterator[None]:
        """Add the error that ends the block, if it is of some kinds, or of those that say nothing about other lists."""
        expected = kinds or OF_ONE_LIST
        try:
            yield
        except expected as error:
            self._errors.append(error)

    def check(self) -> None:
        """Raise one of the errors, with the others as notes. It is "not found" only where all of them are."""
        if not self._errors:
            return
        found = min(self._errors, key=lambda error: isinstance(error, NotFoundError))
        for other in self._errors:
            if other is not found:
                found.add_note(f"Another list failed too: {other}")
        raise found


@attrs.frozen(kw_only=True)
class _UnionMember(RemoteFile):
    """A file that knows which set it came from."""

    member: int = attrs.field(eq=False, repr=False)
    original: RemoteFile = attrs.field(eq=False, repr=False)


class _Union:
    """Several sets as one."""

    def __init__(self, members: tuple[FileSet, ...]) -> None:
        self._members = members
        self._of: OrderedDict[str, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<union of {self.scope}>"

    @property
    def scope(self) -> str:
        """The names of the queries."""
        return " + ".join(member.scope for member in self._members)

    @property
    def narrowed(self) -> bool:
        """Whether files that exist may be missing from any of them."""
        return any(member.narrowed for member in self._members)

    @property
    def requests_sent(self) -> int:
        """Metered requests that their sessions have sent so far; a session that several sets share counts once."""
        sessions = {id(_session(member)): member.requests_sent for member in self._members}
        return sum(sessions.values())

    @property
    def account(self) -> str:
        """Whose logins they use."""
        return "\n".join(sorted({account_of(member) for member in self._members}))

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List one set after the other."""
        failures = ListFailures()
        for number, member in enumerate(self._members):
            rows = aiter(member)
            with failures.collected(Exception):
                async with aclosing(rows) if hasattr(rows, "aclose") else nullcontext():  # type: ignore[type-var]
                    async for file in rows:
                        yield self._tagged(file, number)
        failures.check()

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """Request the content from the set of the file, once."""
        if not isinstance(file, _UnionMember):
            raise ConfigurationError(f"{file.key} did not come from this union; open it with the set that listed it.")
        return await self._members[file.member].open(file.original, offset=offset, validator=validator, until=until)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """Return fresh entries for some keys, from the sets that listed them first."""
        found: list[RemoteFile] = []
        failures, missing = ListFailures(), set(keys)
        for number in self._order(missing):
            wanted = [key for key in sorted(missing) if self._of.get(key, number) == number]
            if wanted:
                with failures.collected(ListingError):
                    rows = await self._members[number].find(wanted)
                    found += [self._tagged(row, number) for row in rows]
                    missing -= {row.key for row in rows}
        if missing:
            failures.check()
        return found

    @property
    def restores(self) -> bool:
        """Whether every set can download planned files without looking them up again."""
        return all(can_restore(member) for member in self._members)

    async def restore(self, rows: Sequence[PlannedFile]) -> list[RemoteFile]:
        """Return the entries of planned files that one of the sets can restore."""
        found: dict[str, RemoteFile] = {}
        for number, member in enumerate(self._members):
            left = [row for row in rows if row.key not in found]
            if left and isinstance(member, Restoring):
                found |= {file.key: self._tagged(file, number) for file in await member.restore(left)}
        return list(found.values())

    def recalling(self, facts: MetadataCache) -> _Union:
        """Return the sets, each with access to the cached metadata if it can use it."""
        return _Union(
            tuple(one.recalling(facts) if isinstance(one, UsesMetadataCache) else one for one in self._members)
        )

    def is_expired(self, key: str) -> bool:
        """Return whether one of the sets still lists what a file belongs to."""
        return any(isinstance(member, KnowsExpired) and member.is_expired(key) for member in self._members)

    def since(self, watermarks: Mapping[str, datetime]) -> _Union:
        """Return the set itself."""
        del watermarks
        return self

    def cost(self) -> Cost:
        """Return what all of them cost. The most expensive file counts for all, and then it is not exact."""
        costs = [member.cost() for member in self._members]
        per_file = {cost.per_file for cost in costs}
        known = [cost.remaining for cost in costs if cost.remaining is not None]
        resets = [cost.resets_at for cost in costs if cost.resets_at is not None]
        return Cost(
            listing=sum(cost.listing for cost in costs),
            per_file=max(per_file),
            metered=any(cost.metered and cost.per_file > 0 for cost in costs),
            exact=len(per_file) == 1 and all(cost.exact for cost in costs),
            remaining=min(known, default=None),
            reserve=max(cost.reserve for cost in costs),
            resets_at=max(resets, default=None),
        )

    def _tagged(self, file: RemoteFile, number: int) -> RemoteFile:
        """Note which set a file came from."""
        self._of[file.key] = number
        self._of.move_to_end(file.key)
        while len(self._of) > _REMEMBERED:
            self._of.popitem(last=False)
        fields = {field.name: getattr(file, field.name) for field in attrs.fields(RemoteFile)}
        return _UnionMember(**fields, member=number, original=file)

    def _order(self, keys: Collection[str]) -> list[int]:
        """Put the sets that some of the keys came from first."""
        likely = {self._of[key] for key in keys if key in self._of}
        return sorted(range(len(self._members)), key=lambda number: (number not in likely, number))


def _session(member: FileSet) -> Any:
    """Return what counts the requests of a set: its session where it has one, else the set."""
    return getattr(member, "session", None) or getattr(member, "_session", None) or member


class PlannedSet:
    """The files of a plan as a set: looked up again by key, some at a time, when their turn comes."""

    def __init__(self, files: FileSet, plan: Plan) -> None:
        self._files = files
        self._plan = plan
        #: Rows that are not listed any more.
        self.lost: list[PlannedFile] = []

    @property
    def scope(self) -> str:
        """The name of the query."""
        return self._files.scope

    @property
    def narrowed(self) -> bool:
        """It is narrowed to the plan."""
        return True

    @property
    def requests_sent(self) -> int:
        """Metered requests of the session."""
        return self._files.requests_sent

    @property
    def account(self) -> str:
        """Whose login it uses."""
        return account_of(self._files)

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """Look the files up again."""
        rows = self._plan.to_fetch
        for at in range(0, len(rows), LOOK_UP_BATCH):
            batch = rows[at : at + LOOK_UP_BATCH]
            by_key: dict[str, list[RemoteFile]] = {}
            for file in await self._look_up(batch):
                by_key.setdefault(file.key, []).append(file)
            self.lost += [row for row in batch if row.key not in by_key]
            for file in itertools.chain.from_iterable(by_key.values()):
                yield file

    async def _look_up(self, rows: Sequence[PlannedFile]) -> list[RemoteFile]:
        """Return the entries of planned files; only those that cannot be restored are looked up."""
        found = await self._files.restore(rows) if isinstance(self._files, Restoring) else []
        there = {file.key for file in found}
        missing = [key for key in dict.fromkeys(row.key for row in rows) if key not in there]
        return found + (await self._files.find(missing) if missing else [])

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """Request the content once."""
        return await self._files.open(file, offset=offset, validator=validator, until=until)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """Look some files up again."""
        return await self._files.find(keys)

    def since(self, watermarks: Mapping[str, datetime]) -> PlannedSet:
        """Return the set itself."""
        del watermarks
        return self

    def cost(self) -> Cost:
        """Return what the whole set costs."""
        return self._files.cost()
