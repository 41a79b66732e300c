"""
One measured piece of work, in a process of its own.

``python -m benchmarks.contenders <name> '{...}'`` does it and prints one line of JSON: what was done, and the peak of
the memory. The clock runs outside, so that starting Python and importing count.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from arena_async import ByteStream, FileSet, OpenedFile, Price, RemoteFile

__all__ = ["CONTENDERS", "WORKERS"]

#: Bodies open at a time, at the most, for everybody.
WORKERS = 8

#: A page of each service, at the most.
ARENA_PAGE, CENTREPOINT_PAGE = 400, 100

Facts = dict[str, Any]


@attrs.define
class CountedBodies:
    """A set of files that knows how many of its bodies are open."""

    files: FileSet
    open_now: int = 0
    most_open: int = 0

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

    async def open(self, file: RemoteFile, *, offset: int = 0, validator: str | None = None) -> OpenedFile:
        """Open it and count it until its last byte."""
        opened = await self.files.open(file, offset=offset, validator=validator)
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        return attrs.evolve(opened, stream=CountedBody(opened.stream, self))

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """As the set itself."""
        return await self.files.find(keys)

    def since(self, watermark: datetime | None) -> CountedBodies:
        """Give itself: the folders of benchmarks are empty."""
        del watermark
        return self

    def price(self) -> Price:
        """As the set itself."""
        return self.files.price()


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

    async def aclose(self) -> None:
        """As the body itself."""
        self._end()
        await self.stream.aclose()


async def mirror_datasets(facts: Facts, folder: str) -> Facts:
    """Bring every dataset file home with Mirror: verified, hashed, durable, remembered."""
    from arena_async import CentrePointClient, Mirror, TransferOptions

    async with (
        CentrePointClient.from_env(environ=facts["environment"]) as centrepoint,
        Mirror(folder, options=TransferOptions(workers=WORKERS)) as mirror,
    ):
        files = CountedBodies(centrepoint.datasets.files(facts["study"]))
        report = await mirror.sync(files)
        report.raise_for_failures()
        return {"files": len(report.outcomes), "bytes": report.bytes_written, "most_open": files.most_open}


async def loop_datasets(facts: Facts, folder: str) -> Facts:
    """Do what the tutorials do: a session, a semaphore, gather; nothing verified, durable or remembered."""
    import aiofiles
    import aiohttp
    from yarl import URL

    target = Path(folder)
    slots = asyncio.Semaphore(WORKERS)
    done = {"files": 0, "bytes": 0, "most_open": WORKERS}

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


async def list_runs(facts: Facts, folder: str) -> Facts:
    """List the runs of an extract as models."""
    from arena_async import ArenaClient

    del folder
    async with ArenaClient.from_env(environ=facts["environment"]) as arena:
        return {"rows": len(await arena.extracts.runs(facts["extract"]).collect())}


async def loop_runs(facts: Facts, folder: str) -> Facts:
    """List the runs of an extract as dictionaries, until an empty page."""
    import aiohttp

    del folder
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
            return {"rows": rows}


#: Everything that can be measured: what is handed in are the facts of the service and an empty folder.
CONTENDERS: dict[str, Callable[[Facts, str], Coroutine[Any, Any, Facts]]] = {
    function.__name__: function for function in (mirror_datasets, loop_datasets, list_runs, loop_runs)
}


def main() -> None:
    """Do the work that is named on the command line."""
    given = json.loads(sys.argv[2])
    done = asyncio.run(CONTENDERS[sys.argv[1]](given["facts"], given["folder"]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({**done, "peak_memory": peak, "cpu_seconds": used.ru_utime + used.ru_stime}))


if __name__ == "__main__":
    main()
