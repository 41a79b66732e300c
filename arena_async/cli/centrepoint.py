"""The commands for ActiGraph CentrePoint."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import attrs
from cyclopts import App, Parameter

from arena_async.cli.commands import Verb, run_list, run_on_files
from arena_async.cli.options import ServiceOptions, SyncOptions, flag

if TYPE_CHECKING:
    from arena_async.protocol.files import FileSet
    from arena_async.providers.centrepoint import CentrePointClient

__all__ = ["file_commands", "list_commands"]

_DEFAULTS = ServiceOptions()

_Study = Annotated[int, Parameter(help="Number of the study.")]
_Subject = Annotated[str, Parameter(help="Identifier or number of the subject.")]
_Category = Annotated[str, Parameter(help="The category, such as raw-accelerometer.")]


def file_commands(verb: Verb) -> App:
    """Return the commands below ``sync centrepoint`` or ``plan centrepoint``."""
    app = App(name="centrepoint", help="ActiGraph CentrePoint.")
    commands = _CentrePointCommands(partial(run_on_files, verb, "centrepoint"))
    for command in (commands.datasets, commands.study, commands.day_files):
        app.command(command)
    return app


@attrs.frozen
class _CentrePointCommands:
    """The commands; ``run`` downloads or plans the file set of a client."""

    run: Callable[..., int]

    def datasets(
        self,
        study: _Study,
        /,
        *,
        subject: Annotated[str | None, Parameter(help="Only this subject, by identifier or number.")] = None,
        program: Annotated[str | None, Parameter(help="Only this study program.")] = None,
        data_set: Annotated[str | None, Parameter(help="Only data sets of this name.")] = None,
        options: SyncOptions,
    ) -> int:
        """Dataset files (.csv.gz) of a study."""
        filters = {"subject": subject, "program": program, "data_set": data_set}
        return self.run(lambda client: client.datasets.files(study, **filters), options)

    def study(self, study: _Study, /, *, options: SyncOptions) -> int:
        """All dataset files of a study; later runs list only changes."""
        return self.run(lambda client: client.study_files(study), options, notices=lambda files: files.notices())

    def day_files(
        self,
        study: _Study,
        subject: _Subject,
        category: _Category,
        /,
        *,
        first_day: Annotated[str | None, Parameter(help="From this day on, such as 2026-03-01.")] = None,
        last_day: Annotated[str | None, Parameter(help="Up to and including this day.")] = None,
        year: Annotated[int | None, Parameter(help="Only this year.")] = None,
        month: Annotated[int | None, Parameter(help="Only this month of the year.")] = None,
        day: Annotated[int | None, Parameter(help="Only this day of the month.")] = None,
        file_format: Annotated[str | None, Parameter(name="--format", help="Only csv, or only avro.")] = None,
        newest_first: Annotated[bool, flag(help="Newest day first.")] = False,
        options: SyncOptions,
    ) -> int:
        """Files of each day of a subject in one category (.csv.gz, .avro)."""

        def make_files(centrepoint: CentrePointClient) -> FileSet:
            from arena_async.providers.centrepoint import DayQuery

            query = DayQuery(
                study,
                subject,
                category,
                day_from=first_day,
                day_to=last_day,
                year=year,
                month=month,
                day=day,
                file_format=file_format,
                newest_first=newest_first,
            )
            return centrepoint.day_files.files(query)

        return self.run(make_files, options)


def list_commands() -> App:
    """Return the commands below ``list centrepoint``."""
    app = App(name="centrepoint", help="ActiGraph CentrePoint.")
    files = ("subject_id", "data_set_name", "study_program_id", "modified_date", "file_name")
    subjects = ("id", "subject_identifier", "site_identifier", "assignment_status")
    app.command(_list_command("datasets", files), name="datasets", help="Dataset files of a study.")
    app.command(_list_day_files, name="day-files")
    app.command(_list_studies, name="studies")
    description = "Subjects of a study, with their identifiers."
    app.command(_list_command("subjects", subjects), name="subjects", help=description)
    programs = ("study_program_id", "study_program_name")
    app.command(_list_command("programs", programs), name="programs", help="Study programs of a study.")
    return app


def _list_command(name: str, columns: tuple[str, ...]) -> Callable[..., int]:
    """Return the command that lists a collection of a study."""

    def command(study: _Study, /, *, options: ServiceOptions = _DEFAULTS) -> int:
        return run_list("centrepoint", lambda centrepoint: getattr(centrepoint, name).search(study), columns, options)

    return command


def _list_day_files(
    study: _Study, subject: _Subject, category: _Category, /, *, options: ServiceOptions = _DEFAULTS
) -> int:
    """Day files of a subject in one category."""

    def rows(centrepoint: CentrePointClient) -> AsyncIterable[Any]:
        from arena_async.providers.centrepoint import DayQuery

        return centrepoint.day_files.search(DayQuery(study, subject, category))

    return run_list("centrepoint", rows, ("day", "file_format", "modified_date", "file_name"), options)


def _list_studies(*, options: ServiceOptions = _DEFAULTS) -> int:
    """Studies that the client has access to."""
    columns = ("id", "name", "study_status", "organization_name")
    return run_list("centrepoint", lambda centrepoint: centrepoint.studies.search(), columns, options)
