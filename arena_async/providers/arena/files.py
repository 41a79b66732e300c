"""
The files of runs: the base of the file sets of extracts, exports and imports.

The zip of an extract or export never changes under its guid, so the guid is the change marker, whichever query found
the file and whether or not that query listed its size.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Generic, Self, TypeVar

import attrs

from arena_async.errors import ConfigurationError
from arena_async.protocol.files import MetadataCache, RemoteFile
from arena_async.protocol.messages import Request
from arena_async.providers.arena.api import write_datetime
from arena_async.providers.arena.layout import ArenaFiles, FileFacts, Key, lay_out, tenant_of
from arena_async.providers.arena.models import ArenaRun
from arena_async.providers.arena.runs import RunApi, ended

__all__ = ["RunFiles"]

R = TypeVar("R", bound=ArenaRun)


class RunFiles(ArenaFiles, Generic[R]):
    """
    The files of the completed runs of a definition.

    Args:
        api: The runs of that kind.
        definition: The guid of the definition; None for every extract of the workspace.
        run: Only this run.
        latest: Only the latest completed run.
        completed_from: Only runs completed then or later (aware).

    Raises:
        ConfigurationError: ``run`` together with ``latest`` or ``completed_from`` or without ``definition``, or a
            date-time without a zone.
    """

    def __init__(
        self,
        api: RunApi[R],
        definition: str | None,
        *,
        run: str | None = None,
        latest: bool = False,
        completed_from: datetime | None = None,
    ) -> None:
        if run is not None and latest:
            raise ConfigurationError(f"{self.kind}: run and latest exclude each other; give one of them.")
        if run is not None and completed_from is not None:
            raise ConfigurationError(f"{self.kind}: run and completed_from exclude each other; give one of them.")
        if run is not None and definition is None:
            raise ConfigurationError(
                f"{self.kind}: a run is named by the guids of its definition and its own; give both."
            )
        super().__init__(api.session, reserve=api.reserve)
        self._api = api
        self._definition = definition
        self._run = run
        self._latest = latest
        self._completed_from = _whole_second(completed_from)
        self._watermark: datetime | None = None
        self._seen: R | None = None
        self._facts: MetadataCache | None = None

    @property
    def definition(self) -> str | None:
        """The guid of the definition, or None for every extract."""
        return self._definition

    @property
    def scope(self) -> str:
        """The name of the query, without any secret. A watermark is not part of it. It is stored in the ledger."""
        filters = [f"run={self._run}"] if self._run is not None else []
        filters += ["latest"] if self._latest else []
        filters += [f"completed_since={self._completed_from.isoformat()}"] if self._completed_from is not None else []
        path = "/".join(filter(None, ("arena", self.kind, self._definition)))
        return "?".join(filter(None, (path, "&".join(filters))))

    @property
    def narrowed(self) -> bool:
        """Whether files that exist may be missing from it."""
        return self._run is not None or self._latest or self._from is not None

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files; pages are requested as they are read."""
        tenant = await tenant_of(self._session)
        async for definition in self._definitions():
            async for runs in self._select(definition):
                async for file in self._of_runs(tenant, definition, runs):
                    yield file

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """
        Return fresh entries for some keys of this kind, in any order; what is gone is missing.

        Costs one request for a single run of a definition, else as many as its runs have pages.
        """
        if self._facts is not None:
            # A look-up wants the present state, not the cached one.
            return await self._changed(_facts=None).find(keys)
        return await super().find(keys)

    def recalling(self, facts: MetadataCache) -> Self:
        """Return the same set, which requests the files of a completed run only once."""
        return self._changed(_facts=facts)

    def since(self, watermark: datetime | None) -> Self:
        """Return the set of runs completed since then; the service filters on it."""
        if watermark is None or self._run is not None or self._latest:
            return self
        return self._changed(_watermark=_whole_second(watermark))

    def of(self, run: R) -> Self:
        """Return the set of the files of one completed run as it was just seen, without another request for it."""
        return self._changed(_run=run.guid, _seen=run)

    # ------------------------------------------------------------------------------------- what differs between kinds

    #: The path of a content below its definition; the names are those of the identifying fields.
    _content_path: str

    @abstractmethod
    def _listed(self, runs: Sequence[R]) -> dict[str, Sequence[FileFacts]]:
        """Return the files of those runs that were listed with them, by the guids of the runs."""

    async def _pages(self, definition: str, completed_from: datetime | None) -> AsyncIterator[Sequence[R]]:
        """Return the runs of a definition, page by page."""
        async for page in self._api.list(definition, {"completionDateTimeFrom": completed_from}).pages():
            yield page.items

    async def _newest(self, definition: str) -> list[R]:
        """Return the latest completed run."""
        raise NotImplementedError  # pragma: no cover  imports have no such filter

    async def _request_files(self, definition: str, run: R) -> list[FileFacts]:
        """Request the files of a run that was listed without them."""
        raise NotImplementedError  # pragma: no cover  import runs always have the same contents

    async def _one_to_find(self, definition: str, run: str) -> R | None:
        """Return one run to look up its files, or None where it may be in the list only."""
        return await self._api.get(definition, run)

    def _check_files(self, run: R, files: Sequence[FileFacts]) -> None:
        """Raise if a run that was requested by its guid has no files."""

    async def _definitions(self) -> AsyncIterator[str]:
        """Return the guids of the definitions."""
        yield self._definition or ""

    def _content(self, key: Key) -> Request:
        definition, run, file = key.names
        return self._api.request("GET", definition, self._content_path, run=run, file=file)

    def _entry(self, tenant: str, definition: str, run: R, file: FileFacts) -> RemoteFile:
        """Return the entry of a file: a zip, which never changes."""
        key = Key(tenant, self.kind, (definition, run.guid, file.guid))
        return lay_out(key, file, extension=".zip", change=file.guid, changed_at=run.completed)

    # ------------------------------------------------------------------------------------------------------- listing

    async def _select(self, definition: str) -> AsyncIterator[Sequence[R]]:
        """Return the completed runs of a definition that belong to the set, page by page."""
        if self._run is not None:
            run = self._seen or await self._api.look_up(definition, self._run)
            if run is not None and ended(run, self._api.kind):
                yield [run]
        elif self._latest:
            yield [run for run in await self._newest(definition) if self._wanted(run)]
        else:
            async for page in self._pages(definition, self._from):
                yield [run for run in page if self._wanted(run)]

    async def _of_runs(self, tenant: str, definition: str, runs: Sequence[R]) -> AsyncIterator[RemoteFile]:
        """List the files of runs: with the runs, or from the cached facts, or with one request for each run."""
        listed = self._listed(runs)
        known = await self._recall(tenant, definition, [run.guid for run in runs if run.guid not in listed])
        for run in runs:
            files = listed.get(run.guid) if run.guid in listed else known.get(run.guid)
            if files is None:
                files = await self._request_files(definition, run)
                await self._keep(tenant, definition, run.guid, files)
            self._check_files(run, files)
            for file in files:
                yield self._entry(tenant, definition, run, file)

    async def _look_up(self, tenant: str, definition: str, keys: Sequence[Key]) -> AsyncIterator[RemoteFile]:
        """List the files of some runs; a single run is requested by its guid."""
        missing = {key.names[1] for key in keys}
        if len(missing) == 1:
            run = await self._one_to_find(definition, *missing)
            if run is not None:
                async for file in self._of_runs(tenant, definition, [run]):
                    yield file
                return
        async for page in self._pages(definition, None):
            async for file in self._of_runs(tenant, definition, [run for run in page if run.guid in missing]):
                yield file
            missing -= {run.guid for run in page}
            if not missing:
                return

    @property
    def _from(self) -> datetime | None:
        """The earliest completion that is requested."""
        return max(filter(None, (self._completed_from, self._watermark)), default=None)

    def _wanted(self, run: R) -> bool:
        """Return whether a listed run belongs to the set; the service is known to ignore some filters silently."""
        return run.done and (self._from is None or run.completed is None or run.completed >= self._from)

    # ------------------------------------------------------------------------------------------------- cached facts

    async def _recall(self, tenant: str, definition: str, runs: Iterable[str]) -> dict[str, list[FileFacts]]:
        """Return the cached files of some runs, by the guids of the runs."""
        if self._facts is None:
            return {}
        keys = {str(Key(tenant, self.kind, (definition, run))): run for run in runs}
        found = await self._facts.recall(list(keys)) if keys else {}
        return {keys[key]: files for key, fact in found.items() if (files := _load_files(fact))}

    async def _keep(self, tenant: str, definition: str, run: str, files: Sequence[FileFacts]) -> None:
        """Cache the files of a completed run; a run without any may yet get some."""
        if self._facts is not None and files:
            fact = json.dumps([attrs.astuple(file) for file in files])
            await self._facts.keep({str(Key(tenant, self.kind, (definition, run))): fact})


def _load_files(fact: str) -> list[FileFacts] | None:
    """Read cached files; None where they cannot be read."""
    try:
        return [FileFacts(guid, name, size, skip) for guid, name, size, skip in json.loads(fact)]
    except (ValueError, TypeError):
        return None


def _whole_second(time: datetime | None) -> datetime | None:
    """Cut to full seconds, as the service takes them."""
    if time is None:
        return None
    write_datetime(time, what="completed_from")
    return time.astimezone(UTC).replace(microsecond=0)
