"""The commands of Arena PLM below ``sync``, ``plan`` and ``list``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated

from cyclopts import App, Parameter

from arena_async.cli.files import FileCommands
from arena_async.cli.options import NO_SERVICE_OPTIONS, Definition, InjectedOutput, ServiceOptions, SyncOptions, flag

__all__ = ["list_commands", "plan_commands", "sync_commands"]

_Run = Annotated[str | None, Parameter(help="Only this run, by its GUID.")]
_Latest = Annotated[bool, flag(help="Only the latest completed run.")]
_RunsOf = Annotated[str | None, Parameter(help="GUID of one of them: list its runs.")]
_FilesOf = Annotated[str | None, Parameter(help="GUID of a run: list its files.")]


class _ArenaCommands(FileCommands):
    async def extracts(
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
        output: InjectedOutput,
    ) -> int:
        """Zip files of data extract runs."""
        since = completed_since
        if since is not None and since.tzinfo is None:
            since = since.replace(tzinfo=UTC)
        return await self.run(
            lambda arena: arena.extracts.files(guid, run, latest=latest, completed_from=since), options, output
        )

    async def exports(
        self,
        guid: Definition,
        /,
        *,
        run: _Run = None,
        latest: _Latest = False,
        options: SyncOptions,
        output: InjectedOutput,
    ) -> int:
        """Zip files of export runs."""
        return await self.run(lambda arena: arena.exports.files(guid, run, latest=latest), options, output)

    async def imports(
        self, guid: Definition, /, *, run: _Run = None, options: SyncOptions, output: InjectedOutput
    ) -> int:
        """Submitted files, results and errors of import runs."""
        return await self.run(lambda arena: arena.imports.files(guid, run), options, output)


def _list_command(name: str, columns: tuple[str, ...], run_columns: tuple[str, ...]) -> Callable[..., Awaitable[int]]:
    """Return the command that lists the definitions of a collection, the runs of one, or the files of a run."""

    async def command(
        guid: _RunsOf = None,
        run: _FilesOf = None,
        /,
        *,
        options: ServiceOptions = NO_SERVICE_OPTIONS,
        output: InjectedOutput,
    ) -> int:
        async with options.connect("arena") as arena:
            collection = attrgetter(name)(arena)
            if guid is None:
                return await output.rows(collection.search(), columns)
            if run is None:
                return await output.rows(collection.runs(guid), run_columns)
            return await output.rows(collection.files(guid, run), ("key", "name", "size", "change", "skip"))

    return command


def _list_app() -> App:
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


_sync, _plan = _ArenaCommands("sync", "arena"), _ArenaCommands("plan", "arena")
sync_commands = _sync.app(_sync.extracts, _sync.exports, _sync.imports)
plan_commands = _plan.app(_plan.extracts, _plan.exports, _plan.imports)
list_commands = _list_app()
