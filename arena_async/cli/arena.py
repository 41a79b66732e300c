"""The commands for Arena PLM."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
from cyclopts import App, Parameter

from arena_async.cli.commands import Verb, resume_hint, run_command, run_list, run_on_files
from arena_async.cli.options import ServiceOptions, SyncOptions, TargetOptions, WaitOptions, flag

if TYPE_CHECKING:
    from collections.abc import Callable

    from arena_async.protocol.files import FileSet
    from arena_async.providers.arena import ArenaClient, Exports, Extracts, Imports

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
    commands = _FileCommands(verb)
    for command in (commands.extracts, commands.exports, commands.imports):
        app.command(command)
    return app


@attrs.frozen
class _FileCommands:
    verb: Verb

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
        return self._run(lambda arena: arena.extracts.files(guid, run, latest=latest, completed_from=since), options)

    def exports(self, guid: _Definition, /, *, run: _Run = None, latest: _Latest = False, options: SyncOptions) -> int:
        """Zip files of export runs."""
        return self._run(lambda arena: arena.exports.files(guid, run, latest=latest), options)

    def imports(self, guid: _Definition, /, *, run: _Run = None, options: SyncOptions) -> int:
        """Submitted files, results and errors of import runs."""
        return self._run(lambda arena: arena.imports.files(guid, run), options)

    def _run(self, make_files: Callable[[ArenaClient], FileSet], options: SyncOptions) -> int:
        return run_on_files(self.verb, "arena", make_files, options)


def list_commands() -> App:
    """Return the commands below ``list arena``."""
    app = App(name="arena", help="Arena PLM.")
    app.command(_list_extracts, name="extracts")
    app.command(_list_exports, name="exports")
    app.command(_list_imports, name="imports")
    return app


def _list_extracts(guid: _RunsOf = None, run: _FilesOf = None, /, *, options: ServiceOptions = _DEFAULTS) -> int:
    """Data extracts, their runs, or the files of a run."""
    columns = (("guid", "name", "enabled"), ("guid", "status", "completed"))
    return _list(lambda arena: arena.extracts, guid, run, columns, options)


def _list_exports(guid: _RunsOf = None, run: _FilesOf = None, /, *, options: ServiceOptions = _DEFAULTS) -> int:
    """Export definitions, their runs, or the files of a run."""
    columns = (("guid", "number", "name"), ("guid", "number", "status", "completed"))
    return _list(lambda arena: arena.exports, guid, run, columns, options)


def _list_imports(guid: _RunsOf = None, run: _FilesOf = None, /, *, options: ServiceOptions = _DEFAULTS) -> int:
    """Import definitions, their runs, or the files of a run."""
    columns = (("guid", "number", "name"), ("guid", "number", "status", "completed"))
    return _list(lambda arena: arena.imports, guid, run, columns, options)


def _list(
    collection: Callable[[ArenaClient], Extracts | Exports | Imports],
    guid: str | None,
    run: str | None,
    columns: tuple[tuple[str, ...], tuple[str, ...]],
    options: ServiceOptions,
) -> int:
    """List the definitions of a collection, the runs of one, or the files of a run."""
    if guid is None:
        return run_list("arena", lambda arena: collection(arena).search(), columns[0], options)
    if run is None:
        return run_list("arena", lambda arena: collection(arena).runs(guid), columns[1], options)
    files = ("key", "name", "size", "change", "skip")
    return run_list("arena", lambda arena: collection(arena).files(guid, run), files, options)


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
