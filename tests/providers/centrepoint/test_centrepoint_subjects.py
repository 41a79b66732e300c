"""Subjects by the identifiers people know: never the wrong one, and one list for all callers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.errors import ArenaAsyncError, ClosedError, ConfigurationError, NotFoundError, PermissionDeniedError
from arena_async.http.session import Session
from arena_async.options import Clock, HttpOptions
from arena_async.protocol.quota import SlidingWindow
from arena_async.providers.centrepoint import CentrePointClient
from arena_async.providers.centrepoint.adapter import CentrePointAdapter
from arena_async.providers.centrepoint.api import Api
from arena_async.providers.centrepoint.auth import CentrePointAuth, CentrePointCredentials
from arena_async.providers.centrepoint.subjects import KnownSubjects, choose_subject, near_matches
from arena_async.testing import CentrePointSimulator, faults

SUBJECTS = "GET /centrepoint/v3/*/subjects"
KNOWN = KnownSubjects.of(
    [("A-017", 10821), ("A-018", 10822), ("A-018", 10823), ("10821", 10824), ("0042", 42), ("10830", 10830), ("7", 9)]
)


@pytest.fixture
async def simulator() -> AsyncIterator[CentrePointSimulator]:
    """Yield a running service of 5 subjects, A-001 to A-005."""
    async with CentrePointSimulator(file_size=200) as running:
        yield running


@pytest.fixture
async def client(simulator: CentrePointSimulator) -> AsyncIterator[CentrePointClient]:
    """Yield a client of it."""
    async with simulator.client() as made:
        yield made


# Which subject is meant


@pytest.mark.parametrize(
    ("wanted", "subject"),
    [
        ("A-017", 10821),
        ("10822", 10822),
        ("10830", 10830),
        ("0042", 42),
        ("42", 42),
        ("9", 9),
        ("7", 9),
    ],
)
def test_text_means_an_identifier_and_digits_that_are_none_mean_a_number(wanted: str, subject: int) -> None:
    """Spelled as the study spells it; the same subject by both is no contradiction."""
    assert choose_subject(wanted, KNOWN, study=234) == subject


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("A-018", "identifier of 2 subjects, with the numbers 10822, 10823"),
        ("10821", "identifier of subject 10824, and the number of another one"),
    ],
)
def test_text_that_means_two_subjects_is_an_error(wanted: str, said: str) -> None:
    """Nothing is guessed; the message says how to name one."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        choose_subject(wanted, KNOWN, study=234)
    assert "as an int" in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("a-017", "A-017"),
        ("A017", "A-017"),
        ("A-17", "A-017"),
        (" A 017", "A-017"),
        ("A-71", ""),
        ("042", "0042"),
        ("99999", ""),
    ],
)
def test_text_that_means_no_subject_names_what_is_spelled_alike(wanted: str, near: str) -> None:
    """Neither case nor zeros are overlooked, since another subject may be spelled just so."""
    with pytest.raises(NotFoundError, match="no subject has the identifier") as caught:
        choose_subject(wanted, KNOWN, study=234)
    assert near in str(caught.value)


def test_near_matches_are_few_however_long_the_list_is() -> None:
    """The best come first, and a study of a million subjects is fast."""
    many = [f"S{number:06d}" for number in range(50_000)]
    assert near_matches("s-000017", many) == ["S000017"]
    assert near_matches("S-17", many) == ["S000017"]
    assert len(near_matches("A-01", [f"A-0{number}" for number in range(10)])) <= 3


@given(
    st.lists(st.tuples(st.text("A1-0", min_size=1, max_size=3), st.integers(0, 120)), max_size=12),
    st.text("A1-0", min_size=1, max_size=3),
)
def test_no_text_ever_means_a_subject_that_it_may_not_mean(pairs: list[tuple[str, int]], wanted: str) -> None:
    """The result has that identifier or that number, and no other subject has either."""
    try:
        chosen = choose_subject(wanted, KnownSubjects.of(pairs), study=1)
    except ArenaAsyncError:
        return
    meant = {number for identifier, number in pairs if wanted in (identifier, str(number))}
    assert meant == {chosen}


# One list for all callers


async def test_a_number_costs_nothing(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """It is given back as it is, whether or not there is such a subject."""
    assert await client.subjects.resolve(234, 10821) == 10821
    assert await client.subjects.resolve("234", 99) == 99
    assert simulator.log == []


async def test_however_many_ask_the_subjects_are_listed_once(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """At once and one after the other, for every use of a name."""
    numbers = await asyncio.gather(*[client.subjects.resolve(234, f"A-00{n % 5 + 1}") for n in range(30)])
    assert numbers == [10821 + n % 5 for n in range(30)]
    assert (await client.subjects.get(234, "A-002")).id == 10822
    assert (await client.datasets.subject(234, "A-003")).subject_id == 10823
    uploads = [row async for row in client.uploads.search(234, "A-004")]
    assert {row.subject_id for row in uploads} == {10824}
    assert (await client.uploads.get(234, "A-004", uploads[0].id)).id == uploads[0].id
    files = [row async for row in client.datasets.search(234, subject="A-005")]
    assert {row.subject_id for row in files} == {10825}
    assert len(simulator.seen(SUBJECTS)) == 1


async def test_a_set_of_files_knows_its_subject_by_name(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """Its name stays the same before and after the number is known, and keys are looked up by the number."""
    files = client.datasets.files(234, subject="A-002")
    assert (files.scope, files.narrowed) == ("centrepoint/datasets/study-234/subject-named-A-002", True)
    assert simulator.log == []
    listed = [file async for file in files]
    assert {file.fields["subject"] for file in listed} == {"10822"}
    assert files.scope == "centrepoint/datasets/study-234/subject-named-A-002"
    assert [file.key for file in await files.find([listed[0].key])] == [listed[0].key]
    other = client.datasets.files(234, subject=10823)
    assert await files.find([file.key async for file in other]) == []
    assert listed[0].key in {file.key async for file in client.datasets.files(234, subject=10822)}
    assert len(simulator.seen(SUBJECTS)) == 1


async def test_nothing_is_asked_of_the_list_of_files_for_an_unknown_subject(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """The error comes from the look-up, when the list is read, and names similar ones."""
    search = client.datasets.search(234, subject="A-03")
    assert simulator.log == []
    with pytest.raises(NotFoundError, match="A-003"):
        await search.collect()
    assert simulator.seen("GET /dataaccess*") == []


@pytest.mark.parametrize("subject", ["", "  ", "A\n1", True, -1, 1.5, None])
async def test_what_names_no_subject_is_refused_at_once(client: CentrePointClient, subject: Any) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError):
        await client.subjects.resolve(234, subject)


async def test_identifiers_that_clash_with_numbers_are_an_error(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """The identifier of one subject is the number of another; an int says which one is meant."""
    simulator.identifiers = {10821: "10822", 10823: "B-1", 10824: "B-1"}
    with pytest.raises(ConfigurationError, match="10821 or 10822"):
        await client.datasets.files(234, subject="10822").find(["x"])
    with pytest.raises(ConfigurationError, match="10823, 10824"):
        await client.subjects.get(234, "B-1")
    assert (await client.subjects.get(234, 10822)).id == 10822
    assert (await client.subjects.get(234, "10825")).id == 10825


async def test_a_list_that_failed_is_asked_for_again(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """A rejection is not remembered, and all waiting callers get it."""
    simulator.inject(faults.status(403, body="Forbidden"), on=SUBJECTS)
    waiting = [client.subjects.resolve(234, "A-001") for _ in range(3)]
    assert {type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)} == {PermissionDeniedError}
    assert await client.subjects.resolve(234, "A-001") == 10821
    assert len(simulator.seen(SUBJECTS)) == 2


async def test_a_subject_that_was_enrolled_since_is_found_in_a_new_list(simulator: CentrePointSimulator) -> None:
    """Not more than once a minute, so that a wrong name costs no more than that."""
    now = [0.0]
    session = Session(
        CentrePointAuth(
            credentials=CentrePointCredentials(simulator.client_id, simulator.client_secret),
            auth_url=simulator.auth_url,
        ),
        CentrePointAdapter(),
        SlidingWindow(limit=400),
        base_url=simulator.base_url,
        options=HttpOptions(clock=Clock(monotonic=lambda: now[0])),
    )
    directory = Api(session, tenant="t", clock=Clock()).subjects
    assert await directory.resolve(234, "A-001") == 10821
    simulator.subjects.append(10900)
    simulator.identifiers[10900] = "NEW"
    with pytest.raises(NotFoundError):
        await directory.resolve(234, "NEW")
    now[0] = 61
    assert await asyncio.gather(*[directory.resolve(234, "NEW") for _ in range(5)]) == [10900] * 5
    with pytest.raises(NotFoundError):
        await directory.resolve(234, "NOBODY")
    assert len(simulator.seen(SUBJECTS)) == 2
    await session.aclose()


async def test_a_waiter_that_leaves_takes_nothing_away_from_the_others(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """The list belongs to the client and not to its first caller."""
    gate = asyncio.Event()
    simulator.inject(faults.delay(gate), on=SUBJECTS)
    first = asyncio.ensure_future(client.subjects.resolve(234, "A-001"))
    second = asyncio.ensure_future(client.subjects.resolve(234, "A-002"))
    await simulator.until(lambda: simulator.seen(SUBJECTS))
    first.cancel()
    gate.set()
    assert await second == 10822
    assert first.cancelled()
    assert len(simulator.seen(SUBJECTS)) == 1


async def test_a_client_that_is_closed_ends_the_look_up(simulator: CentrePointSimulator) -> None:
    """A waiting caller gets our own error."""
    simulator.inject(faults.hang(), on=SUBJECTS)
    client = simulator.client()
    waiting = asyncio.ensure_future(client.subjects.resolve(234, "A-001"))
    await simulator.until(lambda: simulator.seen(SUBJECTS))
    await client.aclose()
    with pytest.raises(ClosedError):
        await waiting


async def test_nothing_but_identifiers_and_numbers_is_kept(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """Weights and genders come with the list and do not stay."""
    await client.subjects.resolve(234, "A-001")
    (listed,) = client.subjects._api.subjects._listed.values()
    assert json.dumps(dict(listed.task.result().by_identifier)) == json.dumps(
        {f"A-00{n}": [10820 + n] for n in range(1, 6)}
    )
