"""The commands for Arena PLM."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
from cyclopts import App, Parameter

from arena_async.cli.commands import Verb, resume_hint, run_command, run_list, run_on_files
from arena_async.cli.options import ServiceOptions, SyncOptions, TargetOptions, WaitOptions, flag

if TYPE_CHECKING:
    from arena_async.protocol.files import FileSet
    from arena_async.providers.arena import ArenaClient

__all__ = ["export_run", "file_commands", "import_check", "import_commit", "list_commands", "quota"]

_DEFAULTS = ServiceOptions()
_WAIT = WaitOptions()

_Definition = Annotated[str, Parameter(help="GUID of the definition.")]
_Run = Annotated[str | None, Parameter(help="Only this run, by its GUID.")]
_Latest = Annotated[bool, flag(help="Only the latest completed run.")]
_RunsOf = Annotated[str | None, Parameter(help="GUID of one of them: list its runs.")]
_FilesOf = Annotated[str | None, Parameter(help="GUID of a run: list its files.")]


def file_commands(verb: Verb) -> App:
    """Return the commands below ``sync arena`` or ``plan arena``."""
    app = App(name="arena", help="Arena PLM.")
    commands = _ArenaCommands(partial(run_on_files, verb, "arena"))
    for command in (commands.extracts, commands.exports, commands.imports):
        app.command(command)
    return app


@attrs.frozen
class _ArenaCommands:
    """The commands; ``run`` downloads or plans the file set of a client."""

    run: Callable[[Callable[[ArenaClient], FileSet], SyncOptions], int]

    def extracts(
        self,
        guid: Annotated[str | None, Parameter(help="GUID of a data extract; by default all of the workspace.")] = None,
        /,
        *,
        run: _Run = None,
        latest: _Latest = False,
        completed_since: Annotated[
            datetime | None, Parameter(help="Only runs completed since then: a date or a time, in UTC.")
        ] = None,
        options: SyncOptions,
    ) -> int:
        """Zip files of data extract runs."""
        since = completed_since
        if since is not None and since.tzinfo is None:
            since = since.replace(tzinfo=UTC)
        return self.run(lambda arena: arena.extracts.files(guid, run, latest=latest, completed_from=since), options)

    def exports(self, guid: _Definition, /, *, run: _Run = None, latest: _Latest = False, options: SyncOptions) -> int:
        """Zip files of export runs."""
        return self.run(lambda arena: arena.exports.files(guid, run, latest=latest), options)

    def imports(self, guid: _Definition, /, *, run: _Run = None, options: SyncOptions) -> int:
        """Submitted files, results and errors of import runs."""
        return self.run(lambda arena: arena.imports.files(guid, run), options)


def list_commands() -> App:
    """Return the commands below ``list arena``."""
    app = App(name="arena", help="Arena PLM.")
    definition, run = ("guid", "number", "name"), ("guid", "number", "status", "completed")
    for name, what, columns, run_columns in (
        ("extracts", "Data extracts", ("guid", "name", "enabled"), ("guid", "status", "completed")),
        ("exports", "Export definitions", definition, run),
        ("imports", "Import definitions", definition, run),
    ):
        description = f"{what}, their runs, or the files of a run."
        app.command(_list_command(name, columns, run_columns), name=name, help=description)
    return app


def _list_command(name: str, columns: tuple[str, ...], run_columns: tuple[str, ...]) -> Callable[..., int]:
    """Return the command that lists the definitions of a collection, the runs of one, or the files of a run."""
    collection = attrgetter(name)

    def command(guid: _RunsOf = None, run: _FilesOf = None, /, *, options: ServiceOptions = _DEFAULTS) -> int:
        if guid is None:
            return run_list("arena", lambda arena: collection(arena).search(), columns, options)
        if run is None:
            return run_list("arena", lambda arena: collection(arena).runs(guid), run_columns, options)
        files = ("key", "name", "size", "change", "skip")
        return run_list("arena", lambda arena: collection(arena).files(guid, run), files, options)

    return command


def export_run(
    definition: _Definition,
    /,
    *,
    options: SyncOptions,
    wait: WaitOptions = _WAIT,
    fresh: Annotated[bool, flag(help="Start a new run even if one is in progress.")] = False,
) -> int:
    """Start an export, wait for it and download its files. An interrupted run is resumed."""
    from arena_async.cli import runs

    return run_command(
        lambda output: runs.export_run(definition, options, wait, output, fresh=fresh), options, hint=_run_hint()
    )


def import_check(
    definition: _Definition,
    file: Annotated[Path, Parameter(help="An .xlsx or .csv file.")],
    /,
    *,
    options: TargetOptions,
    wait: WaitOptions = _WAIT,
    worksheet: Annotated[str | None, Parameter(help="The worksheet of an .xlsx file.")] = None,
) -> int:
    """Upload a file for a dry run and download the results. Imports nothing."""
    from arena_async.cli import runs

    return run_command(
        lambda output: runs.import_check(definition, file, options, wait, output, worksheet=worksheet),
        options,
        hint=_run_hint(),
    )


def import_commit(
    definition: _Definition,
    run: Annotated[str, Parameter(help="GUID of the dry run.")],
    /,
    *,
    options: ServiceOptions = _DEFAULTS,
    wait: WaitOptions = _WAIT,
    despite_errors: Annotated[bool, flag(help="Import the other rows although some failed.")] = False,
) -> int:
    """Import what a dry run checked. Cannot be undone. A committed run is only shown."""
    from arena_async.cli import runs

    return run_command(
        lambda output: runs.import_commit(definition, run, options, wait, output, despite_errors=despite_errors),
        options,
        hint=_run_hint(),
    )


def _run_hint() -> str:
    return resume_hint("Stopped. A started run continues at the service.")


def quota(
    *,
    who: Annotated[bool, flag(help="Also show who used them: by day, user and endpoint.")] = False,
    options: ServiceOptions = _DEFAULTS,
) -> int:
    """Show the remaining requests of the day. Costs one request."""
    from arena_async.cli import runs

    return run_command(lambda output: runs.quota(options, output, who=who), options)
