"""The zip files of the runs of extracts and exports, whose metadata is requested once and cached."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Self, TypeVar

import attrs
from attrs.converters import optional

from arena_async.errors import ConfigurationError
from arena_async.protocol.files import MetadataCache, RemoteFile
from arena_async.providers.arena.api import write_datetime
from arena_async.providers.arena.files import ArenaFiles, FileFacts, RunFiles
from arena_async.providers.arena.models import ArenaRun
from arena_async.transfer.union import ListFailures

__all__ = ["ZipFiles"]

R = TypeVar("R", bound=ArenaRun)


def _whole_second(time: datetime) -> datetime:
    """Cut to full seconds, as the service takes them."""
    write_datetime(time, what="completed_from")
    return time.astimezone(UTC).replace(microsecond=0)


@attrs.define(eq=False, repr=False)
class ZipFiles(RunFiles[R]):
    """
    The zip files of extract and export runs. A run may list its files, else they are requested once and cached.

    A zip never changes under its guid, so the guid is the change marker, whichever query found the file and whether or
    not that query listed its size.

    Args:
        latest: Only the latest completed run.
        completed_from: Only runs completed then or later (aware).
        watermarks: The same in full seconds for single lists of runs, not as a part of the query.
        facts: Where the files of completed runs are cached, or None.
        fresh: Whether the present state is wanted, not the cached one.

    Raises:
        ConfigurationError: ``run`` together with ``latest`` or ``completed_from`` or without ``definition``, or a
            date-time without a zone.
    """

    _latest: bool = attrs.field(default=False, kw_only=True)
    _completed_from: datetime | None = attrs.field(default=None, kw_only=True, converter=optional(_whole_second))
    _watermarks: Mapping[str, datetime] = attrs.field(factory=dict, kw_only=True)
    _facts: MetadataCache | None = attrs.field(default=None, kw_only=True)
    _fresh: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Check what goes together, and name the filters."""
        self._filters += ["latest"] if self._latest else []
        self._filters += [f"completed_since={self._completed_from.isoformat()}"] if self._completed_from else []
        if self._run is None or self._seen is not None:
            return
        for name, given in (("latest", self._latest), ("completed_from", self._completed_from is not None)):
            if given:
                raise ConfigurationError(f"{self._kind}: run and {name} exclude each other; give one of them.")
        if self.definition is None:
            raise ConfigurationError(
                f"{self._kind}: a run is named by the guids of its definition and its own; give both."
            )

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """
        Return fresh entries for some keys of this kind, in any order; what is gone is missing.

        Costs one request for a single run of a definition, else as many as its runs have pages.
        """
        return await ArenaFiles.find(attrs.evolve(self, fresh=True), keys)

    def recalling(self, facts: MetadataCache) -> Self:
        """Return the same set, which requests the files of a completed run only once."""
        return attrs.evolve(self, facts=facts)

    def since(self, watermarks: Mapping[str, datetime]) -> Self:
        """Return the set of runs completed since then, definition by definition; the service filters on it."""
        if not watermarks or self._run is not None or self._latest:
            return self
        return attrs.evolve(self, watermarks={name: _whole_second(at) for name, at in watermarks.items()})

    @property
    def narrowed(self) -> bool:
        """Whether files that exist may be missing from it."""
        return self._run is not None or bool(self._watermarks or self._filters)

    def _since(self, definition: str) -> datetime | None:
        """Return the later of what the caller wants and the watermark of the list of this definition's runs."""
        return max(filter(None, (self._completed_from, self._watermarks.get(self._list_of(definition)))), default=None)

    def _list_of(self, definition: str) -> str:
        """Return the name of the list of the runs of a definition; "" where no filter on time is sent for it."""
        return "" if self._run is not None or self._latest else f"arena/{self._kind}/{definition}"

    @abstractmethod
    def _listed(self, runs: Sequence[R]) -> dict[str, Sequence[FileFacts]]:
        """Return the files of those runs that were listed with them, by the guids of the runs."""

    @abstractmethod
    def _request_files(self, definition: str, run: R) -> AsyncIterator[FileFacts]:
        """Request the files of a run that was listed without them."""

    def _check_empty(self, run: R) -> None:
        """Raise if it is an error that a run has no files."""

    async def _of_runs(self, tenant: str, definition: str, runs: Sequence[R]) -> AsyncIterator[RemoteFile]:
        """List the files of runs: with the runs, or from the cached facts, or with one request for each run."""
        known = self._listed(runs)
        if missing := [run.guid for run in runs if run.guid not in known]:
            known |= await self._recall(tenant, definition, missing)
        failures = ListFailures()
        for run in runs:
            files = known.get(run.guid)
            if files is None:
                files = []
                with failures.collected():
                    await self._request(tenant, definition, run, files)
            elif not files:
                self._check_empty(run)
                self._emptied.add(self.key_prefix(tenant, definition, run.guid))
            for file in files:
                yield self._entry(
                    tenant,
                    (definition, run.guid, file.guid),
                    file,
                    extension=".zip",
                    change=file.guid,
                    listed=(self._list_of(definition), run.completion_date_time),
                )
        failures.check()

    async def _request(self, tenant: str, definition: str, run: R, files: list[FileFacts]) -> None:
        """Request the files of a run and cache them. Where they are not known to be all they are not cached."""
        async for file in self._request_files(definition, run):
            files.append(file)  # noqa: PERF401 - those before an error are wanted
        if not files:
            self._check_empty(run)
            self._emptied.add(self.key_prefix(tenant, definition, run.guid))
        await self._keep(tenant, definition, run.guid, files)

    async def _recall(self, tenant: str, definition: str, runs: Iterable[str]) -> dict[str, Sequence[FileFacts]]:
        """Return the cached files of some runs, by the guids of the runs."""
        if self._facts is None or self._fresh:
            return {}
        keys = {self._key(tenant, definition, run): run for run in runs}
        found = await self._facts.recall(list(keys))
        return {keys[key]: files for key, fact in found.items() if (files := _load_files(fact))}

    async def _keep(self, tenant: str, definition: str, run: str, files: Sequence[FileFacts]) -> None:
        """Cache the files of a completed run; a run without any may yet get some."""
        if self._facts is not None and files and not self._fresh:
            fact = json.dumps([attrs.astuple(file) for file in files])
            await self._facts.keep({self._key(tenant, definition, run): fact})


def _load_files(fact: str) -> list[FileFacts] | None:
    """Read cached files; None where they cannot be read."""
    try:
        return [FileFacts(guid, name, size, skip) for guid, name, size, skip in json.loads(fact)]
    except (ValueError, TypeError):
        return None
