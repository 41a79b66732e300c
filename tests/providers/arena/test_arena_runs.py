"""Runs: started once, whatever becomes of the answer, and waited for at the price that was said."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from arena_scripts import QUOTA, arena_client, page_reply
from fake_clock import FakeTime
from scripted import RawServer, Reply, json_reply, reply, unused_port

from arena_async.errors import (
    ApiError,
    ConfigurationError,
    ConflictError,
    DeadlineError,
    QuotaExhaustedError,
    RunFailedError,
    ServerError,
    TransportError,
)
from arena_async.options import PollPolicy, RetryPolicy
from arena_async.providers.arena import ITEM, ArenaClient, ArenaCredentials, ExportDefinition, ExportRun, all_of
from arena_async.providers.arena.exports import Exports
from arena_async.providers.arena.runs import RunSeen
from arena_async.testing import ArenaSimulator, faults

MINE = {"creator": {"email": "robot@everyroadgps.com", "fullName": "Robot"}}
RUNS = "/v1/exports/X/runs"


def run(guid: str, status: str, **more: Any) -> dict[str, Any]:
    """Write a run of an export."""
    return {"guid": guid, "status": status, **more}


def refusal(code: int, status: int = 400) -> Reply:
    """Refuse with a number."""
    return json_reply({"status": status, "errors": [{"code": code, "message": "No."}]}, status, headers=QUOTA)


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server that is not scripted yet."""
    async with RawServer() as running:
        yield running


@pytest.fixture
async def exports(server: RawServer, time: FakeTime) -> AsyncIterator[Exports]:
    """Yield the exports of a client, on the clock of the test."""
    async with arena_client(server) as arena:
        yield attrs.evolve(arena.exports, timing=time.timing)


class TestWaiting:
    """Waiting for a run."""

    async def test_a_run_of_forty_minutes_costs_no_more_questions_than_the_policy_says(self, time: FakeTime) -> None:
        """QU13: 17 after the answer to its start, as the server counts them; the policy said 18 with the first one."""
        async with ArenaSimulator(clock=time, run_seconds=40 * 60) as simulator, simulator.client() as arena:
            exports = attrs.evolve(arena.exports, timing=time.timing)
            begun = await exports.start(simulator.export)
            done = await exports.wait(simulator.export, begun)
            polls = simulator.seen(f"GET */runs/{begun.guid}")

        assert done.done
        assert len(polls) == 17 <= PollPolicy().max_polls(40 * 60) == 18

    async def test_earlier_runs_that_were_listed_anyway_make_it_cheaper(self, time: FakeTime) -> None:
        """Three runs took about 40 minutes: nobody asks often in the first half hour, and nothing is asked for that."""
        async with ArenaSimulator(clock=time, run_seconds=40 * 60) as simulator, simulator.client() as arena:
            exports = attrs.evolve(arena.exports, timing=time.timing)
            earlier = [
                ExportRun(
                    guid=f"R{minutes}",
                    status="DOWNLOADED",
                    creation_date_time=time.now(),
                    completion_date_time=attrs.evolve(time, at=time.at + 60 * minutes).now(),
                )
                for minutes in (38, 40, 41)
            ]
            begun = await exports.start(simulator.export)
            await exports.wait(simulator.export, begun, earlier=earlier)
            polls = simulator.seen(f"GET */runs/{begun.guid}")
            everything = len(simulator.seen("GET *"))

        assert len(polls) == 10
        assert everything == 10

    @pytest.mark.parametrize(
        "status", ["COMPLETE", "Completed", "COMPLETED", "DOWNLOADED", "Downloaded", "down_loaded", "Com-plete"]
    )
    async def test_every_spelling_of_a_good_end_is_one(self, server: RawServer, exports: Exports, status: str) -> None:
        """A file that somebody has fetched already is still there: waiting for COMPLETE alone would never end."""
        server.on("GET", f"{RUNS}/R", json_reply(run("R", "RUNNING")), json_reply(run("R", status)))

        assert (await exports.wait("X", "R")).status == status

    @pytest.mark.parametrize("status", ["FAILED", "Aborted", "ERROR", "failed"])
    async def test_a_bad_end_is_an_error_with_the_run(self, server: RawServer, exports: Exports, status: str) -> None:
        """And it is not asked about any more."""
        server.on("GET", f"{RUNS}/R", json_reply(run("R", status)))
        with pytest.raises(
            RunFailedError, match=rf"^export run R: its status is {status}, so it has no files"
        ) as caught:
            await exports.wait("X", "R")

        assert caught.value.run == ExportRun(guid="R", status=status)
        assert server.lines("GET *") == [f"GET {RUNS}/R"]

    async def test_results_that_were_removed_are_not_waited_for(self, server: RawServer, time: FakeTime) -> None:
        """After 60 days an import run is PURGED."""
        server.on("GET", "/v1/imports/I/runs/R", json_reply(run("R", "PURGED")))
        async with arena_client(server) as arena:
            with pytest.raises(RunFailedError, match=r"its status is PURGED; the service has removed its files"):
                await attrs.evolve(arena.imports, timing=time.timing).wait("I", "R")

    async def test_a_status_that_nobody_knows_is_waited_out(
        self, server: RawServer, exports: Exports, time: FakeTime
    ) -> None:
        """It may become a known one; at the deadline it is an error that says what goes on."""
        server.on("GET", f"{RUNS}/R", json_reply(run("R", "PAUSED_BY_MOONLIGHT")))
        began = time.at
        with pytest.raises(DeadlineError, match=r"^export run R: not finished after 100 s and 5 polls\. It continues"):
            await exports.wait("X", "R", poll=PollPolicy(every=30, max_interval=30, timeout=100))

        assert time.at - began == 100

    async def test_the_run_is_looked_for_in_the_list_where_the_service_shows_a_definition(
        self, server: RawServer, exports: Exports
    ) -> None:
        """The vendor's own sample of this endpoint is the definition of the export."""
        server.on("GET", f"{RUNS}/R", json_reply({"guid": "X", "name": "Released items"}))
        server.on("GET", RUNS, page_reply(run("R", "RUNNING")), page_reply(run("Q", "COMPLETE"), run("R", "COMPLETE")))

        assert (await exports.wait("X", "R")).status == "COMPLETE"

    async def test_a_run_that_is_gone_is_an_error(self, server: RawServer, exports: Exports) -> None:
        """It is neither in its place nor in the list."""
        server.on("GET", f"{RUNS}/R", json_reply({"guid": "X", "name": "Released items"}))
        server.on("GET", RUNS, page_reply())

        with pytest.raises(RunFailedError, match=r"^export run R: it is not there any more"):
            await exports.wait("X", "R")

    async def test_questions_stop_at_the_reserve(self, server: RawServer, time: FakeTime) -> None:
        """With 12 left and a reserve of 10 two questions leave; the run goes on, and so can the wait another day."""
        left = iter(range(11, -1, -1))

        def answer(_: object) -> Reply:
            return json_reply(run("R", "RUNNING"), headers={**QUOTA, "X-Arena-Requests-Remaining": str(next(left))})

        server.on("GET", f"{RUNS}/R", answer)
        async with arena_client(server, quota_reserve=10) as arena:
            with pytest.raises(QuotaExhaustedError) as caught:
                await attrs.evolve(arena.exports, timing=time.timing).wait("X", "R")

        assert caught.value.reserve == 10
        assert len(server.lines("GET *")) == 2

    async def test_each_question_can_be_watched(self, server: RawServer, exports: Exports) -> None:
        """What came, how many were asked, and when the next one is."""
        seen: list[RunSeen[ExportRun]] = []
        server.on("GET", f"{RUNS}/R", json_reply(run("R", "RUNNING")), json_reply(run("R", "COMPLETE")))
        await exports.wait("X", "R", on_status=seen.append)

        assert [(one.how, one.run.status if one.run else None, one.polls, one.again_in) for one in seen] == [
            ("asked", "RUNNING", 1, 5.0),
            ("asked", "COMPLETE", 2, None),
        ]


class TestStarting:
    """Starting a run, once."""

    async def test_a_start_is_one_request(self, server: RawServer, exports: Exports) -> None:
        """Without criteria the body is an empty object."""
        server.on("POST", RUNS, json_reply(run("R", "CREATED"), 201))
        seen: list[RunSeen[ExportRun]] = []
        begun = await exports.start("X", on_status=seen.append)

        assert begun.guid == "R"
        assert [(one.line, one.body) for one in server.requests[1:]] == [(f"POST {RUNS}", b"{}")]
        assert [one.how for one in seen] == ["started"]

    async def test_criteria_of_the_run_are_sent_nested(self, server: RawServer, exports: Exports) -> None:
        """As documented."""
        server.on("POST", RUNS, json_reply(run("R", "CREATED"), 201))
        await exports.start("X", criteria=all_of(ITEM.number.starts_with("900-")))

        assert server.requests[-1].json == {
            "criteria": [[{"attribute": "number", "operator": "STARTS_WITH", "value": "900-"}]]
        }

    @pytest.mark.parametrize(
        ("own", "given", "complaint"),
        [
            ([[{"attribute": "any"}]], all_of(ITEM.any.contains("x")), "Both it and the run.*3142.*leave them out"),
            (None, None, "Neither it nor the run.*3140.*give criteria for the run"),
            ([], None, "Neither it nor the run"),
        ],
    )
    async def test_a_definition_that_is_known_is_checked_for_criteria_before_sending(
        self, server: RawServer, exports: Exports, own: Any, given: Any, complaint: str
    ) -> None:
        """Exactly one of definition and run has them."""
        with pytest.raises(ConfigurationError, match=complaint):
            await exports.start(ExportDefinition(guid="X", criteria=own), criteria=given)

        assert server.requests == []

    @pytest.mark.parametrize(
        ("code", "advice"),
        [
            (3140, "give them in one of the two"),
            (3142, "leave them out of the run"),
            (3145, "use the guids of one and the same"),
            (3148, "more than 20,000 items; split them"),
            (3149, "at most 5,000 lines; split the criteria"),
        ],
    )
    async def test_a_refusal_says_what_to_change_and_is_not_repeated(
        self, server: RawServer, exports: Exports, code: int, advice: str
    ) -> None:
        """One request, and a sentence that helps."""
        server.on("POST", RUNS, refusal(code))
        with pytest.raises(ApiError, match=advice) as caught:
            await exports.start("X")

        assert caught.value.code == code
        assert server.lines("* /v1/exports/*") == [f"POST {RUNS}"]

    async def test_it_waits_in_line_while_another_export_is_in_progress(self, time: FakeTime) -> None:
        """3144: asked at the pace of the policy until the other one has ended, and started once."""
        async with ArenaSimulator(clock=time, run_seconds=60) as simulator, simulator.client() as arena:
            exports = attrs.evolve(arena.exports, timing=time.timing)
            other = simulator.add_export("Other")
            first = await exports.start(other.guid)
            seen: list[RunSeen[ExportRun]] = []
            second = await exports.start(simulator.export, on_status=seen.append)
            posts = simulator.seen(f"POST */exports/{simulator.export}/runs")
            runs = [one.guid for one in simulator.exports[simulator.export].runs]

        assert first.guid != second.guid
        assert [one.status for one in posts] == [400, 400, 400, 400, 400, 201]
        assert runs.count(second.guid) == 1
        assert [(one.how, one.polls, one.again_in) for one in seen] == [
            ("in line", 1, 5.0),
            ("in line", 2, 7.5),
            ("in line", 3, 11.25),
            ("in line", 4, 16.875),
            ("in line", 5, 25.3125),
            ("started", 0, None),
        ]

    async def test_it_does_not_wait_in_line_for_ever(self, server: RawServer, exports: Exports, time: FakeTime) -> None:
        """At the deadline nothing was started, and the error says so."""
        server.on("POST", RUNS, refusal(3144))
        began = time.at
        with pytest.raises(DeadlineError, match=r"one export at a time \(code 3144\).*Nothing was started") as caught:
            await exports.start("X", poll=PollPolicy(every=30, max_interval=30, timeout=100))

        assert time.at - began == 100
        assert len(server.lines(f"POST {RUNS}")) == 5
        assert not caught.value.sent

    async def test_an_allowance_that_is_used_up_ends_the_line(self, server: RawServer, exports: Exports) -> None:
        """Standing in line costs requests, too."""
        last = {**QUOTA, "X-Arena-Requests-Remaining": "0"}
        server.on("POST", RUNS, json_reply({"errors": [{"code": 3144}]}, 400, headers=last))
        with pytest.raises(QuotaExhaustedError):
            await exports.start("X")

        assert len(server.lines(f"POST {RUNS}")) == 1

    async def test_another_conflict_is_no_line(self, server: RawServer, exports: Exports) -> None:
        """It is raised at once."""
        server.on("POST", RUNS, refusal(9999, 409))
        with pytest.raises(ConflictError):
            await exports.start("X")

        assert len(server.lines(f"POST {RUNS}")) == 1


class TestLostAnswers:
    """The request left, and no proper answer came."""

    @pytest.mark.parametrize("fault", [faults.lose_answer(), faults.html_page(), faults.status(502)])
    async def test_the_run_that_was_started_is_found_in_the_list(
        self, time: FakeTime, fault: faults.Fault, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One POST was carried out, or none; where one was, nothing is sent again, and that is said."""
        async with ArenaSimulator(clock=time) as simulator, simulator.client() as arena:
            exports = attrs.evolve(arena.exports, timing=time.timing)
            before = len(simulator.exports[simulator.export].runs)
            simulator.inject(fault, on="POST */runs")
            with caplog.at_level(logging.WARNING, logger="arena_async"):
                seen: list[RunSeen[ExportRun]] = []
                begun = await exports.start(simulator.export, on_status=seen.append)
            runs = simulator.exports[simulator.export].runs
            posts = simulator.seen("POST */runs")

        assert len(runs) == before + 1
        assert begun.guid == runs[-1].guid
        if fault.name == "lose_answer":
            assert len(posts) == 1
            assert [one.how for one in seen] == ["found"]
            assert f"no response was received; the service shows {begun.guid}" in caplog.text
        else:
            assert len(posts) == 2
            assert [one.how for one in seen] == ["started"]
            assert "the service shows nothing of it after 600 s; it is sent once more" in caplog.text

    async def test_what_was_never_heard_is_sent_again_after_a_look_at_the_list(
        self, server: RawServer, exports: Exports
    ) -> None:
        """The list is looked at for ten minutes, fifteen times, before it is sent once more, and after that."""
        server.on("POST", RUNS, reply(mute=True))
        server.on("GET", RUNS, page_reply(run("OLD", "COMPLETE", creationDateTime="2026-03-01T12:00:00Z", **MINE)))
        with pytest.raises(TransportError, match=r"It may have been carried out .* so it was not sent again"):
            await exports.start("X")

        assert [line.partition("?")[0] for line in server.lines("* /v1/exports/*")] == [
            f"POST {RUNS}",
            *[f"GET {RUNS}"] * 15,
        ] * 2

    @pytest.mark.parametrize(
        "listed",
        [
            run("R", "RUNNING", creationDateTime="2026-03-02T11:54:59Z", **MINE),
            run("R", "RUNNING", creationDateTime="2026-03-02T12:00:00Z", creator={"email": "other@example.com"}),
            run("R", "COMPLETE", **MINE),
            run("R", "RUNNING", creationDateTime="2026-03-02T12:00:00Z", criteria=[[{"attribute": "any"}]], **MINE),
        ],
        ids=["before", "of somebody else", "without a time and over", "with other criteria"],
    )
    async def test_another_run_is_not_taken_for_it(
        self, server: RawServer, exports: Exports, listed: dict[str, Any]
    ) -> None:
        """By time, by user, by criteria."""
        server.on("POST", RUNS, reply(mute=True), json_reply(run("NEW", "CREATED"), 201))
        server.on("GET", RUNS, page_reply(listed))

        assert (await exports.start("X", criteria=all_of(ITEM.any.contains("y")))).guid == "NEW"

    @pytest.mark.parametrize(
        "listed",
        [
            run("R", "RUNNING", creationDateTime="2026-03-02T11:55:01Z", creator={"email": "Robot@EveryroadGPS.com"}),
            run("R", "CREATED"),
            run("R", "COMPLETE", creationDateTime="2026-03-02T12:03:00Z", creator={"fullName": "Robot"}),
        ],
        ids=["a slow clock", "nothing said", "no address"],
    )
    async def test_the_run_is_known_again_by_what_the_list_says(
        self, server: RawServer, exports: Exports, listed: dict[str, Any]
    ) -> None:
        """Clocks may be five minutes apart, and not every release says who."""
        server.on("POST", RUNS, reply(mute=True))
        server.on("GET", RUNS, page_reply(listed))

        assert (await exports.start("X")).guid == "R"

    async def test_where_the_list_cannot_be_read_nothing_is_sent_again(
        self, server: RawServer, exports: Exports
    ) -> None:
        """The first error is told, with the second one."""
        server.on("POST", RUNS, reply(mute=True))
        server.on("GET", RUNS, reply(403))
        with pytest.raises(TransportError, match=r"it was not sent again.*The last look at the service failed.*403"):
            await exports.start("X")

        assert len(server.lines(f"POST {RUNS}")) == 1

    @pytest.mark.parametrize("code", [3146, 3514])
    async def test_what_the_service_says_was_not_begun_is_tried_again_without_a_look(
        self, server: RawServer, exports: Exports, code: int
    ) -> None:
        """Twice at most."""
        server.on("POST", RUNS, refusal(code), refusal(code), json_reply(run("R", "CREATED"), 201))
        assert (await exports.start("X")).guid == "R"
        assert len(server.lines("* /v1/exports/*")) == 3

        server.on("POST", RUNS, refusal(code))
        with pytest.raises(ServerError):
            await exports.start("X")
        assert len(server.lines("* /v1/exports/*")) == 6

    async def test_what_never_left_is_an_error_at_once(self, time: FakeTime) -> None:
        """Nobody listens: there is nothing to look for."""
        base = f"http://127.0.0.1:{unused_port()}/v1"
        credentials = ArenaCredentials("robot@everyroadgps.com", "planted-password")
        async with ArenaClient(credentials, base_url=base, retry=RetryPolicy(attempts=1)) as arena:
            with pytest.raises(TransportError) as caught:
                await attrs.evolve(arena.exports, timing=time.timing).start("X")

        assert not caught.value.sent
        assert time.naps == []

    async def test_a_run_of_an_extract_is_known_again_by_when_it_ran(self, time: FakeTime) -> None:
        """Its runs have no time of creation, and its creator no address."""
        async with ArenaSimulator(clock=time) as simulator, simulator.client() as arena:
            extracts = attrs.evolve(arena.extracts, timing=time.timing)
            simulator.inject(faults.lose_answer(), on="POST */runs")
            begun = await extracts.start(simulator.extract)
            done = await extracts.wait(simulator.extract, begun)
            posts = simulator.seen("POST */runs")

        assert len(posts) == 1
        assert done.done
