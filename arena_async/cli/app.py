"""The parser of the command line. Parsing uses neither the network nor the disk, and imports no client."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from arena_async.cli import arena
from arena_async.cli.commands import Verb, run_command
from arena_async.cli.exit_codes import ExitCode
from arena_async.cli.options import GetOptions, OutputOptions
from arena_async.providers.registry import PROVIDERS, Service

__all__ = ["run"]

_HELP = """\
Downloader for Arena PLM and ActiGraph CentrePoint bulk data. Resumable, verified, quota-aware.

Credentials come from the environment or from a file (--env), never from the command line.

Exit codes: 0 ok, 1 failed, 2 usage, 3 some files failed, 4 authentication, 5 quota exhausted, 130 interrupted.
"""

_OUTPUT = OutputOptions()


def run(arguments: Sequence[str]) -> int:
    """Parse and run a command line, and return its exit code."""
    try:
        code = _app()(list(arguments), exit_on_error=False, print_error=True)
    except CycloptsError:
        return ExitCode.USAGE
    return int(code or ExitCode.OK)


def _app() -> App:
    app = App(
        name="arena-async",
        version=_version,
        help=_HELP,
        help_format="plaintext",
        error_console=Console(stderr=True),
    )
    app.command(_files_app("sync", "Mirror a service into a directory."))
    app.command(_files_app("plan", "Show what sync would do and what it costs."))
    lists = App(name="list", help="List what a service has.")
    for name in PROVIDERS:
        lists.command(import_module(f"arena_async.cli.{name}").list_commands())
    exports = App(name="export", help="Start an export and download it.")
    exports.command(arena.export_run, name="run")
    imports = App(name="import", help="Import a spreadsheet: check it first, then commit.")
    imports.command(arena.import_check, name="check")
    imports.command(arena.import_commit, name="commit")
    for command in (lists, get, exports, imports, verify, arena.quota, simulate, demo):
        app.command(command)
    return app


def _files_app(verb: Verb, description: str) -> App:
    app = App(name=verb, help=description)
    for name in PROVIDERS:
        app.command(import_module(f"arena_async.cli.{name}").file_commands(verb))
    return app


def _version() -> str:
    from importlib.metadata import version

    return version("arena-async")


def get(*urls: Annotated[str, Parameter(help="URLs of files.")], options: GetOptions) -> int:
    """
    Download files from URLs; verify and resume.

    The name of a file is the last part of its URL, or the name in the list.
    """
    from arena_async.cli import jobs

    # The command line is not repeated in the hint: URLs may hold signatures.
    hint = "Stopped. Downloaded data is kept. Run the same command again to continue."
    return run_command(lambda output: jobs.get(urls, options, output), options, hint=hint)


def verify(
    directory: Annotated[Path, Parameter(help="The directory used by sync.")], /, *, options: OutputOptions = _OUTPUT
) -> int:
    """Re-check local files against their recorded checksums. Sends no request."""
    from arena_async.cli import jobs

    return run_command(lambda output: jobs.verify(directory, output), options)


def simulate(
    service: Annotated[Service, Parameter(help="The service.")],
    /,
    *,
    port: Annotated[int, Parameter(help="The port; 0 takes a free one.")] = 0,
    files: Annotated[int, Parameter(help="Number of files.")] = 20,
    size: Annotated[int, Parameter(help="Approximate bytes of each file.")] = 100_000,
    options: OutputOptions = _OUTPUT,
) -> int:
    """Run a local simulator until Ctrl-C, and show the settings for a client."""
    from arena_async.cli import simulator

    return run_command(
        lambda output: simulator.simulate(service, output, port=port, files=files, size=size),
        options,
        hint="",
        stopped=ExitCode.OK,
    )


def demo(
    *,
    to: Annotated[Path | None, Parameter(help="A new or empty directory; by default a temporary one.")] = None,
    options: OutputOptions = _OUTPUT,
) -> int:
    """Run all steps against local simulators, without an account, in a few seconds."""
    from arena_async.cli import demo as steps

    return run_command(lambda output: steps.demo(to, output), options)
