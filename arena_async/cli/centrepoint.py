"""The commands of ActiGraph CentrePoint below ``sync``, ``plan`` and ``list``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import Annotated

from cyclopts import App, Parameter

from arena_async.cli.files import FileCommands
from arena_async.cli.options import NO_SERVICE_OPTIONS, InjectedOutput, ServiceOptions, SyncOptions, flag

__all__ = ["list_commands", "plan_commands", "sync_commands"]

_Study = Annotated[int, Parameter(help="Number of the study.")]
_Subject = Annotated[str, Parameter(help="Identifier or number of the subject.")]
_Category = Annotated[str, Parameter(help="The category, such as raw-accelerometer.")]


class _CentrePointCommands(FileCommands):
    async def datasets(
        self,
        study: _Study,
        /,
        *,
        subject: Annotated[str | None, Parameter(help="Only this subject, by identifier or number.")] = None,
        program: Annotated[str | None, Parameter(help="Only this study program.")] = None,
        data_set: Annotated[str | None, Parameter(help="Only data sets of this name.")] = None,
        options: SyncOptions,
        output: InjectedOutput,
    ) -> int:
        """Dataset files (.csv.gz) of a study."""
        filters = {"subject": subject, "program": program, "data_set": data_set}
        return await self.run(lambda client: client.datasets.files(study, **filters), options, output)

    async def study(self, study: _Study, /, *, options: SyncOptions, output: InjectedOutput) -> int:
        """All dataset files of a study; later runs list only changes."""
        return await self.run(lambda client: client.study_files(study), options, output)

    async def day_files(
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
        output: InjectedOutput,
    ) -> int:
        """Files of each day of a subject in one category (.csv.gz, .avro)."""
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
        return await self.run(lambda client: client.day_files.files(query), options, output)


def _list_command(name: str, columns: tuple[str, ...]) -> Callable[..., Awaitable[int]]:
    """Return the command that lists a collection of a study."""

    async def command(study: _Study, /, *, options: ServiceOptions = NO_SERVICE_OPTIONS, output: InjectedOutput) -> int:
        async with options.connect("centrepoint") as client:
            return await output.rows(attrgetter(name)(client).search(study), columns)

    return command


async def _list_day_files(
    study: _Study,
    subject: _Subject,
    category: _Category,
    /,
    *,
    options: ServiceOptions = NO_SERVICE_OPTIONS,
    output: InjectedOutput,
) -> int:
    """Day files of a subject in one category."""
    from arena_async.providers.centrepoint import DayQuery

    async with options.connect("centrepoint") as client:
        rows = client.day_files.search(DayQuery(study, subject, category))
        return await output.rows(rows, ("day", "file_format", "modified_date", "file_name"))


async def _list_studies(*, options: ServiceOptions = NO_SERVICE_OPTIONS, output: InjectedOutput) -> int:
    """Studies that the client has access to."""
    async with options.connect("centrepoint") as client:
        columns = ("id", "name", "study_status", "organization_name")
        return await output.rows(client.studies.search(), columns)


def _list_app() -> App:
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


_sync, _plan = _CentrePointCommands("sync", "centrepoint"), _CentrePointCommands("plan", "centrepoint")
sync_commands = _sync.app(_sync.datasets, _sync.study, _sync.day_files)
plan_commands = _plan.app(_plan.datasets, _plan.study, _plan.day_files)
list_commands = _list_app()
