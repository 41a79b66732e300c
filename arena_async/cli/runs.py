"""The commands that only Arena has: run an export, check and commit an import, show the quota."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import attrs
from cyclopts import Parameter

from arena_async.cli.exit_codes import ExitCode, exit_code
from arena_async.cli.files import count_files
from arena_async.cli.options import (
    NO_SERVICE_OPTIONS,
    Definition,
    InjectedOutput,
    ServiceOptions,
    SyncOptions,
    TargetOptions,
    flag,
)
from arena_async.errors import QuotaExhaustedError, TransfersFailedError

if TYPE_CHECKING:
    from arena_async.cli.output import Output
    from arena_async.options import PollPolicy, TransferOptions
    from arena_async.providers.arena import ArenaClient, ExportRun, Fetched, ImportRun
    from arena_async.transfer.leases import IfRunning
    from arena_async.transfer.mirror import Mirror

__all__ = ["export_run", "import_check", "import_commit", "quota"]

_R = TypeVar("_R", "ExportRun", "ImportRun")


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class WaitOptions:
    """How long a run is waited for."""

    timeout: Annotated[float, Parameter(help="Seconds to wait for the run.")] = 21_600.0
    every: Annotated[float, Parameter(help="Seconds to the first poll; each poll costs a request.")] = 5.0

    def poll_policy(self) -> PollPolicy:
        """
        Return the policy for polling.

        Raises:
            ConfigurationError: A value is out of range.
        """
        from arena_async.options import PollPolicy

        return PollPolicy(timeout=self.timeout, every=self.every, max_interval=max(300.0, self.every))


_WAIT = WaitOptions()

StartAnew = Annotated[bool, flag(help="Send it whatever is known about an earlier one. May do it twice.")]

#: What an interrupted command of a run writes.
_STOPPED = "Stopped. A started run continues at the service."


async def export_run(
    definition: Definition,
    /,
    *,
    options: SyncOptions,
    wait: WaitOptions = _WAIT,
    start_anew: StartAnew = False,
    output: InjectedOutput,
) -> int:
    """Start an export, wait for it and download its files. An interrupted run is resumed."""

    def fetch(arena: ArenaClient, mirror: Mirror, **watch: Any) -> Awaitable[Fetched[ExportRun]]:
        return arena.exports.fetch(definition, mirror, start_anew=start_anew, **watch)

    code, _ = await _download_run(
        fetch, options, options.transfer_options(), wait, output, if_running=options.if_running
    )
    return code


async def import_check(
    definition: Definition,
    file: Annotated[Path, Parameter(help="An .xlsx or .csv file.")],
    /,
    *,
    options: TargetOptions,
    wait: WaitOptions = _WAIT,
    worksheet: Annotated[str | None, Parameter(help="The worksheet of an .xlsx file.")] = None,
    start_anew: StartAnew = False,
    output: InjectedOutput,
) -> int:
    """Upload a file for a dry run and download the results. Imports nothing."""
    from arena_async.cli.reports import write_import
    from arena_async.options import TransferOptions
    from arena_async.providers.arena import Submission

    def fetch(arena: ArenaClient, mirror: Mirror, **watch: Any) -> Awaitable[Fetched[ImportRun]]:
        submission = Submission(file, worksheet=worksheet)
        return arena.imports.fetch(definition, submission, mirror, start_anew=start_anew, **watch)

    code, fetched = await _download_run(fetch, options, TransferOptions(workers=2), wait, output)
    if fetched is None:
        return code
    import_code = write_import(fetched.run, output, done="would be imported")
    if import_code is not ExitCode.OK:
        errors = [path for path in fetched.paths if path.stem == "error"]
        where = f" They are in {errors[0]}." if errors else ""
        output.error(f"Rows failed, and nothing was imported.{where} Correct the file and check it again.")
    elif not output.json:
        command = shlex.join(["arena-async", "import", "commit", definition, fetched.run.guid])
        output.note(f"Nothing was imported yet. To do it: {command}")
    return max(code, import_code)


async def import_commit(
    definition: Definition,
    run: Annotated[str, Parameter(help="GUID of the dry run.")],
    /,
    *,
    options: ServiceOptions = NO_SERVICE_OPTIONS,
    wait: WaitOptions = _WAIT,
    despite_errors: Annotated[bool, flag(help="Import the other rows although some failed.")] = False,
    start_anew: StartAnew = False,
    output: InjectedOutput,
) -> int:
    """Import what a dry run checked. Cannot be undone. A committed run is only shown."""
    from arena_async.cli.reports import write_import, write_run_status

    output.set_resume_hint(_STOPPED)
    poll = wait.poll_policy()
    async with options.connect("arena") as arena:
        committed = await arena.imports.commit(definition, run, despite_errors=despite_errors, start_anew=start_anew)
        done = await arena.imports.wait(definition, committed, poll=poll, on_status=partial(write_run_status, output))
    code = write_import(done, output, done="imported")
    if code is not ExitCode.OK:
        output.error("Rows failed; the others were imported.")
    return code


async def _download_run(
    fetch: Callable[..., Awaitable[Fetched[_R]]],
    options: TargetOptions,
    transfer_options: TransferOptions,
    wait: WaitOptions,
    output: Output,
    *,
    if_running: IfRunning = "wait",
) -> tuple[ExitCode, Fetched[_R] | None]:
    """
    Return the exit code and the downloaded run, or None if files failed.

    Args:
        fetch: Starts and downloads the run with a client, into a mirror; it takes ``poll`` and ``on_status``.
        options: The options of the command.
        transfer_options: The options of the download.
        wait: How long the run is waited for.
        output: The output of the command.
        if_running: What happens while another run of the same files uses the directory.
    """
    from arena_async.cli.progress import ProgressReporter
    from arena_async.cli.reports import write_report, write_run_status
    from arena_async.transfer.mirror import Mirror

    output.set_resume_hint(_STOPPED)
    poll = wait.poll_policy()
    async with (
        options.connect("arena") as arena,
        ProgressReporter(output, options.to) as progress,
        Mirror(options.to, options=transfer_options, observer=progress, if_running=if_running) as mirror,
    ):
        try:
            fetched = await fetch(arena, mirror, poll=poll, on_status=partial(write_run_status, output))
        except TransfersFailedError as failed:
            output.error("The run is done, but not all of its files are here; the same command fetches the rest.")
            quota = [error for error in failed.exceptions if isinstance(error, QuotaExhaustedError)]
            return exit_code(quota[0]) if quota else ExitCode.SOME_FAILED, None
        present = await count_files(mirror)
    code = write_report(fetched.report, output, present=present, to=options.to, written=progress.messages)
    return code, fetched


async def quota(
    *,
    who: Annotated[bool, flag(help="Also show who used them: by day, user and endpoint.")] = False,
    options: ServiceOptions = NO_SERVICE_OPTIONS,
    output: InjectedOutput,
) -> int:
    """Show the remaining requests of the day. Costs one request."""
    from arena_async.cli.reports import write_quota

    async with options.connect("arena") as arena:
        usages = await arena.usages().collect() if who else []
        if arena.quota is None or arena.quota.remaining is None:
            await arena.extracts.search(limit=1).first()
        left = arena.quota
    write_quota(left, usages, output)
    return ExitCode.OK
