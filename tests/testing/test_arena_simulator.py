"""The simulated Arena, held against the vendor's pages by bare sockets."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from http_streams import Answer, ask

from arena_async.testing import faults
from arena_async.testing.arena.records import pacific_midnight_after, write_reset
from arena_async.testing.arena.simulator import ArenaSimulator

JSON = {"Content-Type": "application/json"}
#: 2 May 2014, 21:22:13 UTC, the instant in the vendor's sample of the reset header.
SAMPLE_INSTANT = datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC).timestamp()
WRONG_GUID = "A0B1C2D3E4F5G6H7I8J9"


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self, at: float = SAMPLE_INSTANT) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


@attrs.frozen
class Caller:
    """Somebody who is logged in."""

    simulator: ArenaSimulator
    session: str

    async def __call__(self, line: str, payload: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Send ``METHOD /path``, below the base, with the session and the documented media type."""
        method, _, path = line.partition(" ")
        given = {"arena_session_id": self.session, **JSON, **(headers or {})}
        body = payload if isinstance(payload, bytes) else b"" if payload is None else json.dumps(payload).encode()
        return await ask(f"{self.simulator.base_url}{path}", method, headers=given, body=body)


async def login(
    simulator: ArenaSimulator, email: str | None = None, password: str | None = None, **more: Any
) -> Answer:
    """Post a login."""
    body = {"email": email or simulator.email, "password": password or simulator.password, **more}
    return await ask(f"{simulator.base_url}/login", "POST", headers=JSON, body=json.dumps(body).encode())


async def enter(simulator: ArenaSimulator, email: str | None = None, password: str | None = None) -> Caller:
    """Log in and give a caller."""
    return Caller(simulator, (await login(simulator, email, password)).json["arenaSessionId"])


def guids(answer: Answer) -> list[str]:
    """Return the guids of a list."""
    return [row["guid"] for row in answer.json["results"]]


# ---------------------------------------------------------------------- sessions


async def test_a_login_answers_session_workspace_and_allowance() -> None:
    """The keys of the answer are those of the live service; the older spelling is a switch."""
    async with ArenaSimulator(quota=1000, workspace_id=42) as simulator:
        answer = await login(simulator, workspaceId=42)
        assert set(answer.json) == {"arenaSessionId", "workspaceId", "workspaceName", "workspaceRequestLimit"}
        assert (answer.json["workspaceId"], answer.json["workspaceRequestLimit"]) == (42, 1000)
        assert "x-arena-requests-remaining" not in answer.headers
    async with ArenaSimulator(session_key="arena_session_id", lands_in=7) as simulator:
        answer = await login(simulator, workspaceId=simulator.workspace_id)
        assert (bool(answer.json["arena_session_id"]), answer.json["workspaceId"]) == (True, 7)


async def test_a_wrong_password_is_4001_and_the_fifth_locks_for_five_minutes() -> None:
    """While it is locked the right password is refused too; a success starts the count anew."""
    clock = Clock()
    async with ArenaSimulator(clock=clock) as simulator:
        wrong = [await login(simulator, password="no") for _ in range(4)]
        assert [(one.status, one.code) for one in wrong] == [(400, 4001)] * 4
        assert (await login(simulator)).status == 200
        wrong = [await login(simulator, password="no") for _ in range(5)]
        assert [one.code for one in wrong] == [4001, 4001, 4001, 4001, 4083]
        assert (await login(simulator)).code == 4083
        clock.at += 301
        assert (await login(simulator)).status == 200


@pytest.mark.parametrize("body", [{"email": "who@example.com"}, {"workspaceId": 1}], ids=["unknown user", "workspace"])
async def test_an_unknown_user_or_workspace_is_4001(body: dict[str, Any]) -> None:
    """The refusal does not say which of the three was wrong."""
    async with ArenaSimulator() as simulator:
        answer = await login(simulator, **body)
        assert (answer.status, answer.code) == (400, 4001)


async def test_a_second_login_of_the_same_user_ends_the_first_session_and_nobody_elses() -> None:
    """The first session gets 401 from then on, with the body of a refusal."""
    async with ArenaSimulator() as simulator:
        simulator.add_user("other@example.com", "pass")
        other = await enter(simulator, "other@example.com", "pass")
        first = await enter(simulator)
        second = await enter(simulator)
        refused = await first("GET /extracts")
        assert (refused.status, refused.code) == (401, 401)
        assert [(await one("GET /extracts")).status for one in (second, other)] == [200, 200]


async def test_a_session_dies_ninety_minutes_after_its_last_action() -> None:
    """The limit slides with every action, and a refused request is none."""
    clock = Clock()
    async with ArenaSimulator(clock=clock) as simulator:
        caller = await enter(simulator)
        for _ in range(3):
            clock.at += 89 * 60
            assert (await caller("GET /extracts")).status == 200
        clock.at += 91 * 60
        assert (await caller("GET /extracts")).status == 401


async def test_a_logout_has_an_empty_body_and_a_second_one_is_401() -> None:
    """The session is over at once."""
    async with ArenaSimulator() as simulator:
        caller = await enter(simulator)
        first, second = await caller("PUT /logout"), await caller("PUT /logout")
        assert (first.status, first.body, second.status) == (200, b"", 401)


async def test_no_session_and_a_session_nobody_knows_are_401_without_quota_headers() -> None:
    """A stranger has no workspace whose quota could be told."""
    async with ArenaSimulator() as simulator:
        for headers in (JSON, {**JSON, "arena_session_id": "made up"}):
            answer = await ask(f"{simulator.base_url}/extracts", headers=headers)
            assert (answer.status, "x-arena-requests-remaining" in answer.headers) == (401, False)
        assert simulator.remaining == 10_000


async def test_header_names_are_taken_in_any_case() -> None:
    """Header names became case-insensitive in 2023."""
    async with ArenaSimulator() as simulator:
        caller = await enter(simulator)
        headers = {"ARENA_SESSION_ID": caller.session, "CONTENT-TYPE": "Application/JSON; charset=utf-8"}
        assert (await ask(f"{simulator.base_url}/extracts", headers=headers)).status == 200


async def test_a_request_without_the_documented_media_type_is_415() -> None:
    """Even a GET needs it; the switch turns that off."""
    async with ArenaSimulator() as simulator:
        caller = await enter(simulator)
        own = {"arena_session_id": caller.session}
        for headers in (own, {**own, "Content-Type": "text/plain"}):
            assert (await ask(f"{simulator.base_url}/extracts", headers=headers)).status == 415
        assert (await ask(f"{simulator.base_url}/login", "POST", body=b"{}")).status == 415
        simulator.needs_content_type = False
        assert (await ask(f"{simulator.base_url}/extracts", headers=own)).status == 200


# ---------------------------------------------------------------------- the daily quota


async def test_every_request_lowers_what_remains_whether_it_succeeds_or_not() -> None:
    """Refusals, requests with a dead session and content count; only the login is free."""
    async with ArenaSimulator(quota=100) as simulator:
        dead = await enter(simulator)
        caller = await enter(simulator)
        lines = ["GET /extracts", f"GET /extracts/{WRONG_GUID}", "GET /nowhere", "GET /extracts?limit=0"]
        left = [int((await caller(line)).headers["x-arena-requests-remaining"]) for line in lines]
        assert left == [99, 98, 97, 96]
        assert (await dead("GET /extracts")).headers["x-arena-requests-remaining"] == "95"
        simulator.inject(faults.status(503))
        assert "x-arena-requests-remaining" not in (await caller("GET /extracts")).headers
        simulator.inject(faults.mute())
        await caller("GET /extracts")
        assert simulator.remaining == 93


async def test_the_quota_is_shared_by_all_users_of_the_workspace() -> None:
    """What one integration spends is missing for the other."""
    async with ArenaSimulator(quota=10) as simulator:
        simulator.add_user("other@example.com", "pass")
        one, other = await enter(simulator), await enter(simulator, "other@example.com", "pass")
        await one("GET /extracts")
        assert (await other("GET /extracts")).headers["x-arena-requests-remaining"] == "8"


async def test_an_empty_quota_is_429_with_4084_until_midnight_in_california() -> None:
    """No Retry-After helps; even the logout is refused; the reset starts a new day."""
    clock = Clock()
    async with ArenaSimulator(quota=2, clock=clock) as simulator:
        caller = await enter(simulator)
        answers = [await caller("GET /extracts") for _ in range(3)]
        assert [one.status for one in answers] == [200, 200, 429]
        assert [one.headers["x-arena-requests-remaining"] for one in answers] == ["1", "0", "0"]
        assert answers[2].code == 4084
        assert "2 requests" in answers[2].json["errors"][0]["message"]
        assert "retry-after" not in answers[2].headers
        assert (await caller("PUT /logout")).status == 429
        clock.at = simulator.resets_at + 1
        caller = await enter(simulator)
        assert (await caller("GET /extracts")).headers["x-arena-requests-remaining"] == "1"


async def test_the_reset_header_has_the_vendors_own_shape() -> None:
    """It is the next midnight of the US Pacific coast, and no RFC date."""
    async with ArenaSimulator(clock=Clock()) as simulator:
        answer = await (await enter(simulator))("GET /extracts")
        assert answer.headers["x-arena-next-request-limit-reset"] == "Sat, 03-May-2014 00:00:00 GMT-0700 (PDT)"
        assert answer.headers["server"] == "ArenaSolutions"


@pytest.mark.parametrize(
    ("utc", "midnight"),
    [
        (datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC), datetime(2014, 5, 3, 7, tzinfo=UTC)),
        (datetime(2026, 1, 15, 7, 59, tzinfo=UTC), datetime(2026, 1, 15, 8, tzinfo=UTC)),
        (datetime(2026, 1, 15, 8, 0, tzinfo=UTC), datetime(2026, 1, 16, 8, tzinfo=UTC)),
        (datetime(2026, 3, 8, 9, 0, tzinfo=UTC), datetime(2026, 3, 9, 7, tzinfo=UTC)),
        (datetime(2026, 11, 1, 8, 0, tzinfo=UTC), datetime(2026, 11, 2, 8, tzinfo=UTC)),
    ],
    ids=str,
)
def test_midnight_follows_summer_time(utc: datetime, midnight: datetime) -> None:
    """On the days the clocks change, midnight is an hour off the usual distance."""
    assert datetime.fromtimestamp(pacific_midnight_after(utc.timestamp()), UTC) == midnight


def test_the_vendors_sample_of_the_reset_header_is_written_exactly() -> None:
    """Dashes, an offset behind GMT, and the zone in brackets."""
    assert write_reset(SAMPLE_INSTANT) == "Fri, 02-May-2014 14:22:13 GMT-0700 (PDT)"


async def test_quota_headers_can_be_missing_from_refusals_or_everywhere() -> None:
    """Nobody promises them on a 400."""
    async with ArenaSimulator(quota_headers="success") as simulator:
        caller = await enter(simulator)
        reported = [
            "x-arena-requests-remaining" in (await caller(f"GET /{path}")).headers for path in ("extracts", "x")
        ]
        simulator.quota_headers = "never"
        reported.append("x-arena-requests-remaining" in (await caller("GET /extracts")).headers)
        assert reported == [True, False, False]


async def test_the_service_says_who_spent_the_quota() -> None:
    """Usage is counted by day, method and end point, and ignores paging."""
    async with ArenaSimulator(clock=Clock()) as simulator:
        caller = await enter(simulator)
        await caller(f"GET /extracts/{simulator.extract}")
        await caller(f"GET /extracts/{simulator.extract}")
        rows = (await caller("GET /settings/recentactivities/apiusages?limit=1&offset=7")).json["results"]
        assert [(row["endpoint"], row["method"], row["resource"], row["count"]) for row in rows] == [
            ("/extracts/<GUID>", "GET", "extracts", 2),
            ("/settings/recentactivities/apiusages", "GET", "settings", 1),
        ]
        assert (rows[0]["date"], rows[0]["user"]["email"]) == ("2014-05-02T00:00:00Z", simulator.email)


# ---------------------------------------------------------------------- lists


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", 3220),
        ("limit=401", 3220),
        ("limit=x", 3220),
        ("limit=", 3220),
        ("limit=-1", 3220),
        ("offset=-1", 3041),
        ("offset=x", 3041),
        ("nonsense=1", 3019),
        ("completionDateTimeFrom=yesterday", 3003),
    ],
)
async def test_a_bad_query_of_a_list_is_refused(query: str, code: int) -> None:
    """Limits go from 1 to 400, offsets from 0; attributes that are not searchable are refused, not overlooked."""
    async with ArenaSimulator() as simulator:
        answer = await (await enter(simulator))(f"GET /extracts/{simulator.extract}/runs?{query}")
        assert (answer.status, answer.code) == (400, code)


async def test_a_list_gives_twenty_rows_unless_asked_and_at_most_four_hundred() -> None:
    """Pages join up without a gap, and end with an empty one."""
    async with ArenaSimulator(files=410) as simulator:
        caller = await enter(simulator)
        runs = f"GET /extracts/{simulator.extract}/runs"
        assert len(guids(await caller(runs))) == 20
        pages = [guids(await caller(f"{runs}?offset={offset}&limit=400")) for offset in (0, 400, 800)]
        assert [len(page) for page in pages] == [400, 10, 0]
        assert len({guid for page in pages for guid in page}) == 410


@pytest.mark.parametrize(
    ("count", "shown"), [("page", [2, 1]), ("total", [3, 3]), (-7, [-7, -7]), (None, [None, None])]
)
async def test_count_means_what_it_is_switched_to(count: object, shown: list[object]) -> None:
    """No page of the vendor says what it counts."""
    async with ArenaSimulator(files=3, count=count) as simulator:
        caller = await enter(simulator)
        runs = f"GET /extracts/{simulator.extract}/runs?limit=2"
        assert [(await caller(f"{runs}&offset={offset}")).json["count"] for offset in (0, 2)] == shown


@pytest.mark.parametrize(
    ("shape", "full", "empty"),
    [
        ("results", "dict", {"count": 0, "results": []}),
        ("Results", "dict", {"count": 0, "Results": []}),
        ("bare", "list", []),
        ("null", "dict", {"count": 0, "results": None}),
        ("missing", "dict", {"count": 0}),
    ],
)
async def test_lists_come_in_every_shape_that_was_ever_seen(shape: Any, full: str, empty: Any) -> None:
    """The envelope is a switch."""
    async with ArenaSimulator(shape=shape) as simulator:
        caller = await enter(simulator)
        assert type((await caller("GET /extracts")).json).__name__ == full
        assert (await caller("GET /extracts?offset=9")).json == empty


async def test_paging_may_be_overlooked_halved_or_refused() -> None:
    """Runs and their files have paging on some pages only; the rest of the lists always has it."""
    async with ArenaSimulator(files=45) as simulator:
        caller = await enter(simulator)
        runs = f"GET /extracts/{simulator.extract}/runs"
        simulator.paging = "ignored"
        assert len(guids(await caller(f"{runs}?offset=40&limit=5"))) == 45
        simulator.paging = "limit ignored"
        assert [len(guids(await caller(f"{runs}?offset={at}&limit=400"))) for at in (0, 20, 40)] == [20, 20, 5]
        simulator.paging = "refused"
        assert (await caller(f"{runs}?limit=5")).code == 3200
        assert len(guids(await caller(runs))) == 20
        assert (await caller("GET /extracts?limit=5")).status == 200


async def test_answers_are_gzipped_for_those_who_take_it() -> None:
    """JSON only, and only where it is switched on and accepted."""
    async with ArenaSimulator(gzipped=True) as simulator:
        caller = await enter(simulator)
        packed = await caller("GET /extracts", headers={"Accept-Encoding": "gzip, deflate"})
        plain = await caller("GET /extracts")
    assert packed.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body)) == plain.json


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("name=Nightly", 0),
        ("name=Nightly*", 1),
        ("name=Nightly%20extract", 1),
        ("enabled=true", 1),
        ("enabled=false", 1),
        ("creator.fullName=Ida*", 2),
        ("creator.fullName=Nobody", 0),
    ],
)
async def test_extracts_are_searched_whole_unless_a_star_ends_the_word(query: str, found: int) -> None:
    """In the API the wildcard has to be written."""
    async with ArenaSimulator() as simulator:
        simulator.add_extract("Old one", enabled=False)
        answer = await (await enter(simulator))(f"GET /extracts?{query}")
        assert answer.json["count"] == found


async def test_a_filter_can_be_overlooked() -> None:
    """Some filters of the live service return everything."""
    async with ArenaSimulator(ignored_filters=["enabled", "made.up"]) as simulator:
        caller = await enter(simulator)
        assert (await caller("GET /extracts?enabled=false&made.up=1")).json["count"] == 1


# ---------------------------------------------------------------------- extracts


@pytest.mark.parametrize("guid", ["L3N6PX663K3K3HOBOOT0%20", "lowercase0lowercase0", "SHORT", "A-B"])
async def test_a_malformed_guid_is_3011_and_an_unknown_one_3012(guid: str) -> None:
    """The message carries what was sent."""
    async with ArenaSimulator() as simulator:
        caller = await enter(simulator)
        malformed = await caller(f"GET /extracts/{guid}/runs")
        unknown = await caller(f"GET /extracts/{WRONG_GUID}/runs")
    assert (malformed.status, malformed.code, unknown.status, unknown.code) == (400, 3011, 400, 3012)
    assert json.dumps(guid.replace("%20", " "))[1:-1] in malformed.json["errors"][0]["message"]


async def test_a_run_has_the_documented_fields_and_files_only_with_the_view() -> None:
    """Deprecated twins are there; a file of the view has neither name nor size."""
    async with ArenaSimulator(files=1, clock=Clock()) as simulator:
        caller = await enter(simulator)
        runs = f"GET /extracts/{simulator.extract}/runs"
        run = (await caller(runs)).json["results"][0]
        assert set(run) == {
            "completionDate",
            "completionDateTime",
            "creationDateTime",
            "creator",
            "guid",
            "runDate",
            "runDateTime",
            "scheduledDate",
            "scheduledDateTime",
            "status",
            "type",
            "viewsExtracted",
        }
        assert (run["status"], run["completionDateTime"]) == ("Completed", "2014-05-02T20:22:13Z")
        files = (await caller(f"{runs}?view=withFiles")).json["results"][0]["files"]
        assert [set(one) for one in files] == [{"guid", "downloadDateTime"}]
        assert (await caller(f"{runs}/{run['guid']}")).json == run
        simulator.honours_view = False
        assert "files" not in (await caller(f"{runs}?view=withFiles")).json["results"][0]
        assert (await caller(f"{runs}/latestCompleted?view=withFiles")).json["files"] == files


async def test_an_association_has_every_field_of_the_sample() -> None:
    """The sample of the vendor's page is a subset of what comes, nulls included."""
    async with ArenaSimulator(files={"Extract_20150817_164826Z_FXH0EBFHS9SK3M5O7QS1.zip": 8989}) as simulator:
        caller = await enter(simulator)
        run = guids(await caller(f"GET /extracts/{simulator.extract}/runs"))[0]
        listed = (await caller(f"GET /extracts/{simulator.extract}/runs/{run}/files")).json
        row = listed["results"][0]
        assert (listed["count"], row["downloadDateTime"]) == (1, None)
        wanted = {
            "author": None,
            "category": {},
            "description": None,
            "edition": None,
            "format": "zip",
            "hasMarkup": False,
            "latest": False,
            "location": None,
            "mimeType": None,
            "number": None,
            "private": False,
            "size": 8989,
            "storageMethod": 0,
            "title": None,
            "name": "Extract_20150817_164826Z_FXH0EBFHS9SK3M5O7QS1.zip",
        }
        assert wanted.items() <= row["file"].items()
        assert row["guid"] != row["file"]["guid"]
        assert (await caller(f"GET /extracts/{simulator.extract}/runs/{run}/files/{row['guid']}")).json == row
        simulator.sizes_as_text = True
        again = await caller(f"GET /extracts/{simulator.extract}/runs/{run}/files")
        assert again.json["results"][0]["file"]["size"] == "8989"


async def test_content_is_the_zip_and_its_first_request_stamps_it() -> None:
    """The stamp comes with the request, not with the last byte; content has no proof but its length."""
    clock = Clock()
    async with ArenaSimulator(files=1, clock=clock) as simulator:
        caller = await enter(simulator)
        run = f"/extracts/{simulator.extract}/runs/{simulator.extracts[simulator.extract].runs[0].guid}"
        tie = guids(await caller(f"GET {run}/files"))[0]
        simulator.inject(faults.drop(after_bytes=100), on="GET */content")
        assert (await caller(f"GET {run}/files/{tie}/content")).ending == "cut"
        assert (await caller(f"GET {run}/files/{tie}")).json["downloadDateTime"] == "2014-05-02T21:22:13Z"
        clock.at += 60
        answer = await caller(f"GET {run}/files/{tie}/content", headers={"Range": "bytes=10-"})
        assert (answer.status, answer.body) == (200, simulator.content(tie))
        assert (await caller(f"GET {run}/files/{tie}")).json["downloadDateTime"] == "2014-05-02T21:22:13Z"
        assert {"etag", "accept-ranges", "content-md5", "content-disposition"}.isdisjoint(answer.headers)
        assert answer.headers["x-arena-requests-remaining"] == "9996"
        assert len((await caller(f"GET {run}/files?downloadDateTimeTo=2014-05-02T21:22:13Z")).json["results"]) == 1
        assert len((await caller(f"GET {run}/files?downloadDateTimeFrom=2014-05-02T21:22:13Z")).json["results"]) == 0
    with zipfile.ZipFile(io.BytesIO(answer.body)) as opened:
        assert opened.testzip() is None


async def test_validators_ranges_and_digests_can_be_switched_on() -> None:
    """A strong ETag, If-Match and Range work together, and a change shows as 412."""
    async with ArenaSimulator(files=1, etag="strong", ranges=True, content_md5=True, disposition=True) as simulator:
        caller = await enter(simulator)
        run = f"/extracts/{simulator.extract}/runs/{simulator.extracts[simulator.extract].runs[0].guid}"
        content = f"GET {run}/files/{guids(await caller(f'GET {run}/files'))[0]}/content"
        whole = await caller(content)
        tag = whole.headers["etag"]
        rest = await caller(content, headers={"Range": "bytes=15000-", "If-Match": tag})
        assert (rest.status, rest.body, rest.headers["content-range"]) == (
            206,
            whole.body[15000:],
            "bytes 15000-19999/20000",
        )
        assert whole.headers["content-disposition"].endswith('.zip"')
        simulator.inject(faults.change(), on="GET */content")
        assert (await caller(content, headers={"Range": "bytes=15000-", "If-Match": tag})).status == 412
        other = await caller(content)
        assert (other.headers["etag"] != tag, len(other.body), other.body != whole.body) == (True, 20_000, True)
        simulator.etag = "weak"
        assert (await caller(content)).headers["etag"].startswith('W/"')


async def test_the_latest_completed_run_is_the_last_one_that_went_well() -> None:
    """Runs that failed or are under way are passed over; without any it is a refusal."""
    async with ArenaSimulator(files=2) as simulator:
        good = simulator.extracts[simulator.extract].runs[-1].guid
        simulator.add_extract_run(status="Failed")
        simulator.add_extract_run(status="InProcess")
        empty = simulator.add_extract("Empty").guid
        caller = await enter(simulator)
        assert (await caller(f"GET /extracts/{simulator.extract}/runs/latestCompleted")).json["guid"] == good
        assert (await caller(f"GET /extracts/{empty}/runs/latestCompleted")).code == 3012


@pytest.mark.parametrize(
    ("query", "ages"),
    [
        ("status=completed", [1, 2, 3]),
        ("status=IN_PROCESS", [0]),
        ("status=Aborted", []),
        ("completionDateTimeFrom=2014-05-02T19:22:13Z", [1]),
        ("completionDateTimeTo=2014-05-02T19:22:13Z", [2, 3]),
        ("runDateTimeFrom=2014-05-02T19:20:12Z", [0, 1, 2]),
        ("scheduledDateTimeTo=2014-05-02T18:20:13Z", [3]),
        ("downloadDateTimeFrom=2000-01-01T00:00:00Z", [2]),
        ("completionDateTimeFrom=2014-05-02T18:22:13Z&limit=1", [1]),
    ],
)
async def test_every_filter_of_extract_runs_works(query: str, ages: list[int]) -> None:
    """States in any spelling; ``From`` means after; what never happened matches no date."""
    async with ArenaSimulator(files=3, clock=Clock()) as simulator:
        simulator.add_extract_run(status="InProcess")
        runs = list(reversed(simulator.extracts[simulator.extract].runs))
        runs[2].files[0].downloaded = SAMPLE_INSTANT
        answer = await (await enter(simulator))(f"GET /extracts/{simulator.extract}/runs?{query}")
        assert guids(answer) == [runs[age].guid for age in ages]


async def test_a_started_run_is_shown_in_process_until_it_is_done() -> None:
    """It takes as many looks, or as many seconds, as it was told to; its files come at the end."""
    clock = Clock()
    async with ArenaSimulator(files=0, run_polls=2, clock=clock) as simulator:
        caller = await enter(simulator)
        runs = f"/extracts/{simulator.extract}/runs"
        started = await caller(f"POST {runs}", {})
        assert (started.status, started.json["status"], started.json["completionDateTime"]) == (201, "InProcess", None)
        one = f"GET {runs}/{started.json['guid']}"
        assert (await caller(f"{one}/files")).json["results"] == []
        assert [(await caller(one)).json["status"] for _ in range(3)] == ["InProcess", "InProcess", "Completed"]
        assert len((await caller(f"{one}/files")).json["results"]) == 1
        simulator.run_seconds, simulator.run_outcome = 60.0, "Failed"
        one = f"GET {runs}/{(await caller(f'POST {runs}', {})).json['guid']}"
        assert [(await caller(one)).json["status"] for _ in range(5)] == ["InProcess"] * 5
        clock.at += 61
        assert (await caller(one)).json["status"] == "Failed"
        simulator.status_names = {"Failed": "FAILED"}
        assert (await caller(one)).json["status"] == "FAILED"


async def test_only_an_owner_of_the_extract_gets_its_zip() -> None:
    """Somebody else sees the run and its files, and is refused the bytes."""
    async with ArenaSimulator(files=1) as simulator:
        simulator.add_user("other@example.com", "pass")
        caller = await enter(simulator, "other@example.com", "pass")
        run = f"/extracts/{simulator.extract}/runs/{simulator.extracts[simulator.extract].runs[0].guid}"
        tie = guids(await caller(f"GET {run}/files"))[0]
        answer = await caller(f"GET {run}/files/{tie}/content")
        assert (answer.status, answer.code) == (403, 3024)


async def test_the_file_server_can_be_away_in_both_documented_ways() -> None:
    """3017 with a body, or 400 with none; a file that is gone stays listed."""
    async with ArenaSimulator(files=1) as simulator:
        caller = await enter(simulator)
        run = f"/extracts/{simulator.extract}/runs/{simulator.extracts[simulator.extract].runs[0].guid}"
        tie = guids(await caller(f"GET {run}/files"))[0]
        simulator.inject(faults.empty_400(), on="GET */content")
        answer = await caller(f"GET {run}/files/{tie}/content")
        assert (answer.status, answer.body) == (400, b"")
        simulator.remove(tie)
        assert (await caller(f"GET {run}/files/{tie}/content")).code == 3017
        assert guids(await caller(f"GET {run}/files")) == [tie]


# ---------------------------------------------------------------------- exports

CRITERIA = [[{"attribute": "number", "operator": "IS_EQUAL_TO", "value": "900-00001"}]]


async def test_an_export_is_defined_found_and_shown() -> None:
    """The answer to the definition is the definition."""
    async with ArenaSimulator() as simulator:
        caller = await enter(simulator)
        made = await caller("POST /exports", {"name": "Mine", "world": "ITEMS", "criteria": CRITERIA, "options": {}})
        assert (made.status, made.json["number"], made.json["criteria"]) == (201, 2, CRITERIA)
        assert (await caller(f"GET /exports/{made.json['guid']}")).json == made.json
        for query, found in (
            ("name=Mi*", 1),
            ("number=2", 1),
            (f"creator.email={simulator.email}", 2),
            ("description=x", 0),
        ):
            assert (await caller(f"GET /exports?{query}")).json["count"] == found


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, 3001),
        ({"name": "x" * 101}, 3003),
        ({"name": "x", "options": {"fileContent": {"supplierItem": "PRIMARY"}}}, 4073),
        (b"{nonsense", 400),
        ([1], 400),
    ],
    ids=["no name", "long name", "supplier files", "no JSON", "no object"],
)
async def test_a_bad_definition_is_refused(body: Any, code: int) -> None:
    """The rules of the page are kept."""
    async with ArenaSimulator() as simulator:
        answer = await (await enter(simulator))("POST /exports", body)
        assert (answer.status, answer.code) == (400, code)


async def test_criteria_are_given_exactly_once_and_one_export_runs_at_a_time() -> None:
    """3140 for none, 3142 for two, 3144 while another one is in progress, whoever started it."""
    async with ArenaSimulator(run_polls=1) as simulator:
        caller = await enter(simulator)
        own, bare = simulator.export, simulator.add_export("Bare", criteria=None).guid
        assert (await caller(f"POST /exports/{bare}/runs", {})).code == 3140
        assert (await caller(f"POST /exports/{own}/runs", {"criteria": CRITERIA})).code == 3142
        started = await caller(f"POST /exports/{bare}/runs", {"criteria": CRITERIA})
        assert (started.status, started.json["status"], started.json["files"]) == (201, "CREATED", [])
        assert (await caller(f"POST /exports/{own}/runs", {})).code == 3144
        states = [(await caller(f"GET /exports/{bare}/runs/{started.json['guid']}")).json["status"] for _ in range(2)]
        assert states == ["RUNNING", "COMPLETE"]
        assert (await caller(f"POST /exports/{own}/runs", {})).status == 201


async def test_a_run_of_an_export_has_the_fields_of_the_sample() -> None:
    """Its files carry a guid and a title that is null."""
    async with ArenaSimulator(exports=1) as simulator:
        run = (await (await enter(simulator))(f"GET /exports/{simulator.export}/runs")).json["results"][0]
        assert set(run) == {
            "completionDateTime",
            "creationDateTime",
            "creator",
            "criteria",
            "criteriaResultsCount",
            "files",
            "guid",
            "number",
            "status",
        }
        assert set(run["creator"]) == {"email", "fullName", "guid"}
        assert [set(one) for one in run["files"]] == [{"guid", "title"}]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [4, 3, 2, 1]),
        ("number=2", [2]),
        ("status=complete", [2, 1]),
        ("status=DOWNLOADED", [3]),
        ("latestCompleted=true", [3]),
        ("latestCompleted=false", [4, 3, 2, 1]),
        ("offset=1&limit=2", [3, 2]),
        ("completionDateTimeFrom=2014-05-02T20:22:13Z", [4, 3, 2]),
        ("completionDateTimeTo=2014-05-02T19:22:13Z", [1]),
    ],
)
async def test_every_filter_of_export_runs_works(query: str, numbers: list[int]) -> None:
    """A run that was downloaded is a completed one; dates take in their own instant."""
    async with ArenaSimulator(exports=2, clock=Clock()) as simulator:
        simulator.add_export_run(status="DOWNLOADED")
        simulator.add_export_run(status="FAILED")
        answer = await (await enter(simulator))(f"GET /exports/{simulator.export}/runs?{query}")
        assert [row["number"] for row in answer.json["results"]] == numbers


async def test_another_users_export_run_is_listed_and_forbidden() -> None:
    """Run, metadata and content are for who started it."""
    async with ArenaSimulator(exports=1) as simulator:
        run = simulator.add_export_run(creator=simulator.add_user("other@example.com", "pass"))
        caller = await enter(simulator)
        runs = f"/exports/{simulator.export}/runs"
        assert guids(await caller(f"GET {runs}"))[0] == run.guid
        for end in ("", f"/files/{run.files[0].guid}", f"/files/{run.files[0].guid}/content"):
            answer = await caller(f"GET {runs}/{run.guid}{end}")
            assert (answer.status, answer.code) == (403, 3024)


async def test_an_export_is_downloaded_and_says_so_afterwards() -> None:
    """Metadata has the vendor's malformed time; fetching changes the state of the run."""
    async with ArenaSimulator(exports=1, clock=Clock()) as simulator:
        caller = await enter(simulator)
        run = simulator.exports[simulator.export].runs[0]
        one = f"GET /exports/{simulator.export}/runs/{run.guid}"
        file = f"{one}/files/{run.files[0].guid}"
        meta = (await caller(file)).json
        assert (meta["mimeType"], meta["name"], meta["locked"]) == (
            "application/zip",
            "Released items Export Results.zip",
            True,
        )
        assert (meta["size"], meta["lastModifiedDateTime"]) == (20_000, "2014-05-02T20:22.13Z")
        answer = await caller(f"{file}/content")
        assert answer.body == simulator.content(run.guid)
        assert (await caller(one)).json["status"] == "DOWNLOADED"


async def test_export_results_are_gone_after_sixty_days_but_their_rows_stay() -> None:
    """The run is listed with its file; metadata and content are not found."""
    async with ArenaSimulator(exports=0, clock=Clock()) as simulator:
        run = simulator.add_export_run(age=61 * 86400.0)
        caller = await enter(simulator)
        one = f"GET /exports/{simulator.export}/runs/{run.guid}"
        assert (await caller(one)).json["status"] == "COMPLETE"
        file = f"{one}/files/{run.files[0].guid}"
        assert [(await caller(line)).code for line in (file, f"{file}/content")] == [3012, 3012]


# ---------------------------------------------------------------------- the import engine

SHEET = b"number,name\r\n1,a\r\n2,b\r\n"


def form(**parts: str) -> bytes:
    """Make a multipart body with the submitted file and some values."""
    values = "".join(f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in parts.items())
    head = '--x\r\nContent-Disposition: form-data; name="submitContent"; filename="in.csv"\r\n\r\n'
    return (values + head).encode() + SHEET + b"\r\n--x--\r\n"


MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


async def test_an_import_is_defined_found_and_renamed_but_not_changed() -> None:
    """Name and description may change; a change answers 201, as the page says."""
    async with ArenaSimulator() as simulator:
        caller = await enter(simulator)
        made = await caller("POST /imports", {"name": "Mine", "mode": "create", "resource": "item_bom"})
        assert (made.status, made.json["mode"], made.json["resource"]) == (201, "CREATE", "ITEM_BOM")
        one = f"/imports/{made.json['guid']}"
        renamed = await caller(f"PUT {one}", {"name": "Yours"})
        assert (renamed.status, renamed.json["name"]) == (201, "Yours")
        assert (await caller(f"PUT {one}", {"mode": "EDIT"})).code == 3032
        assert (await caller("GET /imports?name=Yours&resource=ITEM_BOM&mode=CREATE")).json["count"] == 1
        assert (await caller("POST /imports", {"name": "x", "mode": "EDIT"})).code == 3001
        assert (await caller("POST /imports", {"name": "x", "mode": "EAT", "resource": "ITEM_BOM"})).code == 3003


@pytest.mark.parametrize("in_query", [False, True], ids=["parts", "query"])
async def test_an_import_run_takes_its_values_as_parts_or_in_the_query(in_query: bool) -> None:
    """Both documented ways start the same run, and its submitted bytes come back."""
    async with ArenaSimulator(run_polls=0) as simulator:
        caller = await enter(simulator)
        runs = f"/imports/{simulator.import_}/runs"
        if in_query:
            started = await caller(f"POST {runs}?submitFileType=CSV&commit=true", form(), MULTIPART)
        else:
            started = await caller(f"POST {runs}", form(submitFileType="CSV", commit="true"), MULTIPART)
        shown = started.json
        assert (started.status, shown["commit"], shown["totalCount"], shown["status"]) == (201, True, 2, "CREATED")
        one = f"GET {runs}/{shown['guid']}"
        assert (await caller(one)).json["status"] == "COMPLETE"
        assert (await caller(f"{one}/submitContent")).body == SHEET
        assert (await caller(f"{one}/resultContent")).body.count(b"SUCCESS") == 2
        assert (await caller(f"{one}/errorContent")).code == 3028


async def test_an_import_run_needs_its_file_a_known_type_and_multipart() -> None:
    """What the page requires is required."""
    async with ArenaSimulator(import_parameters="both") as simulator:
        caller = await enter(simulator)
        runs = f"POST /imports/{simulator.import_}/runs"
        assert (await caller(runs, b"--x--\r\n", MULTIPART)).code == 3001
        assert (await caller(runs, form(submitFileType="PDF"), MULTIPART)).code == 3003
        assert (await caller(runs, {})).status == 415


async def test_an_import_run_is_committed_either_way_and_never_taken_back() -> None:
    """The body or the query may ask for it."""
    async with ArenaSimulator(imports=2, import_parameters="both") as simulator:
        caller = await enter(simulator)
        runs = f"PUT /imports/{simulator.import_}/runs"
        one, two = (run.guid for run in simulator.imports[simulator.import_].runs)
        by_body, by_query = await caller(f"{runs}/{one}", {"commit": True}), await caller(f"{runs}/{two}?commit=true")
        assert [(answer.status, answer.json["commit"]) for answer in (by_body, by_query)] == [(201, True), (201, True)]
        assert (await caller(f"{runs}/{one}", {"commit": False})).code == 3003
        assert (await caller(f"{runs}/{one}/complete")).json["status"] == "COMPLETE"


@pytest.mark.parametrize(
    ("read", "query", "part", "committed"),
    [
        ("query", "", "false", True),
        ("query", "?commit=false", "true", False),
        ("parts", "?commit=true", "false", False),
        ("parts", "", "true", True),
        ("both", "?commit=false", "true", False),
        ("both", "", "false", False),
    ],
)
async def test_a_run_commits_as_one_of_the_documents_has_it(read: Any, query: str, part: str, committed: bool) -> None:
    """By the one that knows a query only, a run commits unless that says no."""
    async with ArenaSimulator(import_parameters=read) as simulator:
        caller = await enter(simulator)
        content = form(submitFileType="CSV", commit=part, submitContent="number\r\n1\r\n")
        made = await caller(
            f"POST /imports/{simulator.import_}/runs{query}&submitFileType=CSV".replace("runs&", "runs?"),
            content,
            MULTIPART,
        )

    assert (made.status, made.json["commit"]) == (201, committed)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [3, 2, 1]),
        ("number=2", [2]),
        ("status=ERROR", [2]),
        ("status=complete", [3, 1]),
        ("limit=1&offset=1", [2]),
        ("creator.email=other@example.com", [3]),
        ("creator.fullName=Olga*", [3]),
        ("creator.guid={guid}", [3]),
    ],
)
async def test_every_filter_of_import_runs_works(query: str, numbers: list[int]) -> None:
    """Number, state and all three ways to name the creator."""
    async with ArenaSimulator(imports=1) as simulator:
        other = simulator.add_user("other@example.com", "pass")
        simulator.add_import_run(status="ERROR")
        simulator.add_import_run(creator=other)
        caller = await enter(simulator)
        answer = await caller(f"GET /imports/{simulator.import_}/runs?{query.format(guid=other.guid)}")
        assert [row["number"] for row in answer.json["results"]] == numbers


async def test_import_results_are_purged_after_sixty_days() -> None:
    """The state says so, and the content is not found."""
    async with ArenaSimulator(imports=0) as simulator:
        run = simulator.add_import_run(age=61 * 86400.0)
        caller = await enter(simulator)
        one = f"GET /imports/{simulator.import_}/runs/{run.guid}"
        assert (await caller(one)).json["status"] == "PURGED"
        assert (await caller(f"{one}/resultContent")).code == 3012


async def test_a_submitted_worksheet_comes_back_as_the_zip_it_is() -> None:
    """A run of an Excel file has content with the magic of a zip."""
    async with ArenaSimulator(imports=0) as simulator:
        run = simulator.add_import_run(submit_type="EXCEL_WORKSHEET")
        caller = await enter(simulator)
        answer = await caller(f"GET /imports/{simulator.import_}/runs/{run.guid}/submitContent")
        assert answer.body.startswith(b"PK\x03\x04")


# ---------------------------------------------------------------------- files, items and the whole


async def test_files_without_content_are_listed_and_refused_with_3028() -> None:
    """A web link and a place holder have nothing to fetch; a stored file has."""
    async with ArenaSimulator() as simulator:
        caller = await enter(simulator)
        rows = (await caller("GET /files")).json["results"]
        answers = {row["storageMethodName"]: await caller(f"GET /files/{row['guid']}/content") for row in rows}
        assert {name: answer.status for name, answer in answers.items()} == {
            "FILE": 200,
            "WEB": 400,
            "PLACE_HOLDER": 400,
        }
        assert (answers["WEB"].code, answers["FILE"].body) == (3028, simulator.content("drawing.pdf"))
        assert guids(await caller("GET /files?format=pdf&name=draw*")) == [rows[0]["guid"]]
        assert guids(await caller(f"GET /files/{rows[0]['guid']}/editions")) == [rows[0]["guid"]]
        complete = (await caller(f"GET /files/{rows[0]['guid']}")).json
        assert rows[0].items() <= complete.items()
        assert {"size", "lastModifiedDateTime"} <= complete.keys() - rows[0].keys()


async def test_item_files_take_no_query_and_their_guid_is_the_association() -> None:
    """A query is refused with 3200; content is asked for by the association."""
    async with ArenaSimulator() as simulator:
        caller = await enter(simulator)
        item = guids(await caller("GET /items?number=900*"))[0]
        assert (await caller(f"GET /items/{item}/files?limit=20")).code == 3200
        row = (await caller(f"GET /items/{item}/files")).json["results"][0]
        assert (row["primary"], row["guid"] != row["file"]["guid"]) == (True, True)
        assert (await caller(f"GET /items/{item}/files/{row['guid']}/content")).body == simulator.content("drawing.pdf")
        assert (await caller(f"GET /items/{item}/files/{row['file']['guid']}")).code == 3012


async def test_a_session_that_expires_on_order_is_over_for_this_very_request() -> None:
    """The request that meets the fault is the first to be refused."""
    async with ArenaSimulator() as simulator:
        caller = await enter(simulator)
        simulator.inject(faults.expire_session(), on="GET *", after=1)
        assert [(await caller("GET /extracts")).status for _ in range(3)] == [200, 401, 401]
        caller = await enter(simulator)
        simulator.end_sessions()
        assert (await caller("GET /extracts")).status == 401


async def test_it_describes_itself_for_a_person_and_knows_every_file() -> None:
    """Addresses, credentials, the environment, and the digest of each file at its place in a folder."""
    async with ArenaSimulator(files=2, exports=1, imports=1) as simulator:
        about = simulator.describe()
        assert about["environment"] == {
            "ARENA_BASE_URL": simulator.base_url,
            "ARENA_EMAIL": simulator.email,
            "ARENA_PASSWORD": simulator.password,
            "ARENA_WORKSPACE_ID": "899123456",
        }
        assert (
            sorted(place.split("/")[1] for place in simulator.files)
            == ["exports", "extracts", "extracts"] + ["imports"] * 3
        )
        place = next(iter(simulator.files))
        tie = place.rpartition("/")[2].removesuffix(".zip")
        assert simulator.sha256[place] == hashlib.sha256(simulator.content(tie)).hexdigest()
        with pytest.raises(KeyError):
            simulator.content("nothing of the kind")
        with pytest.raises(KeyError):
            simulator.content("to come.docx")


def test_the_same_world_has_the_same_guids_and_bytes_every_time() -> None:
    """A simulator that is started again is the same workspace."""
    one, two = ArenaSimulator(files=3, clock=Clock()), ArenaSimulator(files=3, clock=Clock())
    assert one.sha256 == two.sha256


def test_sizes_may_differ_from_file_to_file() -> None:
    """A function of the number decides."""
    simulator = ArenaSimulator(files=3, exports=0, imports=0, size=lambda number: 1000 * (number + 1))
    assert [content.size for content in simulator.files.values()] == [1000, 2000, 3000]
