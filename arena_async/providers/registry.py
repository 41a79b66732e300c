"""
Which services there are, for the command line and for tests that run over all of them.

One row per service, plain values only: reading this module loads no client. A new service is one folder beside this
module and one row here. Files at any addresses (``urls``) have no account and no lists, so that they are no service of
this table but a command of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import reduce
from importlib import import_module
from typing import Any

import attrs

__all__ = ["PROVIDERS", "Listing", "Provider", "Source", "Word"]


@attrs.frozen(kw_only=True)
class Word:
    """
    One argument of a file set, as the command line asks for it.

    Args:
        name: The name of the argument in Python; the command line writes it with dashes.
        option: What the command line calls it, where that is something else; without dashes before it.
        help: What it means, in one line.
        kind: What the text is read as: ``str``, ``int``, ``bool`` (a flag) or ``datetime``.
        positional: Whether it is given by its place and not as an option.
        required: Whether it must be given.
    """

    name: str
    help: str
    kind: type = str
    positional: bool = False
    required: bool = False
    option: str | None = None


@attrs.frozen(kw_only=True)
class Listing:
    """
    What ``list`` shows for some number of words.

    Args:
        verb: The method of the collection that gives the rows.
        columns: The attributes of a row that a table shows, in order.
    """

    verb: str
    columns: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Source:
    """
    One collection of a service: files that can be brought home, rows that can be listed, or both.

    Args:
        name: The word on the command line; with underscores, the attribute of the client.
        help: What the files are, in one line.
        words: The arguments of what gives the files.
        path: The words that ``list`` takes one after the other, each leading further in.
        listings: What ``list`` shows, by how many words of ``path`` are given.
        simulated_words: The simulator's attributes that are the words of ``path``, where they are not the provider's.
        maker: What makes the set of files, as seen from the client: by default ``files`` of the collection; "" where
            there are none to bring.
        remarks: The method of the set that gives what people should hear of after a sync, or "".
    """

    name: str
    help: str
    words: tuple[Word, ...] = ()
    path: tuple[Word, ...] = ()
    listings: Mapping[int, Listing] = attrs.field(factory=dict)
    simulated_words: tuple[str, ...] = ()
    maker: str = attrs.field()
    remarks: str = ""

    @maker.default
    def _files_of_the_collection(self) -> str:
        return f"{self.attribute}.files"

    @property
    def attribute(self) -> str:
        """The attribute of a client that is this collection."""
        return self.name.replace("-", "_")

    def collection(self, client: Any) -> Any:
        """Give the collection of a client, for instance its ``extracts``."""
        return getattr(client, self.attribute)

    def make(self, client: Any) -> Any:
        """Give what makes the set of files of a client."""
        return reduce(getattr, self.maker.split("."), client)

    def rows(self, client: Any, path: tuple[Any, ...]) -> Any:
        """Give what ``list`` walks when these words of its path were given."""
        return getattr(self.collection(client), self.listings[len(path)].verb)(*path)


@attrs.frozen(kw_only=True)
class Provider:
    """
    One service.

    Args:
        name: The word on the command line.
        title: The name people know.
        client: Where the client class is: ``module:name``.
        simulator: Where the simulator class is: ``module:name``.
        sources: The collections whose files can be brought home.
        simulated_size: The argument of the simulator for the bytes of each file.
        simulated_words: The simulator's attributes that are the positional words of its first source.
        probe: The collection that is asked for one row to learn the allowance, or "" where the service counts none.
        usages: The method of the client that says who spent the allowance, or "" where the service does not tell.
    """

    name: str
    title: str
    client: str
    simulator: str
    sources: tuple[Source, ...]
    simulated_size: str = "file_size"
    simulated_words: tuple[str, ...] = ()
    probe: str = ""
    usages: str = ""

    def load_client(self) -> Any:
        """Import and give the client class."""
        return _load(self.client)

    def load_simulator(self) -> Any:
        """Import and give the simulator class."""
        return _load(self.simulator)


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _guid(what: str, *, required: bool = False) -> Word:
    return Word(name="guid", help=f"The guid of {what}.", positional=True, required=required)


def _run_path(what: str) -> tuple[Word, ...]:
    return (
        Word(name="guid", help=f"The guid of {what}, to list its runs.", positional=True),
        Word(name="run", help="The guid of a run, to list its files.", positional=True),
    )


_STUDY = Word(name="study", help="The number of the study.", kind=int, positional=True, required=True)
_SUBJECT = Word(name="subject", help="The subject, by identifier or number.", positional=True, required=True)
_CATEGORY = Word(name="category", help="The category, such as raw-accelerometer.", positional=True, required=True)
_RUN = Word(name="run", help="Only this run, by its guid.")
_LATEST = Word(name="latest", help="Only the latest completed run.", kind=bool)
_SINCE = Word(
    name="completed_from",
    option="completed-since",
    help="Only runs completed since then: a date or a time, in UTC.",
    kind=datetime,
)
_FILE_COLUMNS = ("key", "name", "size", "change", "skip")


def _run_listings(*, definition: tuple[str, ...], run: tuple[str, ...]) -> dict[int, Listing]:
    return {
        0: Listing(verb="search", columns=definition),
        1: Listing(verb="runs", columns=run),
        2: Listing(verb="files", columns=_FILE_COLUMNS),
    }


_ARENA = Provider(
    name="arena",
    title="Arena PLM",
    client="arena_async.providers.arena:ArenaClient",
    simulator="arena_async.providers.arena.simulator:ArenaSimulator",
    simulated_size="size",
    probe="extracts",
    usages="usages",
    sources=(
        Source(
            name="extracts",
            help="The zip files of data extract runs.",
            words=(_guid("one data extract; without it, all of the workspace"), _RUN, _LATEST, _SINCE),
            path=_run_path("a data extract"),
            listings=_run_listings(definition=("guid", "name", "enabled"), run=("guid", "status", "completed")),
        ),
        Source(
            name="exports",
            help="The zip files of export runs.",
            words=(_guid("the export definition", required=True), _RUN, _LATEST),
            path=_run_path("an export definition"),
            listings=_run_listings(
                definition=("guid", "number", "name"), run=("guid", "number", "status", "completed")
            ),
        ),
        Source(
            name="imports",
            help="What was submitted to import runs, and their results and errors.",
            words=(_guid("the import definition", required=True), _RUN),
            path=_run_path("an import definition"),
            listings=_run_listings(
                definition=("guid", "number", "name"), run=("guid", "number", "status", "completed")
            ),
        ),
    ),
)

_CENTREPOINT = Provider(
    name="centrepoint",
    title="ActiGraph CentrePoint",
    client="arena_async.providers.centrepoint:CentrePointClient",
    simulator="arena_async.providers.centrepoint.simulator:CentrePointSimulator",
    simulated_words=("study",),
    sources=(
        Source(
            name="datasets",
            help="The dataset files (.csv.gz) of a study.",
            words=(
                _STUDY,
                Word(name="subject", help="Only this subject, by identifier or number."),
                Word(name="program", help="Only this study program."),
                Word(name="data_set", help="Only data sets of this name."),
            ),
            path=(_STUDY,),
            listings={
                1: Listing(
                    verb="search",
                    columns=("subject_id", "data_set_name", "study_program_id", "modified_date", "file_name"),
                )
            },
        ),
        Source(
            name="study",
            help="All dataset files of a study; later only what changed.",
            words=(_STUDY,),
            simulated_words=("study",),
            maker="study_files",
            remarks="remarks",
        ),
        Source(
            name="day-files",
            help="The files of each day of a subject in one category (.csv.gz, .avro).",
            words=(
                _STUDY,
                _SUBJECT,
                _CATEGORY,
                Word(name="first_day", help="From this day on, such as 2026-03-01."),
                Word(name="last_day", help="Up to this day, itself included."),
                Word(name="year", help="Only this year.", kind=int),
                Word(name="month", help="Only this month of the year.", kind=int),
                Word(name="day", help="Only this day of the month.", kind=int),
                Word(name="file_format", help="Only csv, or only avro.", option="format"),
                Word(name="newest_first", help="The last day first.", kind=bool),
            ),
            path=(_STUDY, _SUBJECT, _CATEGORY),
            listings={3: Listing(verb="search", columns=("day", "file_format", "modified_date", "file_name"))},
            simulated_words=("study", "subject", "category"),
        ),
        Source(
            name="studies",
            help="The studies that the client sees.",
            listings={0: Listing(verb="search", columns=("id", "name", "study_status", "organization_name"))},
            maker="",
        ),
        Source(
            name="subjects",
            help="The subjects of a study, with their identifiers.",
            path=(_STUDY,),
            listings={
                1: Listing(verb="search", columns=("id", "subject_identifier", "site_identifier", "assignment_status"))
            },
            maker="",
        ),
        Source(
            name="programs",
            help="The study programs of a study.",
            path=(_STUDY,),
            listings={1: Listing(verb="search", columns=("study_program_id", "study_program_name"))},
            maker="",
        ),
    ),
)

#: Every service, by the word that names it on the command line.
PROVIDERS: Mapping[str, Provider] = {provider.name: provider for provider in (_ARENA, _CENTREPOINT)}
