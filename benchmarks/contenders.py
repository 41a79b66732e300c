"""
One measured piece of work, in a process of its own.

``python -m benchmarks.contenders <name> '{...}'`` does it and prints one line of JSON: what was done, and the peak of
the memory. The clock runs outside, so that starting Python and importing count.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import attrs

if TYPE_CHECKING:
    from arena_async import ByteStream, Cost, FileSet, OpenedFile, RemoteFile
    from arena_async.transfer.models import LedgerEntry as Entry

__all__ = ["ARENA_PAGE", "CONTENDERS", "WORKERS"]

#: Bodies open at a time, at the most, for everybody.
WORKERS = 8

#: A page of each service, at the most.
ARENA_PAGE, CENTREPOINT_PAGE = 400, 100

#: Names that one file may have at the most on common file systems, and entries written in one go.
_LINKS, _SEEDED = 32_000, 4000

Facts = dict[str, Any]


@attrs.define
class CountedBodies:
    """A set of files that knows how many of its bodies are open."""

    files: FileSet
    open_now: int = 0
    max_open: int = 0

    @property
    def scope(self) -> str:
        """As the set itself."""
        return self.files.scope

    @property
    def narrowed(self) -> bool:
        """As the set itself."""
        return self.files.narrowed

    @property
    def requests_sent(self) -> int:
        """As the set itself."""
        return self.files.requests_sent

    def __aiter__(self) -> AsyncIterator[RemoteFile]:
        return aiter(self.files)

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """Open it and count it until its last byte."""
        opened = await self.files.open(file, offset=offset, validator=validator, until=until)
        self.open_now += 1
        self.max_open = max(self.max_open, self.open_now)
        return attrs.evolve(opened, stream=CountedBody(opened.stream, self))

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """As the set itself."""
        return await self.files.find(keys)

    def since(self, watermarks: Mapping[str, datetime]) -> CountedBodies:
        """Return itself: the directories of benchmarks are empty."""
        del watermarks
        return self

    def cost(self) -> Cost:
        """As the set itself."""
        return self.files.cost()


@attrs.define
class CountedBody:
    """One body of them."""

    stream: ByteStream
    owner: CountedBodies
    ended: bool = False

    def _end(self) -> None:
        self.owner.open_now -= not self.ended
        self.ended = True

    async def readinto(self, buffer: memoryview) -> int:
        """As the body itself."""
        count = await self.stream.readinto(buffer)
        if count == 0:
            self._end()
        return count

    @property
    def at_end(self) -> bool:
        """As the body itself."""
        return self.stream.at_end

    async def read(self, limit: int) -> bytes:
        """As the body itself."""
        data = await self.stream.read(limit)
        if self.at_end or not data:
            self._end()
        return data

    async def aclose(self) -> None:
        """As the body itself."""
        self._end()
        await self.stream.aclose()


async def mirror_datasets(facts: Facts, directory: str) -> Facts:
    """Bring every dataset file home with Mirror: verified, hashed, durable, remembered."""
    from arena_async import CentrePointClient, Mirror, TransferOptions

    async with (
        CentrePointClient.from_env(environ=facts["environment"]) as centrepoint,
        Mirror(directory, options=TransferOptions(workers=WORKERS)) as mirror,
    ):
        files = CountedBodies(centrepoint.datasets.files(facts["study"]))
        report = await mirror.sync(files)
        report.raise_for_failures()
        return {"files": len(report.outcomes), "bytes": report.bytes_written, "max_open": files.max_open}


async def loop_datasets(facts: Facts, directory: str) -> Facts:
    """Do what the tutorials do: a session, a semaphore, gather; nothing verified, durable or remembered."""
    import aiofiles
    import aiohttp
    from yarl import URL

    target = Path(directory)
    slots = asyncio.Semaphore(WORKERS)
    done = {"files": 0, "bytes": 0, "max_open": WORKERS}

    async def fetch(session: aiohttp.ClientSession, number: int, url: str) -> None:
        async with (
            slots,
            session.get(URL(url, encoded=True)) as answer,
            aiofiles.open(target / f"{number}.csv.gz", "wb") as file,
        ):
            async for piece in answer.content.iter_chunked(65_536):
                await file.write(piece)
                done["bytes"] += len(piece)
        done["files"] += 1

    async with aiohttp.ClientSession() as session:
        form = {
            "grant_type": "client_credentials",
            "client_id": facts["client_id"],
            "client_secret": facts["client_secret"],
            "scope": "DataAccess",
        }
        async with session.post(facts["auth_url"], data=form) as answer:
            token = (await answer.json())["access_token"]
        listing = f"{facts['base_url']}/dataaccess/v3/studies/{facts['study']}/datasetfiles"
        links: list[str] = []
        while True:
            async with session.get(
                listing,
                params={"offset": len(links), "limit": CENTREPOINT_PAGE},
                headers={"Authorization": f"Bearer {token}"},
            ) as answer:
                page = await answer.json()
            links += [row["fileUrl"] for row in page["items"]]
            if len(links) >= page["totalCount"]:
                break
        await asyncio.gather(*(fetch(session, number, link) for number, link in enumerate(links)))
    return done


async def list_runs(facts: Facts, directory: str) -> Facts:
    """List the runs of an extract as models."""
    from arena_async import ArenaClient

    del directory
    async with ArenaClient.from_env(environ=facts["environment"]) as arena:
        rows = len(await arena.extracts.runs(facts["extract"]).collect())
        return {"rows": rows, "pages": -(-rows // ARENA_PAGE)}


async def loop_runs(facts: Facts, directory: str) -> Facts:
    """List the runs of an extract as dictionaries, until an empty page."""
    import aiohttp

    del directory
    environment, rows = facts["environment"], 0
    base = environment["ARENA_BASE_URL"]
    login = {
        "email": environment["ARENA_EMAIL"],
        "password": environment["ARENA_PASSWORD"],
        "workspaceId": int(environment["ARENA_WORKSPACE_ID"]),
    }
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
        async with session.post(f"{base}/login", json=login) as answer:
            credential = {"arena_session_id": (await answer.json())["arenaSessionId"]}
        while True:
            async with session.get(
                f"{base}/extracts/{facts['extract']}/runs",
                params={"offset": rows, "limit": ARENA_PAGE},
                headers=credential,
            ) as answer:
                page = (await answer.json())["results"]
            rows += len(page)
            if not page:
                break
        async with session.put(f"{base}/logout", headers=credential):
            return {"rows": rows, "pages": -(-rows // ARENA_PAGE)}


def _wanted(facts: Facts) -> list[str]:
    """Read the addresses an errand is about."""
    return Path(facts["list"]).read_text().split()


async def mirror_links(facts: Facts, directory: str) -> Facts:
    """Bring dataset files home with Mirror through their signed links, which another server answers."""
    from arena_async import CentrePointClient, Mirror, TransferOptions

    options = TransferOptions(workers=facts["connections"], **facts.get("options", {}))
    async with (
        CentrePointClient.from_env(environ=facts["environment"], rate_limit=1_000_000) as centrepoint,
        Mirror(directory, options=options) as mirror,
    ):
        report = await mirror.sync(centrepoint.datasets.files(facts["study"]))
        report.raise_for_failures()
        return {"files": len(report.outcomes), "bytes": report.bytes_written, "requests": report.requests}


async def mirror_urls(facts: Facts, directory: str) -> Facts:
    """Bring a plain list of addresses home with Mirror: verified by length, hashed, durable, remembered."""
    from arena_async import Mirror, TransferOptions, UrlSet

    options = TransferOptions(workers=facts["connections"], **facts.get("options", {}))
    async with (
        UrlSet(_wanted(facts), allow_http=True, allow_private=True) as files,
        Mirror(directory, options=options) as mirror,
    ):
        report = await mirror.sync(files)
        report.raise_for_failures()
        return {"files": len(report.outcomes), "bytes": report.bytes_written, "requests": report.requests}


async def download_urls(facts: Facts, directory: str) -> Facts:
    """Bring a plain list of addresses home with Downloader."""
    from arena_async import Downloader, TransferOptions, UrlSet

    options = TransferOptions(workers=facts["connections"], **facts.get("options", {}))
    async with (
        UrlSet(_wanted(facts), allow_http=True, allow_private=True) as files,
        Downloader(directory, options=options) as downloader,
    ):
        report = await downloader.run(files)
        report.raise_for_failures()
        return {"files": len(report.outcomes), "bytes": report.bytes_written, "requests": report.requests}


async def ledger_rows(facts: Facts, directory: str) -> Facts:
    """Write files down as a sync does it, a group in a transaction, and look them all up in pages."""
    from arena_async.transfer.ledger import Ledger
    from arena_async.transfer.models import PAGE, ListingRecord
    from arena_async.transfer.models import LedgerEntry as Entry

    keys = [f"centrepoint/bench/dataset-file/{number:07d}" for number in range(facts["files"])]
    digest, began = "0" * 64, time.perf_counter()
    ledger = Ledger(Path(directory, "ledger.sqlite"))
    for start in range(0, len(keys), facts["group"]):
        group = keys[start : start + facts["group"]]
        entries = [
            Entry(key=key, path=f"{key}.csv.gz", size=20_000, mtime_ns=1, change="1", sha256=digest, state="committing")
            for key in group
        ]
        ledger.write(entries)
        ledger.write((), completed=entries)
    written = time.perf_counter()
    generation, known = ledger.begin_listing("bench"), 0
    for start in range(0, len(keys), PAGE):
        rows = [ListingRecord(key=key, change="1", path=f"{key}.csv.gz") for key in keys[start : start + PAGE]]
        known += sum(row.entry is not None for row in ledger.note_listed("bench", generation, rows))
    assert known == len(keys)
    looked_up = time.perf_counter()
    ledger.close()
    return {"write": written - began, "look_up": looked_up - written}


async def seed_mirror(facts: Facts, directory: str) -> Facts:
    """
    Make the folder of a mirror that has brought nearly everything home before: every file but each so-many-th.

    The files are names of a few empty ones, since a million real ones would only take longer.
    """
    from arena_async import CentrePointClient
    from arena_async.protocol.filenames import target_path as place
    from arena_async.transfer.ledger import Ledger
    from arena_async.transfer.models import LedgerEntry as Entry

    root, made, kept = Path(directory), 0, Path(directory)
    state = root / ".arena-async"
    state.mkdir(mode=0o700)
    ledger = Ledger(state / "ledger.sqlite")
    async with CentrePointClient.from_env(environ=facts["environment"], rate_limit=1_000_000) as centrepoint:
        entries: list[Entry] = []
        folders: set[Path] = set()
        number = 0
        async for file in centrepoint.datasets.files(facts["study"]):
            number += 1
            if number % facts["every"] == 0:
                continue
            path = place(file)
            target = root / path
            if target.parent not in folders:
                target.parent.mkdir(parents=True)
                folders.add(target.parent)
            if made % _LINKS == 0:
                target.touch()
                kept, status = target, target.stat()
            else:
                os.link(kept, target)
            made += 1
            entries.append(
                Entry(key=file.key, path=str(path), mtime_ns=status.st_mtime_ns, change=file.change, name=file.name)
            )
            if len(entries) == _SEEDED:
                ledger.write(entries)
                entries.clear()
        ledger.write(entries)
    ledger.close()
    return {"files": number, "known": made}


async def mirror_million(facts: Facts, directory: str) -> Facts:
    """Plan, sync or prune with a listing of which nearly everything is here."""
    from arena_async import CentrePointClient, Mirror, TransferOptions

    if facts["verb"] == "prune":
        await _know_more(facts, Path(directory))
    async with (
        CentrePointClient.from_env(environ=facts["environment"], rate_limit=1_000_000) as centrepoint,
        Mirror(directory, options=TransferOptions(workers=WORKERS)) as mirror,
    ):
        files = centrepoint.datasets.files(facts["study"])
        if facts["verb"] == "plan":
            counts = (await mirror.plan(files)).counts
        else:
            report = await mirror.sync(files, prune=facts["verb"] == "prune")
            report.raise_for_failures()
            counts = report.counts
        return {"counts": {action.name: count for action, count in counts.items() if count}}


async def _know_more(facts: Facts, root: Path) -> None:
    """Let a mirror remember files that are not listed any more, as many as would have been new."""
    from arena_async import CentrePointClient
    from arena_async.transfer.ledger import Ledger
    from arena_async.transfer.models import ListingRecord

    async with CentrePointClient.from_env(environ=facts["environment"]) as centrepoint:
        scope = centrepoint.datasets.files(facts["study"]).scope
    ledger = Ledger(root / ".arena-async" / "ledger.sqlite")
    generation, few = ledger.begin_listing(scope), facts["files"] // facts["every"]
    (root / "gone").mkdir()
    for start in range(0, few, _SEEDED):
        entries = [_put_down(root, f"gone/{number}.csv.gz") for number in range(start, min(few, start + _SEEDED))]
        ledger.write(entries)
        ledger.note_listed(scope, generation, [ListingRecord(key=entry.key, path=entry.path) for entry in entries])
    ledger.close()


def _put_down(root: Path, path: str) -> Entry:
    """Make an empty file that was brought here once."""
    from arena_async.transfer.models import LedgerEntry as Entry

    (root / path).touch()
    return Entry(key=path, path=path, mtime_ns=(root / path).stat().st_mtime_ns)


async def loop_urls(facts: Facts, directory: str) -> Facts:
    """Do what the tutorials do with a list of addresses: a session, a semaphore, gather, pieces of 64 KB."""
    import aiofiles
    import aiohttp

    slots = asyncio.Semaphore(facts["connections"])
    target = Path(directory)

    async def fetch(session: aiohttp.ClientSession, url: str) -> None:
        async with (
            slots,
            session.get(url) as answer,
            aiofiles.open(target / url.rpartition("/")[2], "wb") as file,
        ):
            answer.raise_for_status()
            async for piece in answer.content.iter_chunked(65_536):
                await file.write(piece)

    wanted = _wanted(facts)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=facts["connections"])) as session:
        await asyncio.gather(*(fetch(session, url) for url in wanted))
    return {"files": len(wanted)}


def open_new(path: Path) -> BinaryIO:
    """Open a file in the loop's own thread: that is what the examples of obstore do."""
    return path.open("wb")


async def obstore_urls(facts: Facts, directory: str) -> Facts:
    """Stream every file out of an HTTPStore, in pieces of a megabyte."""
    import obstore
    from obstore.store import HTTPStore

    slots = asyncio.Semaphore(facts["connections"])
    wanted = _wanted(facts)
    base = wanted[0].rpartition("/")[0]
    store = HTTPStore.from_url(base, client_options={"allow_http": True})

    async def fetch(name: str) -> None:
        async with slots:
            answer = await obstore.get_async(store, name)
            with open_new(Path(directory, name)) as file:
                async for piece in answer.stream(min_chunk_size=1 << 20):
                    file.write(piece)

    await asyncio.gather(*(fetch(url.rpartition("/")[2]) for url in wanted))
    return {"files": len(wanted)}


def parfive_urls(facts: Facts, directory: str) -> Facts:
    """Enqueue every file at a Downloader."""
    import parfive

    downloader = parfive.Downloader(
        max_conn=facts["connections"], max_splits=facts["splits"], progress=False, overwrite=True
    )
    for url in _wanted(facts):
        downloader.enqueue_file(url, path=directory, filename=url.rpartition("/")[2])
    results = downloader.download()
    if results.errors:
        raise SystemExit(str(results.errors)[:2000])
    return {"files": len(results)}


def pypdl_urls(facts: Facts, directory: str) -> Facts:
    """Return every file to a Pypdl as a task."""
    from pypdl import Pypdl

    tasks = [{"url": url, "file_path": str(Path(directory, url.rpartition("/")[2]))} for url in _wanted(facts)]
    found = Pypdl(max_concurrent=facts["connections"]).start(
        tasks=tasks, multisegment=facts["splits"] > 1, segments=facts["splits"], display=False
    )
    return {"files": len(found or ())}


#: Everything that can be measured: what is handed in are the facts of the service and an empty folder.
CONTENDERS: dict[str, Callable[[Facts, str], Facts | Coroutine[Any, Any, Facts]]] = {
    function.__name__: function
    for function in (
        mirror_datasets,
        loop_datasets,
        list_runs,
        loop_runs,
        mirror_links,
        mirror_urls,
        download_urls,
        ledger_rows,
        seed_mirror,
        mirror_million,
        loop_urls,
        obstore_urls,
        parfive_urls,
        pypdl_urls,
    )
}


def main() -> None:
    """Do the work that is named on the command line."""
    given = json.loads(sys.argv[2])
    work = CONTENDERS[sys.argv[1]](given["facts"], given["folder"])
    done = asyncio.run(work) if asyncio.iscoroutine(work) else work
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({**done, "peak_memory": peak, "cpu_seconds": used.ru_utime + used.ru_stime}))


if __name__ == "__main__":
    main()
