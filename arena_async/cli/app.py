"""
The words of the command line: what can be typed, and which job it starts.

Parsing touches neither the network nor the disk. A command imports what runs it, so that help and mistakes are answered
as fast as the parser itself can.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from arena_async.cli.choices import Compare, Get, Online, Talk, Transfer, Wait, flag
from arena_async.cli.exits import Exit
from arena_async.providers.registry import PROVIDERS, Provider, Source, Word

if TYPE_CHECKING:
    from arena_async.cli.output import Output

__all__ = ["CommandLine", "run"]

_HELP = """\
Brings home the bulk data of Arena PLM and ActiGraph CentrePoint: every file whole, no request wasted.

Credentials come from the environment or from a file (--env), never from the command line.

Exit codes: 0 ok, 1 failed, 2 usage or settings, 3 some files failed, 4 authentication, 5 quota exhausted,
130 interrupted.
"""

#: What a command does once it is parsed.
_Job = Callable[["Output"], Awaitable[int]]


_TALKING, _ONLINE, _WAIT = Talk(), Online(), Wait()
_ARENA = PROVIDERS["arena"]


def run(tokens: Sequence[str]) -> int:
    """Parse and run one command line, and give its exit code."""
    try:
        code = CommandLine(tokens).app()(list(tokens), exit_on_error=False, print_error=True)
    except CycloptsError:
        return Exit.USAGE
    return int(code or Exit.OK)


class CommandLine:
    """
    One command line: the commands, and what to type to go on after an interruption.

    Args:
        tokens: The words as typed.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._again = f"Run it again to go on:\n  {shlex.join(['arena-async', *tokens])}"

    def app(self) -> App:
        """Build the parser."""
        app = App(
            name="arena-async",
            version=_version,
            help=_HELP,
            help_format="plaintext",
            error_console=Console(stderr=True),
        )
        app.command(
            _services("sync", "Make a folder equal to what a service offers.", partial(_files, self._sync, Transfer))
        )
        app.command(
            _services("plan", "Say what sync would do and what it costs.", partial(_files, self._plan, Compare))
        )
        app.command(_services("list", "List what a service offers.", partial(_rows, self._list)))
        exports = App(name="export", help="Let Arena write an export.")
        exports.command(self.export_run, name="run")
        imports = App(name="import", help="Let Arena import a spreadsheet: check first, then commit.")
        imports.command(self.import_check, name="check")
        imports.command(self.import_commit, name="commit")
        app.command(self.get)
        for command in (exports, imports, self.verify, self.quota, self.simulate, self.demo):
            app.command(command)
        return app

    def export_run(
        self,
        definition: Annotated[str, Parameter(help="The guid of the export definition.")],
        /,
        *,
        chosen: Transfer,
        wait: Wait = _WAIT,
        fresh: Annotated[bool, flag(help="Start a run even if one is under way.")] = False,
    ) -> int:
        """Start a run of an export, wait for it, and bring its files home. A run that was interrupted is taken up."""
        from arena_async.cli import runs

        job = partial(
            runs.export_run,
            partial(chosen.connect, _ARENA),
            definition,
            to=chosen.to,
            options=chosen.options,
            poll=wait.poll,
            fresh=fresh,
        )
        return self._run(job, chosen, hint=f"Stopped. The run goes on at the service. {self._again}")

    def import_check(
        self,
        definition: Annotated[str, Parameter(help="The guid of the import definition.")],
        file: Annotated[Path, Parameter(help="An .xlsx or .csv file.")],
        /,
        *,
        chosen: Compare,
        wait: Wait = _WAIT,
        worksheet: Annotated[str | None, Parameter(help="The worksheet, in an .xlsx file.")] = None,
    ) -> int:
        """Upload a file for a dry run, and bring what the service says about each row. Imports nothing."""
        from arena_async.cli import runs

        connect = partial(chosen.connect, _ARENA)
        job = partial(runs.import_check, connect, definition, file, worksheet=worksheet, to=chosen.to, poll=wait.poll)
        return self._run(job, chosen, hint=f"Stopped. The run goes on at the service. {self._again}")

    def import_commit(
        self,
        definition: Annotated[str, Parameter(help="The guid of the import definition.")],
        run: Annotated[str, Parameter(help="The guid of the run that was checked.")],
        /,
        *,
        online: Online = _ONLINE,
        wait: Wait = _WAIT,
        despite_errors: Annotated[bool, flag(help="Import the other rows where some failed.")] = False,
    ) -> int:
        """Import what was checked. There is no way back. A run that is committed already is only shown."""
        from arena_async.cli import runs

        connect = partial(online.connect, _ARENA)
        job = partial(runs.import_commit, connect, definition, run, despite_errors=despite_errors, poll=wait.poll)
        return self._run(job, online, hint=f"Stopped. What was sent goes on at the service. {self._again}")

    def get(self, *urls: Annotated[str, Parameter(help="Addresses, as a browser copies them.")], chosen: Get) -> int:
        """
        Bring the files at any addresses home: each whole and verified, the next time only what is missing.

        A file is called as the last part of its address, or as its name in the list says.
        """
        from arena_async.cli import getting

        settings = {name: getattr(chosen, name) for name in ("folders", "allow_http", "allow_private")}
        listed = partial(getting.listed, urls, chosen.input, **settings)
        job = partial(getting.get, listed, to=chosen.to, options=chosen.options, dry_run=chosen.dry_run)
        # Not as it was typed: addresses may bear signatures.
        return self._run(job, chosen, hint="Stopped. What has arrived is kept. Run the same command again to go on.")

    def verify(
        self, folder: Annotated[Path, Parameter(help="The folder that sync filled.")], /, *, talk: Talk = _TALKING
    ) -> int:
        """Read every file of a folder again and compare it with what was brought home. Needs no network."""
        from arena_async.cli import jobs

        return self._run(partial(jobs.verify, folder), talk)

    def quota(
        self,
        *,
        who: Annotated[bool, flag(help="Say as well who spent them: by day, user and endpoint.")] = False,
        online: Online = _ONLINE,
    ) -> int:
        """Say how many requests of the day are left. Costs one request."""
        from arena_async.cli import jobs

        return self._run(partial(jobs.quota, online.connect, who=who), online)

    def simulate(
        self,
        service: Annotated[Literal["arena", "centrepoint"], Parameter(help="Which service.")],
        /,
        *,
        port: Annotated[int, Parameter(help="The port; 0 takes a free one.")] = 0,
        files: Annotated[int, Parameter(help="How many files it offers.")] = 20,
        size: Annotated[int, Parameter(help="Bytes of each file, about.")] = 100_000,
        talk: Talk = _TALKING,
    ) -> int:
        """Play a service on this machine until Ctrl-C, and print the settings that lead a client there."""
        from arena_async.cli import simulating

        job = partial(simulating.simulate, PROVIDERS[service], port=port, files=files, size=size)
        return self._run(job, talk, hint="", stopped=Exit.OK)

    def demo(
        self,
        *,
        to: Annotated[Path | None, Parameter(help="A new or empty folder; a temporary one without it.")] = None,
        talk: Talk = _TALKING,
    ) -> int:
        """Show the whole job on this machine, without any account, in a few seconds."""
        from arena_async.cli import demo

        return self._run(partial(demo.demo, to), talk)

    def _sync(self, provider: Provider, source: Source, words: Mapping[str, Any], chosen: Transfer) -> int:
        from arena_async.cli import jobs

        job = partial(jobs.sync, partial(chosen.connect, provider), source, words, to=chosen.to, options=chosen.options)
        return self._run(job, chosen, hint=f"Stopped. What has arrived is kept. {self._again}")

    def _plan(self, provider: Provider, source: Source, words: Mapping[str, Any], chosen: Compare) -> int:
        from arena_async.cli import jobs

        return self._run(partial(jobs.plan, partial(chosen.connect, provider), source, words, to=chosen.to), chosen)

    def _list(self, provider: Provider, source: Source, positional: tuple[Any, ...], chosen: Online) -> int:
        from arena_async.cli import jobs

        return self._run(partial(jobs.show, partial(chosen.connect, provider), source, positional), chosen)

    def _run(self, job: _Job, talk: Talk, *, hint: str = "Stopped.", stopped: Exit | None = None) -> int:
        from arena_async.cli.output import Output
        from arena_async.cli.running import run_job

        output = Output(json=talk.json, quiet=talk.quiet)
        return run_job(partial(job, output), output, hint=hint, stopped=stopped)


def _version() -> str:
    from importlib.metadata import version

    return version("arena-async")


def _services(verb: str, title: str, command: Callable[[Provider, Source], Callable[..., int]]) -> App:
    """Build ``verb`` with one word for every service and, below it, one for each of its sources."""
    app = App(name=verb, help=title)
    for provider in PROVIDERS.values():
        room = App(name=provider.name, help=f"{provider.title}.")
        for source in provider.sources:
            if source.listings if verb == "list" else source.maker:
                room.command(command(provider, source), name=source.name)
        app.command(room)
    return app


def _files(start: Callable[..., int], options: type, provider: Provider, source: Source) -> Callable[..., int]:
    """Make the command that takes the words of a file set."""

    def command(*positional: Any, chosen: Any, **named: Any) -> int:
        names = (word.name for word in source.words if word.positional)
        words = {**dict(zip(names, positional, strict=False)), **named}
        return start(
            provider, source, {name: _utc(value) for name, value in words.items() if value not in (None, False)}, chosen
        )

    return _shaped(command, source.words, options, source.help)


def _rows(start: Callable[..., int], provider: Provider, source: Source) -> Callable[..., int]:
    """Make the command that lists, from the outermost rows to the innermost as more words are given."""

    def command(*positional: Any, chosen: Online = _ONLINE) -> int:
        return start(provider, source, tuple(value for value in positional if value is not None), chosen)

    return _shaped(command, source.path, Online, source.help)


def _shaped(command: Callable[..., int], words: Sequence[Word], options: type, doc: str) -> Callable[..., int]:
    """Give a command the signature that these words and options make."""
    shape = [_parameter(word) for word in sorted(words, key=lambda word: not word.positional)]
    default = _ONLINE if options is Online else inspect.Parameter.empty
    chosen = inspect.Parameter("chosen", inspect.Parameter.KEYWORD_ONLY, annotation=options, default=default)
    command.__signature__ = inspect.Signature([*shape, chosen])  # type: ignore[attr-defined]
    command.__annotations__ = {}
    command.__doc__ = doc
    return command


def _parameter(word: Word) -> inspect.Parameter:
    is_flag = word.kind is bool
    called = None if word.option is None else f"--{word.option}"
    parameter = (flag if is_flag else Parameter)(name=called, help=word.help, show_default=False)
    kind = word.kind if word.required or is_flag else word.kind | None
    return inspect.Parameter(
        word.name,
        inspect.Parameter.POSITIONAL_ONLY if word.positional else inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if word.required else False if is_flag else None,
        annotation=Annotated[kind, parameter],
    )


def _utc(value: Any) -> Any:
    """Take a moment without a zone as UTC, as the services write theirs."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
