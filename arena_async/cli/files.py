"""The commands for files of any service: ``get``, ``verify``, and the work of ``sync`` and ``plan``."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
from cyclopts import App, Parameter

from arena_async.cli.options import NO_OPTIONS, GetOptions, InjectedOutput, OutputOptions, SyncOptions
from arena_async.errors import ArenaAsyncError, ConfigurationError
from arena_async.providers.registry import PROVIDERS, Service

if TYPE_CHECKING:
    from arena_async.cli.output import Output
    from arena_async.protocol.files import FileSet, Notice
    from arena_async.providers.urls import UrlSet
    from arena_async.transfer.mirror import Mirror

__all__ = ["FileCommands", "count_files", "get", "verify"]


async def get(
    *urls: Annotated[str, Parameter(help="URLs of files.")], options: GetOptions, output: InjectedOutput
) -> int:
    """
    Download files from URLs; verify and resume.

    The name of a file is the last part of its URL, or the name in the list.
    """
    # The command line is not repeated in the hint: URLs may hold signatures.
    output.hint = "Stopped. Downloaded data is kept. Run the same command again to continue."
    async with _url_set(urls, options) as files:
        await files.check()  # before the directory is created
        return await (_plan if options.dry_run else _sync)(files, options, output)


def _url_set(urls: Sequence[str], options: GetOptions) -> UrlSet:
    """
    Return the file set of URLs from the command line, a file or stdin.

    Raises:
        ConfigurationError: There are no URLs, or both kinds of them.
    """
    from arena_async.providers.urls import UrlSet

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


@attrs.frozen
class FileCommands:
    """The commands of a service below ``sync`` or ``plan``; each is a method that calls :meth:`run`."""

    verb: Literal["sync", "plan"]
    service: Service

    def app(self, *commands: Callable[..., Awaitable[int]]) -> App:
        """Return the parser of the commands."""
        app = App(name=self.service, help=f"{PROVIDERS[self.service].title}.")
        for command in commands:
            app.command(command)
        return app

    async def run(self, make_files: Callable[[Any], FileSet], options: SyncOptions, output: Output) -> int:
        """
        Download or plan a file set.

        Args:
            make_files: Returns the file set of a client.
            options: The options of the command.
            output: The output of the command.
        """
        if self.verb == "sync":
            output.set_resume_hint("Stopped. Downloaded data is kept.")
        async with options.connect(self.service) as client:
            return await (_plan if self.verb == "plan" else _sync)(make_files(client), options, output)


async def _plan(files: FileSet, options: SyncOptions | GetOptions, output: Output) -> int:
    """Write what ``sync`` would do and what it costs."""
    from arena_async.cli.reports import write_plan
    from arena_async.transfer.mirror import Mirror

    async with Mirror(options.to, options=options.transfer_options()) as mirror:
        return write_plan(await mirror.plan(files), output)


async def _sync(files: FileSet, options: SyncOptions | GetOptions, output: Output) -> int:
    """Download a file set into the target directory, and write its notices if it has some."""
    from arena_async.cli.output import error_message
    from arena_async.cli.progress import ProgressReporter
    from arena_async.cli.reports import write_notices, write_report
    from arena_async.transfer.mirror import Mirror

    transfer_options = options.transfer_options()
    async with ProgressReporter(output, options.to) as progress:
        async with Mirror(
            options.to, options=transfer_options, observer=progress, if_running=options.if_running
        ) as mirror:
            report = await mirror.sync(files)
            present = await count_files(mirror)
        notices: Callable[[], Awaitable[Sequence[Notice]]] | None = getattr(files, "notices", None)
        if notices is not None and report.error is None:
            try:
                write_notices(await notices(), output)
            except ArenaAsyncError as error:
                output.note(f"The files were downloaded, but it is unknown if they are current. {error_message(error)}")
    return write_report(report, output, present=present, to=options.to, written=progress.messages)


async def count_files(mirror: Mirror) -> int:
    """Return the number of complete files in a directory, those of other runs and services included."""
    return sum([1 async for _ in mirror.entries()])


async def verify(
    directory: Annotated[Path, Parameter(help="The directory used by sync.")],
    /,
    *,
    options: OutputOptions = NO_OPTIONS,  # noqa: ARG001  read by the caller
    output: InjectedOutput,
) -> int:
    """Re-check local files against their recorded checksums. Sends no request."""
    from arena_async.cli.reports import write_verification
    from arena_async.transfer.mirror import Mirror

    if not (directory / ".arena-async").is_dir():
        raise ConfigurationError(f"{directory}: not a directory used by sync; name the one given with --to.")
    async with Mirror(directory) as mirror:
        result = await mirror.verify()
    return write_verification(result, output, directory)
