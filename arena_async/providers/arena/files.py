"""
The file sets of Arena: their base, and those of the runs of extracts, exports and imports.

A key identifies a file by the workspace, the kind and the identifying fields of that kind; they are also its place on
disk and the address of its content.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, Self, TypeVar
from urllib.parse import quote, unquote

import attrs

from arena_async.errors import ApiError, ConfigurationError, DecodeError, ListingError
from arena_async.http.session import Session
from arena_async.protocol.files import Cost, FileSet, OpenedFile, RemoteFile
from arena_async.protocol.quota import Quota
from arena_async.providers.arena.api import ArenaService, make_request, paginate, tenant_of
from arena_async.providers.arena.models import ArenaRun
from arena_async.providers.arena.runs import RunService, ended, look_up
from arena_async.transfer.models import PlannedFile
from arena_async.transfer.union import ListFailures

__all__ = ["ArenaFiles", "FileFacts", "RunFiles"]

R = TypeVar("R", bound=ArenaRun)

#: The service itself says that an object does not exist: not found, or a guid that is not valid (any more). A status
#: alone may be a gateway's.
_NOT_FOUND = frozenset({3011, 3012})


@attrs.frozen
class FileFacts:
    """
    The metadata of a file in a listing. Its fields are stored as cached facts, in this order.

    Args:
        guid: The last of the identifying fields.
        name: The vendor's file name.
        size: Its length in bytes.
        skip: Why it has no content.
    """

    guid: str
    name: str | None = None
    size: int | None = None
    skip: str | None = None


@attrs.define(eq=False, repr=False)
class ArenaFiles(FileSet, ABC):
    """
    A set of files of one kind.

    Args:
        service: The items, the files, or the definitions that it belongs to.
    """

    #: The word for the kind in keys and paths.
    _kind: ClassVar[str]
    #: The fields that identify a file, from the outermost directory to the name.
    _fields: ClassVar[tuple[str, ...]]
    #: The path of a content, with the names of those fields.
    _content_path: ClassVar[str]
    #: Whether people uploaded the files as they are.
    _uploaded: ClassVar[bool] = False
    #: Planned files can be downloaded without another look-up: a key has everything that addresses the content.
    restores = True

    _service: ArenaService

    @property
    def _session(self) -> Session:
        """The session, by which a union of sets knows which of them share one."""
        return self._service.session

    @property
    def requests_sent(self) -> int:
        """Metered requests that the session has sent so far."""
        return self._service.session.requests_sent

    @property
    def account(self) -> str:
        """Whose login it uses."""
        return self._service.session.account

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Request the content once. Every attempt costs one request.

        Args:
            file: One of this set.
            offset: The first byte to request.
            validator: A strong ETag that the file must still have, when ``offset`` is not 0.
            until: The byte to end before, or None.

        Raises:
            ApiError: The service responded with an error; statuses 200, 206, 412 and 416 are returned instead.
            ConfigurationError: The file is not one of this kind of set.
        """
        if file.service != "arena" or not file.fields.keys() >= set(self._fields):
            raise ConfigurationError(f"{file.key} is no file of {self._kind}; open it with the set that listed it.")
        # An edition of a file has a guid of its own.
        fields = {name: file.fields[name] for name in self._fields if name != "edition"}
        request = make_request("GET", self._content_path, None, **fields)
        return await self._service.session.stream(request, offset=offset, validator=validator, until=until)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """
        Return fresh entries for some keys of this kind, in any order; what is gone is missing.

        Raises:
            ListingError: A key is missing from a list that is not known to be whole.
        """
        tenant = await tenant_of(self._service)
        groups: dict[str, list[list[str]]] = {}
        for key in keys:
            if names := self._names_in(key, tenant):
                groups.setdefault(names[0], []).append(names)
        wanted, found = frozenset(keys), {}
        failures = ListFailures()
        for first, members in groups.items():
            try:
                with failures.collected(ListingError, DecodeError):
                    async for file in self._look_up(tenant, first, members):
                        if file.key in wanted:
                            found[file.key] = file
            except ApiError as error:
                if error.code not in _NOT_FOUND:
                    raise
        if not wanted <= found.keys():
            failures.check()
        return list(found.values())

    async def restore(self, rows: Sequence[PlannedFile]) -> list[RemoteFile]:
        """
        Return the entries of planned files of this workspace as they were listed, without a request.

        What has changed since then is downloaded as it is now and recorded as it was listed, so that the next listing
        finds that it is not the newest.
        """
        tenant = await tenant_of(self._service)
        found = []
        for row in rows:
            names = self._names_in(row.key, tenant)
            if names and row.change:
                facts = FileFacts(names[-1], row.name, row.size)
                found.append(self._entry(tenant, names, facts, extension=row.extension, change=row.change))
        return found

    def since(self, watermarks: Mapping[str, datetime]) -> Self:  # noqa: ARG002  for the sets that can
        """Return the set of what changed since then if the service can filter on it, else the set itself."""
        return self

    def cost(self) -> Cost:
        """Return the cost: at least the requests of one listing, and one for each content. Sends nothing."""
        listing, exact = self._listing()
        quota = self._service.session.quota or Quota()
        return Cost(
            listing=listing,
            per_file=1,
            exact=exact,
            remaining=quota.remaining,
            reserve=self._service.reserve,
            resets_at=quota.resets_at,
        )

    @abstractmethod
    def _listing(self) -> tuple[int, bool]:
        """Return the requests of one listing, and whether that is the exact number."""

    @abstractmethod
    def _look_up(self, tenant: str, first: str, members: Sequence[Sequence[str]]) -> AsyncIterator[RemoteFile]:
        """
        List at least some files with the same first identifying field; a not-found error means that it is gone.

        Args:
            tenant: The workspace.
            first: The first of the identifying fields.
            members: All identifying fields of each of the files.
        """

    def _key(self, tenant: str, *names: str) -> str:
        """Return the key of a file, or what the keys of several begin with."""
        return "/".join(quote(part, safe="") for part in ("arena", tenant, self._kind, *names))

    def _names_in(self, key: str, tenant: str) -> list[str]:
        """Return the identifying fields of a key; none for one of another kind or service, or of another workspace."""
        parts = [unquote(part) for part in key.split("/")]
        same = len(parts) == 3 + len(self._fields) and parts[:3] == ["arena", tenant, self._kind]
        return parts[3:] if same else []

    def _entry(
        self,
        tenant: str,
        names: Sequence[str],
        facts: FileFacts,
        *,
        extension: str,
        change: str,
        listed: tuple[str, datetime | None] = ("", None),
    ) -> RemoteFile:
        """
        Return the entry of a file at ``arena/<kind>/<identifying fields>``, the last of them as its name.

        Args:
            tenant: The workspace.
            names: The identifying fields.
            facts: Its metadata.
            extension: With its dot.
            change: Its change mark.
            listed: The list that it is in, if the service filters that on the time of change, and that time.
        """
        return RemoteFile(
            key=self._key(tenant, *names),
            service="arena",
            tenant=tenant,
            parts=("arena", self._kind, *names[:-1]),
            stem=names[-1],
            extension=extension,
            name=facts.name or "",
            size=facts.size,
            change=change,
            changed_at=listed[1],
            listed_in=listed[0],
            fields=dict(zip(self._fields, names, strict=True)),
            skip=facts.skip,
            uploaded=self._uploaded,
        )


@attrs.define(eq=False, repr=False)
class RunFiles(ArenaFiles, Generic[R]):
    """
    The files of the completed runs of a definition, or of all definitions, which costs one more request.

    Args:
        service: The definitions of that kind.
        definition: The guid of the definition, or None.
        run: Only this run.
        seen: That run as it was just seen, or None.
        emptied: What the keys of the files of those runs begin with that were listed without files.
    """

    _service: RunService[Any, R, Any]
    definition: str | None
    _run: str | None = attrs.field(default=None, kw_only=True)
    _seen: R | None = attrs.field(default=None, kw_only=True)
    _emptied: set[str] = attrs.field(factory=set, kw_only=True)
    #: Whether only the latest completed run is requested.
    _latest: bool = attrs.field(default=False, init=False)
    #: What else narrows the set, for its scope.
    _filters: list[str] = attrs.field(factory=list, init=False)

    @property
    def scope(self) -> str:
        """The name of the query, without any secret. A watermark is not part of it. It is stored in the ledger."""
        path = "/".join(filter(None, ("arena", self._kind, self.definition)))
        run = [f"run={self._run}"] if self._run is not None else []
        return "?".join(filter(None, (path, "&".join(run + self._filters))))

    @property
    def narrowed(self) -> bool:
        """Whether files that exist may be missing from it."""
        return self._run is not None or bool(self._filters)

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files; pages are requested as they are read."""
        service, tenant = self._service, await tenant_of(self._service)
        self._emptied.clear()
        if self.definition is not None:
            async for file in self._of_definition(tenant, self.definition):
                yield file
            return
        failures = ListFailures()
        with failures.collected():
            async for definition in paginate(service.session, service.models[0], f"/{service.kind}s"):
                with failures.collected():
                    async for file in self._of_definition(tenant, definition.guid):
                        yield file
        failures.check()

    def of(self, run: R) -> Self:
        """Return the set of the files of one completed run as it was just seen, without another request for it."""
        return attrs.evolve(self, run=run.guid, seen=run)

    def is_expired(self, key: str) -> bool:
        """Return whether the run of a file is still listed, but without its files: the service removes them by age."""
        return f"{key.rpartition('/')[0]}/" in self._emptied

    def key_prefix(self, tenant: str, definition: str, *run: str) -> str:
        """Return what the keys of all files of a definition begin with, or those of one of its runs."""
        return f"{self._key(tenant, definition, *run)}/"

    @abstractmethod
    def _of_runs(self, tenant: str, definition: str, runs: Sequence[R]) -> AsyncIterator[RemoteFile]:
        """List the files of some runs of a definition; the error of one run comes after the files of the others."""

    async def _of_definition(self, tenant: str, definition: str) -> AsyncIterator[RemoteFile]:
        """List the files of those completed runs of a definition that belong to the set."""
        if self._run is not None:
            run = self._seen or await look_up(self._service, definition, self._run)
            if run is not None and ended(run, self._service.kind):
                async for file in self._of_runs(tenant, definition, [run]):
                    yield file
            return
        since = self._since(definition)
        failures = ListFailures()
        with failures.collected():
            async for page in self._pages(definition, since, latest=self._latest):
                # The service is known to ignore some filters silently.
                wanted = [run for run in page if _is_wanted(run, since)]
                with failures.collected():
                    async for file in self._of_runs(tenant, definition, wanted):
                        yield file
        failures.check()

    def _since(self, definition: str) -> datetime | None:  # noqa: ARG002  for the sets that can
        """Return the earliest completion that is requested, of the runs of a definition."""
        return None

    async def _pages(
        self, definition: str, completed_from: datetime | None = None, *, latest: bool = False
    ) -> AsyncIterator[Sequence[R]]:
        """Return the runs of a definition, page by page, or only the latest completed one."""
        service = self._service
        query: dict[str, object] = {"latestCompleted": True} if latest else {"completionDateTimeFrom": completed_from}
        runs = paginate(service.session, service.models[1], f"{service.path(definition)}/runs", query)
        if latest:
            # The filter may be ignored, so the newest of the returned runs is taken.
            wanted = [run async for run in runs if _is_wanted(run, completed_from)]
            yield sorted(wanted, key=lambda run: run.completed or datetime.min.replace(tzinfo=UTC))[-1:]
            return
        async for page in runs.pages():
            yield page.items

    async def _one_to_find(self, definition: str, run: str) -> R | None:
        """Return one run to look up its files, or None where it may be in the list only."""
        return await self._service.run(definition, run)

    async def _look_up(self, tenant: str, first: str, members: Sequence[Sequence[str]]) -> AsyncIterator[RemoteFile]:
        """List the files of some runs; a single run is requested by its guid."""
        missing = {names[1] for names in members}
        if len(missing) == 1:
            run = await self._one_to_find(first, *missing)
            if run is not None:
                async for file in self._of_runs(tenant, first, [run]):
                    yield file
                return
        failures = ListFailures()
        async for page in self._pages(first):
            with failures.collected():
                async for file in self._of_runs(tenant, first, [run for run in page if run.guid in missing]):
                    yield file
            missing -= {run.guid for run in page}
            if not missing:
                break
        failures.check()


def _is_wanted(run: ArenaRun, since: datetime | None) -> bool:
    """Return whether a run is completed, and not before a time; one without a time may be newer."""
    return run.done and (since is None or run.completed is None or run.completed >= since)
