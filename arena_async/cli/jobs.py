"""What the commands for any service do: download, plan, verify."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from arena_async.cli.options import GetOptions, SyncOptions
from arena_async.cli.output import Output, error_message, fields_of
from arena_async.cli.progress import ProgressReporter
from arena_async.cli.reports import write_plan, write_report, write_verification
from arena_async.errors import ArenaAsyncError, ConfigurationError
from arena_async.protocol.files import FileSet, Notice
from arena_async.providers.urls import UrlSet
from arena_async.transfer.mirror import Mirror

__all__ = ["count_files", "get", "plan", "sync", "verify"]

_Files = TypeVar("_Files", bound=FileSet)


async def sync(
    files: _Files,
    options: SyncOptions | GetOptions,
    output: Output,
    notices: Callable[[_Files], Awaitable[Sequence[Notice]]] | None = None,
) -> int:
    """Download a file set into the target directory, and write its notices."""
    transfer_options = options.transfer_options()
    async with ProgressReporter(output, options.to) as progress:
        async with Mirror(options.to, options=transfer_options, observer=progress) as mirror:
            report = await mirror.sync(files)
            present = await count_files(mirror)
        if notices is not None and report.error is None:
            try:
                _write_notices(await notices(files), output)
            except ArenaAsyncError as error:
                output.note(f"The files were downloaded, but it is unknown if they are current. {error_message(error)}")
    return write_report(report, output, present=present, to=options.to, written=progress.messages)


def _write_notices(notices: Sequence[Notice], output: Output) -> None:
    for notice in notices:
        if not output.json:
            output.note(notice.text)
        for row in notice.rows if output.json else ():
            output.record({"type": notice.kind, **fields_of(row)})


async def count_files(mirror: Mirror) -> int:
    """Return the number of complete files in a directory, those of other runs and services included."""
    return sum([1 async for _ in mirror.entries()])


async def plan(files: FileSet, options: SyncOptions | GetOptions, output: Output) -> int:
    """Write what ``sync`` would do and what it costs."""
    async with Mirror(options.to, options=options.transfer_options()) as mirror:
        return write_plan(await mirror.plan(files), output)


async def get(urls: Sequence[str], options: GetOptions, output: Output) -> int:
    """Download files from URLs, or write what that would do."""
    async with _url_set(urls, options) as files:
        await files.check()  # before the directory is created
        return await (plan if options.dry_run else sync)(files, options, output)


def _url_set(urls: Sequence[str], options: GetOptions) -> UrlSet:
    """
    Return the file set of URLs from the command line, a file or stdin.

    Raises:
        ConfigurationError: There are no URLs, or both kinds of them.
    """
    if bool(urls) == (options.input is not None):
        raise ConfigurationError("get takes either URLs or a file of URLs after -i. Nothing was sent.")
    make: Callable[..., UrlSet]
    if options.input is None:
        make = partial(UrlSet, urls)
    elif options.input == Path("-"):
        make = partial(UrlSet.parse, sys.stdin.buffer.read(), name="stdin")
    else:
        make = partial(UrlSet.read, options.input)
    return make(folders=options.folders, allow_http=options.allow_http, allow_private=options.allow_private)


async def verify(directory: Path, output: Output) -> int:
    """
    Compare the files of a directory with their recorded checksums.

    Raises:
        ConfigurationError: ``sync`` never used this directory.
    """
    if not (directory / ".arena-async").is_dir():
        raise ConfigurationError(f"{directory}: not a directory used by sync; name the one given with --to.")
    async with Mirror(directory) as mirror:
        result = await mirror.verify()
    return write_verification(result, output, directory)
