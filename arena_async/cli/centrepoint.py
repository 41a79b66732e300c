"""The commands for ActiGraph CentrePoint."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
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
    commands = _FileCommands(verb)
    for command in (commands.datasets, commands.study, commands.day_files):
        app.command(command)
    return app


@attrs.frozen
class _FileCommands:
    verb: Verb

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
        return self._run(
            lambda centrepoint: centrepoint.datasets.files(study, subject=subject, program=program, data_set=data_set),
            options,
        )

    def study(self, study: _Study, /, *, options: SyncOptions) -> int:
        """All dataset files of a study; later runs list only changes."""
        return run_on_files(
            self.verb,
            "centrepoint",
            lambda centrepoint: centrepoint.study_files(study),
            options,
            notices=lambda files: files.notices(),
        )

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

        return self._run(make_files, options)

    def _run(self, make_files: Callable[[CentrePointClient], FileSet], options: SyncOptions) -> int:
        return run_on_files(self.verb, "centrepoint", make_files, options)


def list_commands() -> App:
    """Return the commands below ``list centrepoint``."""
    app = App(name="centrepoint", help="ActiGraph CentrePoint.")
    app.command(_list_datasets, name="datasets")
    app.command(_list_day_files, name="day-files")
    app.command(_list_studies, name="studies")
    app.command(_list_subjects, name="subjects")
    app.command(_list_programs, name="programs")
    return app


def _list_datasets(study: _Study, /, *, options: ServiceOptions = _DEFAULTS) -> int:
    """Dataset files of a study."""
    columns = ("subject_id", "data_set_name", "study_program_id", "modified_date", "file_name")
    return _list(lambda centrepoint: centrepoint.datasets.search(study), columns, options)


def _list_day_files(
    study: _Study, subject: _Subject, category: _Category, /, *, options: ServiceOptions = _DEFAULTS
) -> int:
    """Day files of a subject in one category."""

    def rows(centrepoint: CentrePointClient) -> AsyncIterable[Any]:
        from arena_async.providers.centrepoint import DayQuery

        return centrepoint.day_files.search(DayQuery(study, subject, category))

    return _list(rows, ("day", "file_format", "modified_date", "file_name"), options)


def _list_studies(*, options: ServiceOptions = _DEFAULTS) -> int:
    """Studies that the client has access to."""
    columns = ("id", "name", "study_status", "organization_name")
    return _list(lambda centrepoint: centrepoint.studies.search(), columns, options)


def _list_subjects(study: _Study, /, *, options: ServiceOptions = _DEFAULTS) -> int:
    """Subjects of a study, with their identifiers."""
    columns = ("id", "subject_identifier", "site_identifier", "assignment_status")
    return _list(lambda centrepoint: centrepoint.subjects.search(study), columns, options)


def _list_programs(study: _Study, /, *, options: ServiceOptions = _DEFAULTS) -> int:
    """Study programs of a study."""
    columns = ("study_program_id", "study_program_name")
    return _list(lambda centrepoint: centrepoint.programs.search(study), columns, options)


def _list(
    rows: Callable[[CentrePointClient], AsyncIterable[Any]], columns: tuple[str, ...], options: ServiceOptions
) -> int:
    return run_list("centrepoint", rows, columns, options)
