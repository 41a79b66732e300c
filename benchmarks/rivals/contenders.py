"""
One contender, in a process of its own, that is asked for some files as its documentation says.

``python -m benchmarks.rivals.contenders parfive '{"to": ..., "files": [...], "headers": {}, "careful": false, ...}'``
ends with one line: which files it says it has brought, by number. Whatever it says about the others is printed above
that, as a user's script would. A file is an object with ``url``, ``name`` (or null: the contender chooses one) and
``sha256``, which is given to the contender where ``careful`` is set. ``frugal`` asks for files in one piece, and
``keeping`` to use what an earlier run left.

Nothing of ours is imported here but by ours.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["CLAIM", "CONTENDERS"]

#: What the last line begins with.
CLAIM = "brought: "

#: Bodies at a time, and tries beyond the first one where the contender counts them.
WORKERS, RETRIES = 4, 3
#: Seconds of silence after which a contender that has such a setting gives a connection up.
TIMEOUT = 10

Job = dict[str, Any]


def parfive(job: Job) -> set[int]:
    """
    Use ``Downloader``, with ``retry`` for what failed, and with ``checksum=`` where a digest is known.

    ``retry`` forgets the checksums, so those files are enqueued once more instead.
    """
    import aiohttp
    import parfive as rival

    timeouts = aiohttp.ClientTimeout(total=None, sock_read=TIMEOUT)
    config = rival.SessionConfig(headers=job["headers"] or None, timeouts=timeouts)
    numbers = {file["url"]: number for number, file in enumerate(job["files"])}
    done: set[int] = set()
    splits = 1 if job["frugal"] else 5  # 5 is its default
    downloader = rival.Downloader(max_conn=WORKERS, max_splits=splits, progress=False, config=config)

    def enqueue(number: int) -> None:
        file = job["files"][number]
        checksum = f"sha-256={file['sha256']}" if job["careful"] else None
        downloader.enqueue_file(file["url"], path=job["to"], filename=file["name"], checksum=checksum)

    for number in numbers.values():
        enqueue(number)
    results = downloader.download()
    for _ in range(RETRIES):
        done |= {numbers[url] for url in results.urls}
        interrupted = any(isinstance(error.exception, asyncio.CancelledError) for error in results.errors)
        if not results.errors or interrupted:
            break
        if job["careful"]:
            for error in results.errors:
                enqueue(numbers[error.url])
            results = downloader.download()
        else:
            results = downloader.retry(results)
    if results.errors:
        print(results.errors)
    return done | {numbers[url] for url in results.urls}


def pypdl(job: Job) -> set[int]:
    """Use ``Pypdl`` with segments, retries and the validation of ETags on, and compare its hash where one is known."""
    from pypdl import Pypdl

    numbers = {file["url"]: number for number, file in enumerate(job["files"])}
    tasks = [{"url": file["url"], "file_path": str(Path(job["to"], file["name"] or ""))} for file in job["files"]]
    found = Pypdl(max_concurrent=WORKERS).start(
        tasks=tasks,
        multisegment=not job["frugal"],
        overwrite=not job["keeping"],
        retries=RETRIES,
        hash_algorithms="sha256" if job["careful"] else None,
        display=False,
        **({"headers": dict(job["headers"])} if job["headers"] else {}),
    )
    done = set()
    for url, validator in found or ():
        number = numbers[url]
        if job["careful"] and not validator.validate_hash(job["files"][number]["sha256"], "sha256"):
            print(f"file {number}: the hash is another one")
            continue
        done.add(number)
    return done


def pooch(job: Job) -> set[int]:
    """Use ``create`` with retries and a registry; ``retrieve`` where the name is left to it."""
    import pooch as rival

    download = rival.HTTPDownloader(headers=job["headers"], timeout=TIMEOUT)
    named = [file for file in job["files"] if file["name"]]
    known = {file["name"]: f"sha256:{file['sha256']}" if job["careful"] else None for file in named}
    urls = {file["name"]: file["url"] for file in named}
    fetcher = rival.create(job["to"], "http://127.0.0.1/", registry=known, urls=urls, retry_if_failed=RETRIES)
    done = set()
    for number, file in enumerate(job["files"]):
        try:
            if file["name"]:
                fetcher.fetch(file["name"], downloader=download)
            else:
                known_hash = f"sha256:{file['sha256']}" if job["careful"] else None
                rival.retrieve(file["url"], known_hash, path=job["to"], downloader=download)
        except Exception as error:  # noqa: BLE001 - whatever it raises is what it says
            print(f"file {number}: {error!r}")
        else:
            done.add(number)
    return done


def loop(job: Job) -> set[int]:
    """Do what most tutorials do with aiohttp: ten lines, which are given the names."""
    import aiohttp

    async def fetch(session: aiohttp.ClientSession, url: str, path: Path) -> None:
        async with session.get(url) as answer:
            answer.raise_for_status()
            with path.open("wb") as file:
                async for piece in answer.content.iter_chunked(65_536):
                    file.write(piece)

    async def download() -> list[BaseException | None]:
        async with aiohttp.ClientSession(headers=job["headers"]) as session:
            work = [fetch(session, file["url"], Path(job["to"], file["name"])) for file in job["files"]]
            return await asyncio.gather(*work, return_exceptions=True)

    done = set()
    for number, error in enumerate(asyncio.run(download())):
        if error is None:
            done.add(number)
        else:
            print(f"file {number}: {error}")
    return done


def arena_async(job: Job) -> set[int]:
    """Use ``Mirror`` with the options it comes with, and without any digest."""
    from benchmarks.rivals.links import download

    return asyncio.run(download(job))


#: Everybody who can be asked.
CONTENDERS: dict[str, Callable[[Job], set[int]]] = {
    function.__name__: function for function in (parfive, pypdl, pooch, loop, arena_async)
}


def main() -> None:
    """Do the job that is given on the command line; the exit code is 1 where something was not brought."""
    logging.basicConfig(level=logging.INFO)
    job = json.loads(sys.argv[2])
    done = CONTENDERS[sys.argv[1]](job)
    print(f"{CLAIM}{json.dumps(sorted(done))}", flush=True)
    sys.exit(len(done) < len(job["files"]))


if __name__ == "__main__":
    main()
