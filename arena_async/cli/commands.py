"""Run a command: connect to the service, do the job, return the exit code. Imports what a job needs when it runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from arena_async.cli.exit_codes import ExitCode
from arena_async.cli.options import OutputOptions, ServiceOptions, SyncOptions
from arena_async.providers.registry import Service

if TYPE_CHECKING:
    from arena_async.cli.output import Output
    from arena_async.protocol.files import FileSet, Notice

__all__ = ["Verb", "resume_hint", "run_command", "run_list", "run_on_files"]

#: The commands that take a file set.
Verb = Literal["sync", "plan"]

_Files = TypeVar("_Files", bound="FileSet")


def run_command(
    job: Callable[[Output], Awaitable[int]],
    options: OutputOptions,
    *,
    hint: str = "Stopped.",
    stopped: ExitCode = ExitCode.INTERRUPTED,
) -> int:
    """
    Run a command and return its exit code.

    Args:
        job: What it does.
        options: What it writes.
        hint: Shown after an interruption.
        stopped: The exit code after an interruption.
    """
    from arena_async.cli.output import Output
    from arena_async.cli.running import run_job

    output = Output(json=options.json, quiet=options.quiet)
    return run_job(partial(job, output), output, hint=hint, stopped=stopped)


def resume_hint(stopped: str) -> str:
    """Return what is shown after an interruption: what has stopped, and the command line that continues it."""
    return f"{stopped} Run it again to continue:\n  {shlex.join(['arena-async', *sys.argv[1:]])}"


def run_on_files(
    verb: Verb,
    service: Service,
    make_files: Callable[[Any], _Files],
    options: SyncOptions,
    notices: Callable[[_Files], Awaitable[Sequence[Notice]]] | None = None,
) -> int:
    """
    Run ``sync`` or ``plan`` for a file set.

    Args:
        verb: Which of them.
        service: The name of the service.
        make_files: Returns the file set of a client.
        options: The options of the command.
        notices: Returns the notices to show after a sync.
    """
    from arena_async.cli import jobs

    async def job(output: Output) -> int:
        async with options.connect(service) as client:
            if verb == "plan":
                return await jobs.plan(make_files(client), options, output)
            return await jobs.sync(make_files(client), options, output, notices)

    hint = resume_hint("Stopped. Downloaded data is kept.") if verb == "sync" else "Stopped."
    return run_command(job, options, hint=hint)


def run_list(
    service: Service, rows: Callable[[Any], AsyncIterable[Any]], columns: Sequence[str], options: ServiceOptions
) -> int:
    """Run ``list`` for the rows of a client; ``columns`` are the attributes shown in a table."""
    from arena_async.cli.output import write_rows

    async def job(output: Output) -> int:
        async with options.connect(service) as client:
            await write_rows(rows(client), columns, output)
        return ExitCode.OK

    return run_command(job, options)
