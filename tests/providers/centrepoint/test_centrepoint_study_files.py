"""A whole study as a set: what changed, how that is listed for the fewest requests, and what lacks data."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listings import take
from studies import is_whole

from arena_async import Action, Mirror
from arena_async.errors import ConfigurationError, ListingError, NotFoundError
from arena_async.protocol.files import FileSet
from arena_async.providers.centrepoint import CentrePointClient
from arena_async.providers.centrepoint.adapter import pages_of
from arena_async.providers.centrepoint.datasets import Changes, Choice, DatasetQuery, choose, list_name
from arena_async.providers.centrepoint.models import DatasetSubject, ProgramExecution
from arena_async.testing import CentrePointSimulator, faults

FILES = "GET /dataaccess/*/datasetfiles"
SUBJECTS = "GET /dataaccess/*/subjects"
SINCE = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture
async def simulator() -> AsyncIterator[CentrePointSimulator]:
    """Yield a running service of 60 subjects x 2 programs x 4 data sets = 480 files, five pages."""
    async with CentrePointSimulator(subjects=60, data_sets=4, file_size=300, rate_limit=None) as running:
        yield running


@pytest.fixture
async def client(simulator: CentrePointSimulator) -> AsyncIterator[CentrePointClient]:
    """Yield a client of it."""
    async with simulator.client() as made:
        yield made


# The choice


@pytest.mark.parametrize(
    ("changed", "pages", "minimum", "choice"),
    [
        (0, None, 1, Choice.NOTHING),
        (0, 24, 4, Choice.NOTHING),
        (1, None, 1, Choice.SUBJECTS),
        (2, None, 1, Choice.LOOK),
        (3, None, 4, Choice.SUBJECTS),
        (4, None, 4, Choice.LOOK),
        (23, 24, 4, Choice.SUBJECTS),
        (24, 24, 4, Choice.WHOLE),
        (25, 24, 4, Choice.WHOLE),
        (1, 1, 1, Choice.WHOLE),
        (1, 0, 0, Choice.WHOLE),
    ],
)
def test_what_costs_less_is_chosen(changed: int, pages: int | None, minimum: int, choice: Choice) -> None:
    """One request for each subject against one for each page; at the same price everything is listed."""
    assert choose(changed=changed, pages=pages, min_pages=minimum) is choice


@given(changed=st.integers(0, 500), files=st.integers(0, 50_000), known=st.booleans())
def test_the_choice_is_never_dearer_than_the_whole_list_by_more_than_a_look(
    changed: int, files: int, known: bool
) -> None:
    """Whatever is known beforehand: at most one page more than the cheaper of the two ways."""
    pages = pages_of(files)
    first = choose(changed=changed, pages=pages if known else None, min_pages=1)
    cost = 0
    if first is Choice.LOOK:
        cost, first = 1, choose(changed=changed, pages=pages - 1, min_pages=0)
        cost += pages - 1 if first is Choice.WHOLE else changed
    else:
        cost = {Choice.NOTHING: 0, Choice.SUBJECTS: changed, Choice.WHOLE: pages}[first]
    assert cost <= min(changed, pages) + (0 if known else 1)


def subject(number: int, **ran: datetime | None) -> DatasetSubject:
    """Return a subject and when each of its programs last ran."""
    executions = tuple(
        ProgramExecution(study_program_id=name, last_successful_program_execution=when) for name, when in ran.items()
    )
    return DatasetSubject(study_id=234, subject_id=number, study_program_executions=executions)


def test_changes_are_the_programs_that_ran_since() -> None:
    """One program is requested alone, several with their subject; what never ran is no change."""
    before, after = SINCE - timedelta(seconds=1), SINCE + timedelta(seconds=1)
    changes = Changes(SINCE)
    for row in (
        subject(1, P=before, Q=before),
        subject(2, P=after, Q=before),
        subject(3, P=after, Q=after),
        subject(4, P=None, Q=None),
        subject(5, P=SINCE),
        subject(6, P=after.replace(tzinfo=None)),
    ):
        changes.add(row)

    assert changes.executed == 8
    assert changes.queries(DatasetQuery(234)) == [
        DatasetQuery(study=234, subject=2, program="P"),
        DatasetQuery(study=234, subject=3),
        DatasetQuery(study=234, subject=6, program="P"),
    ]
    assert changes.choice(100) is Choice.WHOLE
    assert changes.choice(400) is Choice.SUBJECTS
    assert changes.choice(400, here=1) is Choice.WHOLE


def test_a_study_of_which_nothing_is_known_to_have_run_is_listed_whole() -> None:
    """The list of subjects says nothing then, so that it cannot say that nothing changed."""
    assert Changes(SINCE).choice(None) is Choice.WHOLE
    never = Changes(SINCE)
    never.add(subject(1, P=None))
    assert never.choice(2400) is Choice.WHOLE


# The set


def known(simulator: CentrePointSimulator) -> dict[str, datetime]:
    """Return one watermark for each list of files that there is."""
    return {list_name(234, key.subject, key.program): SINCE for key in simulator.files}


async def test_a_study_is_a_set_of_files(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """Of the same keys as its dataset files, under a name of its own."""
    files: FileSet = client.study_files(234)
    assert (files.scope, files.narrowed, repr(files)) == (
        "centrepoint/study-234",
        False,
        "<StudyFileSet centrepoint/study-234>",
    )
    assert {file.key async for file in files} == {file.key async for file in client.datasets.files(234)}
    assert files.since({}) is files
    changed = files.since(known(simulator))
    assert (changed.scope, changed.narrowed) == (files.scope, True)
    assert changed.since(known(simulator)) is not changed
    assert changed.since({}).narrowed is False
    assert (files.cost().listing, files.cost().exact) == (5, True)
    assert (changed.cost().listing, changed.cost().exact) == (1, False)
    with pytest.raises(ConfigurationError):
        client.study_files("A")


async def test_what_did_not_run_costs_one_request(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """The list of subjects, for up to a hundred of them."""
    assert [file async for file in client.study_files(234).since(known(simulator))] == []
    assert [seen.path for seen in simulator.seen(listener="api")] == ["/dataaccess/v3/studies/234/subjects"]


async def test_a_few_subjects_are_listed_alone(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """By subject and program; what else the subject has is not listed."""
    one, other = simulator.files[0], simulator.files[100]
    simulator.change_file(one)
    simulator.change_file(other)
    files = client.study_files(234)
    async for _ in files:
        pass
    simulator.clear()

    changed = [file async for file in files.since(known(simulator))]

    assert {(file.fields["subject"], file.fields["program"]) for file in changed} == {
        (str(one.subject), one.program),
        (str(other.subject), other.program),
    }
    assert len(changed) == 8
    queries = [{n: v for n, v in seen.query.items() if n not in ("limit", "offset")} for seen in simulator.seen(FILES)]
    assert queries == [
        {"subjectId": str(one.subject), "studyProgramId": one.program},
        {"subjectId": str(other.subject), "studyProgramId": other.program},
    ]
    assert len(simulator.seen(SUBJECTS)) == 1


async def test_the_gap_of_one_subject_hides_no_other(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """A subject lacks a file that is counted: its other files come, and those of the next subject, then the error."""
    one, other = simulator.files[0], simulator.files[100]
    simulator.change_file(one)
    simulator.change_file(other)
    simulator.inject(faults.lose_rows(count=1), on=FILES, after=1)  # the first one tells how many there are

    found, error = await take(client.study_files(234).since(known(simulator)))

    assert [file.fields["subject"] for file in found].count(str(other.subject)) == 4
    assert len(found) == 7
    assert isinstance(error, ListingError)
    assert "3 of 4 rows" in str(error)


async def test_what_changed_is_listed_although_a_subject_is_missing(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """The list of subjects lacks one: what the others have comes, then the error, so that no watermark moves."""
    simulator.change_file(simulator.files[100])
    simulator.inject(faults.lose_rows(count=1), on=SUBJECTS)

    found, error = await take(client.study_files(234).since(known(simulator)))

    assert {file.fields["subject"] for file in found} == {str(simulator.files[100].subject)}
    assert isinstance(error, ListingError)
    assert "59 of 60 rows" in str(error)


async def test_a_first_look_tells_how_long_the_list_is(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """Three subjects against the four pages that are left: by subject. Five: the rest of the list, no page twice."""
    for key in simulator.files[:24:8]:
        simulator.change_file(key)
    changed = {file.fields["subject"] async for file in client.study_files(234).since(known(simulator))}
    assert changed == {"10821", "10822", "10823"}
    assert [seen.query.get("subjectId") for seen in simulator.seen(FILES)] == [None, "10821", "10822", "10823"]

    simulator.clear()
    for key in simulator.files[24:40:8]:
        simulator.change_file(key)
    assert len([file async for file in client.study_files(234).since(known(simulator))]) == 480
    assert sorted(int(seen.query["offset"]) for seen in simulator.seen(FILES)) == [0, 100, 200, 300, 400]
    assert {seen.query.get("subjectId") for seen in simulator.seen(FILES)} == {None}


async def test_links_of_changed_files_are_renewed_by_their_own_page(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """Which is the list of their subject, and not of the study."""
    simulator.change_file(simulator.files[0])
    changed = client.study_files(234).since(known(simulator))
    (first, *_) = [file async for file in changed]
    simulator.expire_links()
    with pytest.raises(Exception, match="rejects"):
        await changed.open(first)
    simulator.clear()
    (fresh,) = await changed.find([first.key])
    await (await changed.open(fresh)).stream.aclose()
    assert [seen.query.get("subjectId") for seen in simulator.seen(FILES)] == ["10821"]


async def test_a_study_that_is_not_there_is_an_error(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """Whole or since a time."""
    for files in (client.study_files(99), client.study_files(99).since(known(simulator))):
        with pytest.raises(NotFoundError):
            [file async for file in files]


# With a mirror


async def test_last_nights_changes_come_for_a_few_requests(
    client: CentrePointClient, simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """Each night one program runs for another subject; what a run downloaded is not listed again in each later run."""
    async with Mirror(tmp_path) as mirror:
        first = await mirror.sync(client.study_files(234))
        assert (first.counts[Action.FETCH], first.requests) == (480, 5)
        for night, key in enumerate(simulator.files[8:40:8], 1):
            for _ in range(night):
                simulator.change_file(key)
            simulator.clear()
            report = await mirror.sync(client.study_files(234))
            assert report.counts[Action.REFRESH] == 1
            requested = simulator.seen(listener="api")
            assert report.requests == len(requested)
            if night > 1:
                # The night before lies within the overlap, this one after it.
                assert len(requested) <= 1 + 1 + 2
        simulator.clear()
        last = await mirror.sync(client.study_files(234))
        assert last.counts[Action.REFRESH] == last.counts[Action.FETCH] == 0
        assert len(simulator.seen(listener="api")) <= 3
    assert is_whole(simulator, tmp_path)


async def test_a_run_since_a_time_tells_nothing_about_what_is_gone(
    client: CentrePointClient, simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """It did not look; a run that lists everything does, and may prune."""
    async with Mirror(tmp_path) as mirror:
        await mirror.sync(client.study_files(234))
        for key in simulator.files:
            simulator.change_file(key, rename=False)
        await mirror.sync(client.study_files(234))
        removed = simulator.files[-1]
        simulator.remove_file(removed)
        simulator.change_file(simulator.files[0])
        since = await mirror.sync(client.study_files(234))
        assert since.counts[Action.GONE] == 0
        whole = await mirror.sync(client.study_files(234), prune=True)
        assert whole.counts[Action.PRUNE] == 1
    assert not (tmp_path / removed.path).exists()


async def test_a_file_that_was_damaged_here_comes_again(
    client: CentrePointClient, simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """A watermark is of no use then, so that everything is listed."""
    async with Mirror(tmp_path) as mirror:
        await mirror.sync(client.study_files(234))
        (tmp_path / simulator.files[3].path).unlink()
        report = await mirror.sync(client.study_files(234))
        assert (report.counts[Action.FETCH], report.counts[Action.KEEP]) == (1, 479)


# What lacks data


async def test_what_is_stale_is_told_for_a_sync(
    client: CentrePointClient, simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """Once for each set; after a run that began at a watermark it costs nothing more."""
    async with Mirror(tmp_path) as mirror:
        files = client.study_files(234)
        await mirror.sync(files)
        assert await files.notices() == []
        assert len(simulator.seen(SUBJECTS)) == 1
        for number in range(10821, 10828):
            simulator.upload_raw(number)
        assert await files.stale() == []
        again = client.study_files(234)
        await mirror.sync(again)
        simulator.clear()

        (notice,) = await again.notices()

        assert len(await again.stale()) == len(notice.rows) == 14
        assert simulator.log == []
    assert notice.kind == "stale"
    assert "study 234" in notice.text
    assert "7 subjects (10821, 10822, 10823, 10824, 10825, ...)" in notice.text
    assert "Ask ActiGraph" in notice.text


async def test_a_file_is_as_new_as_the_run_that_made_it(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """The time of the run is what the next one is compared with; the change mark stays the file's own."""
    study = await anext(aiter(client.study_files(234)))
    plain = await anext(aiter(client.datasets.files(234)))
    assert study.changed_at == datetime(2024, 2, 29, 10, 5, 8, 96216, UTC)
    assert plain.changed_at is not None
    assert plain.changed_at > study.changed_at
    assert study.change == plain.change

    row = simulator._show_file(simulator.files[0]) | {"lastSuccessfulProgramExecutionTimeStamp": "0001-01-01T00:00:00Z"}
    page = {"items": [row], "links": {}, "totalCount": 1, "limit": 100, "offset": 0}
    simulator.inject(faults.status(200, body=json.dumps(page)), on=FILES)
    never = await anext(aiter(client.study_files(234)))
    assert never.changed_at == plain.changed_at
