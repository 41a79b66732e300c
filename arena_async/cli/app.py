"""The parser of the command line. Parsing uses neither the network nor the disk, and imports no client."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from cyclopts import App, CycloptsError

from arena_async.cli.exit_codes import ExitCode
from arena_async.options import VERSION
from arena_async.providers.registry import PROVIDERS

__all__ = ["run"]

_HELP = """\
Downloader for Arena PLM and ActiGraph CentrePoint bulk data. Resumable, verified, quota-aware.

Credentials come from the environment or from a file (--env), never from the command line.

Exit codes: 0 ok, 1 failed, 2 usage, 3 some files failed, 4 authentication, 5 quota exhausted, 130 interrupted.
"""


def run(arguments: Sequence[str]) -> int:
    """Parse and run a command line, and return its exit code."""
    app = _app()
    try:
        command, bound, injected = app.parse_args(list(arguments), exit_on_error=False, print_error=True)
    except CycloptsError:
        return ExitCode.USAGE
    if "output" not in injected:  # --help and --version
        _import_commands(app)
        command(*bound.args, **bound.kwargs)
        return ExitCode.OK
    from arena_async.cli.output import Output
    from arena_async.cli.running import run_job

    bound.apply_defaults()
    options = bound.arguments["options"]
    output = Output(json=options.json, quiet=options.quiet)
    bound.arguments["output"] = output
    return run_job(partial(command, *bound.args, **bound.kwargs), output)


def _app() -> App:
    """Return the parser; a command is imported when it is used."""
    app = App(name="arena-async", version=VERSION, help=_HELP, help_format="plaintext")
    sync = App(name="sync", help="Mirror a service into a directory.")
    plan = App(name="plan", help="Show what sync would do and what it costs.")
    lists = App(name="list", help="List what a service has.")
    for service in PROVIDERS:
        for group in (sync, plan, lists):
            group.command(f"arena_async.cli.{service}:{group.name[0]}_commands", name=service)
    exports = App(name="export", help="Start an export and download it.")
    exports.command("arena_async.cli.runs:export_run", name="run")
    imports = App(name="import", help="Import a spreadsheet: check it first, then commit.")
    imports.command("arena_async.cli.runs:import_check", name="check")
    imports.command("arena_async.cli.runs:import_commit", name="commit")
    for group in (sync, plan, lists, exports, imports):
        app.command(group)
    for command in ("files:get", "files:verify", "runs:quota", "simulator:simulate", "simulator:demo"):
        app.command(f"arena_async.cli.{command}")
    return app


def _import_commands(app: App) -> None:
    """Import all commands; the help has no description of the others."""
    for name in app:
        if not name.startswith("-"):
            _import_commands(app[name])
