"""Machine users, outbound events and items of the simulated Arena, held against the vendor's pages by bare sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from http_streams import Answer, ask

from arena_async.testing.arena.simulator import ArenaSimulator

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def simulator() -> AsyncIterator[ArenaSimulator]:
    """Yield a workspace with an integration of each generation."""
    async with ArenaSimulator(files=1) as simulator:
        yield simulator


async def trade(simulator: ArenaSimulator, **changed: str) -> Answer:
    """Ask for a token."""
    form = {
        "grant_type": "client_credentials",
        "client_id": simulator.client_id,
        "client_secret": simulator.client_secret,
        **changed,
    }
    return await ask(simulator.token_url, "POST", headers=FORM, body=urlencode(form).encode())


async def call(simulator: ArenaSimulator, line: str, payload: Any = None, **headers: str) -> Answer:
    """Send ``METHOD /path`` below the base, as the machine user unless another header says who it is."""
    if not headers:
        token = json.loads((await trade(simulator)).body)["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
    method, _, path = line.partition(" ")
    body = b"" if payload is None else json.dumps(payload).encode()
    return await ask(f"{simulator.base_url}{path}", method, headers={**JSON, **headers}, body=body)


def rows(answer: Answer) -> list[Any]:
    """Return the rows of a list."""
    assert answer.status == 200
    found: list[Any] = json.loads(answer.body)["results"]
    return found


async def test_a_machine_user_gets_a_token_that_opens_the_api(simulator: ArenaSimulator) -> None:
    """Reference 2.2: a form, a token with its lifetime, and a bearer header afterwards; the token is free."""
    answer = await trade(simulator, workspace_id=str(simulator.workspace_id))
    given = json.loads(answer.body)
    opened = await call(simulator, "GET /extracts", Authorization=f"Bearer {given['access_token']}")

    assert (answer.status, given["token_type"], given["expires_in"]) == (200, "Bearer", 5399)
    assert len(rows(opened)) == 1
    assert simulator.remaining == 9999


@pytest.mark.parametrize(
    ("changed", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
async def test_a_wrong_client_is_refused_by_its_name(
    simulator: ArenaSimulator, changed: dict[str, str], status: int, error: str
) -> None:
    """RFC 6749, section 5.2."""
    answer = await trade(simulator, **changed)

    assert (answer.status, json.loads(answer.body)) == (status, {"error": error})


async def test_tokens_and_sessions_leave_each_other_alone(simulator: ArenaSimulator) -> None:
    """A login ends the user's sessions and no token; a token ends nothing."""
    first, second = [json.loads((await trade(simulator)).body)["access_token"] for _ in range(2)]
    body = json.dumps({"email": simulator.email, "password": simulator.password}).encode()
    login = await ask(f"{simulator.base_url}/login", "POST", headers=JSON, body=body)
    session = json.loads(login.body)["arenaSessionId"]
    await trade(simulator)

    for headers in (
        {"Authorization": f"Bearer {first}"},
        {"Authorization": f"Bearer {second}"},
        {"arena_session_id": session},
    ):
        assert (await call(simulator, "GET /extracts", **headers)).status == 200


async def test_a_token_ends_with_its_time_and_not_with_rest() -> None:
    """Unlike a session, which use prolongs."""
    at = [1_780_000_000.0]
    async with ArenaSimulator(files=1, clock=lambda: at[0], token_lifetime=600) as simulator:
        headers = {"Authorization": f"Bearer {json.loads((await trade(simulator)).body)['access_token']}"}
        at[0] += 599
        before = await call(simulator, "GET /extracts", **headers)
        at[0] += 1
        after = await call(simulator, "GET /extracts", **headers)

    assert (before.status, after.status) == (200, 401)


async def test_events_are_listed_by_whether_they_are_reconciled(simulator: ArenaSimulator) -> None:
    """Reference 11: true, false or any; the newest first, since no order is documented."""
    older, newer = simulator.add_event(age=60), simulator.add_event()
    older.settle(done=True, at=0.0)
    place = f"GET /outboundevents/{simulator.integration}/events"

    found = {
        word: [row["guid"] for row in rows(await call(simulator, f"{place}?resourcesReconciled={word}"))]
        for word in ("true", "false", "any")
    }

    assert found == {"true": [older.guid], "false": [newer.guid], "any": [newer.guid, older.guid]}
    assert (await call(simulator, f"{place}?reconciled=true")).code == 3019


async def test_a_whole_event_and_a_part_of_it_can_be_reconciled(simulator: ArenaSimulator) -> None:
    """A PUT on the event marks everything in it; when every part is marked, so is the event."""
    whole, parted = simulator.add_event(items=["A" * 20, "B" * 20]), simulator.add_event(items=["C" * 20])
    events = f"/outboundevents/{simulator.integration}/events"

    done = await call(simulator, f"PUT {events}/{whole.guid}", {"resourcesReconciled": True})
    part = await call(simulator, f"PUT {events}/{parted.guid}/items/{parted.resources[0].guid}", {"reconciled": True})
    left = await call(simulator, f"GET {events}/{whole.guid}/items?reconciled=false")

    assert (done.status, json.loads(done.body)["resourcesReconciled"], rows(left)) == (200, True, [])
    assert "reconciledDatetime" in json.loads(part.body)
    assert parted.reconciled
    assert (await call(simulator, f"GET {events}/{whole.guid}/orders")).status == 404


async def test_the_older_queue_gives_bare_guids(simulator: ArenaSimulator) -> None:
    """Without a word about it only those that are not reconciled."""
    event = simulator.add_event(items=["A" * 20, "B" * 20], integration=simulator.queue)
    event.resources[0].reconciled = True
    place = f"/outboundintegrations/{simulator.queue}/events/{event.guid}"

    assert rows(await call(simulator, f"GET {place}/itemguids")) == ["B" * 20]
    assert rows(await call(simulator, f"GET {place}/itemguids?reconciled=any")) == ["A" * 20, "B" * 20]
    assert rows(await call(simulator, f"GET {place}/itemguids?reconciled=true")) == ["A" * 20]
    done = await call(simulator, f"PUT {place}", {"itemsReconciled": True})
    assert json.loads(done.body)["itemsReconciled"] is True
    assert len(rows(await call(simulator, f"GET {place}/items?reconciled=true"))) == 2


async def test_items_show_as_much_as_is_asked_for(simulator: ArenaSimulator) -> None:
    """Reference 9: minimum, compact, full; two filters that exclude each other; criteria that are JSON."""
    item = next(iter(simulator.items.values()))
    item.attributes["N5O7Q9SYH0W5SPPVABCD"] = "matt"

    (minimum,) = rows(await call(simulator, "GET /items?responseview=minimum"))
    (maximum,) = rows(await call(simulator, "GET /items?responseview=full&N5O7Q9SYH0W5SPPVABCD=matt"))

    assert set(minimum) == {"guid", "number", "name"}
    assert maximum["additionalAttributes"][0]["value"] == "matt"
    assert rows(await call(simulator, "GET /items?N5O7Q9SYH0W5SPPVABCD=glossy")) == []
    assert (await call(simulator, "GET /items?assemblyType=ASSEMBLY&inAssembly=true")).code == 3851
    assert (await call(simulator, "GET /items?criteria=number")).code == 3003
