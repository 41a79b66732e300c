"""Outbound events: read as the pages show them, taken over oldest first, and reconciled only after that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from arena_scripts import QUOTA, error_reply, page_reply, payload
from fake_clock import FakeTime
from scripted import RawServer, Reply, Seen, json_reply, reply

from arena_async.errors import ApiError, ConfigurationError, DecodeError, ListingError, TransportError
from arena_async.options import Clock, PollPolicy
from arena_async.providers.arena import ArenaClient, EventResourceQuery, Item, OutboundEvent, items_by_guid
from arena_async.testing import ArenaSimulator

SERVICE_EVENTS = "/v1/outboundevents/O/events"


@pytest.fixture
async def service() -> AsyncIterator[ArenaSimulator]:
    """Yield a service with an integration of each generation."""
    async with ArenaSimulator(files=0) as service:
        yield service


def puts(service: ArenaSimulator) -> list[str]:
    """Return the guids of the events that were reconciled, in order."""
    return [seen.path.rpartition("/")[2] for seen in service.seen("PUT */events/*")]


# --- as the pages show them -------------------------------------------------------------------------------------------


async def test_pending_events_come_oldest_first_and_without_what_is_reconciled(
    server: RawServer, arena: ArenaClient
) -> None:
    """Reference 11: the service has no order of its own, and may ignore the filter."""
    server.on("GET", SERVICE_EVENTS, json_reply(payload("arena_outbound_events.json"), headers=QUOTA))

    found = await arena.events.pending("O")

    assert [event.guid for event in found] == ["2K4N6J4VILWWFYH0JYA9", "R9TCV8TK7ALL4N6P8NY5"]
    assert found[1].integration == "O"
    assert (found[1].event_type, found[1].status, found[1].reconciled) == ("OUTBOUND_EVENT", "NEEDS_UPDATE", False)
    assert found[1].creation_date_time == datetime(2021, 8, 28, 5, 36, 50, tzinfo=UTC)
    assert [(one.action, one.resource) for one in found[1].triggers] == [("WORKFLOW", "CHANGE")]
    assert server.lines("GET *") == [f"GET {SERVICE_EVENTS}?resourcesReconciled=false&offset=0&limit=400"]


async def test_a_whole_event_is_reconciled_in_one_request(server: RawServer, arena: ArenaClient) -> None:
    """Reference 11: one PUT, however much is in it."""
    event = OutboundEvent(guid="R9TCV8TK7ALL4N6P8NY5", integration="O")
    server.on("PUT", f"{SERVICE_EVENTS}/*", json_reply({"guid": event.guid, "resourcesReconciled": True}))

    done = await arena.events.reconcile(event)

    assert (done.reconciled, done.integration) == (True, "O")
    (sent,) = [seen for seen in server.requests if seen.method == "PUT"]
    assert (sent.path, sent.body) == (f"{SERVICE_EVENTS}/R9TCV8TK7ALL4N6P8NY5", b'{"resourcesReconciled": true}')


async def test_what_an_event_is_about_is_read_in_both_spellings(server: RawServer, arena: ArenaClient) -> None:
    """A list of events before and after, or one of each; a time with a lower-case t."""
    event = OutboundEvent(guid="E", integration="O")
    server.on("GET", f"{SERVICE_EVENTS}/E/items", json_reply(payload("arena_outbound_event_items.json"), headers=QUOTA))

    one, other = await arena.events.resources(
        event, query=EventResourceQuery(reconciled=False, reconciled_from=datetime(2021, 1, 1, tzinfo=UTC))
    ).collect()

    assert one.item == Item(guid="DVFYHUF6TWFN6KA8FX5O")
    assert (one.post_events, one.pre_events) == ([{"guid": "DVFYHUF6TWFN6KA8FX5O"}], [])
    assert other.post_events == {"guid": "I0K3MZKBY1KSBP7DYNR7"}
    assert other.reconciled_date_time == datetime(2021, 9, 10, 23, 58, 21, tzinfo=UTC)
    assert server.requests[-1].query == (
        "reconciled=false&reconciledDateTimeFrom=2021-01-01T00%3A00%3A00Z&offset=0&limit=400"
    )


async def test_events_of_the_older_queue_are_read_alike(server: RawServer, arena: ArenaClient) -> None:
    """Other paths, another word for being done, and the guids of all items at once."""
    server.on("GET", "/v1/outboundintegrations/Q/events", json_reply(payload("arena_queue_events.json")))
    server.on(
        "GET", "/v1/outboundintegrations/Q/events/*/itemguids", json_reply(payload("arena_queue_item_guids.json"))
    )
    server.on("PUT", "/v1/outboundintegrations/Q/events/*", json_reply({"guid": "E", "itemsReconciled": True}))

    first, second = await arena.event_queue.pending("Q")
    guids = await arena.event_queue.item_guids(second)
    done = await arena.event_queue.reconcile(second)

    assert [first.guid, second.guid] == ["4M6P8L6XKNY4N5LLP1T3", "1J3M5I3UHKV1K2IIMYQ7"]
    assert second.change is not None
    assert second.change.number == "ECO-000022"
    assert guids == ["N5P8R4PG36PXGY8R3VYR", "8QATCPA1ORAI1JTCOGIQ", "SAUDW9UL8BU2L3DW8029"]
    assert items_by_guid(guids).as_json()
    assert done.reconciled
    assert server.lines("* /v1/outbound*") == [
        "GET /v1/outboundintegrations/Q/events?itemsReconciled=false&offset=0&limit=400",
        "GET /v1/outboundintegrations/Q/events/1J3M5I3UHKV1K2IIMYQ7/itemguids?reconciled=any",
        "PUT /v1/outboundintegrations/Q/events/1J3M5I3UHKV1K2IIMYQ7",
    ]
    assert server.requests[-1].body == b'{"itemsReconciled": true}'


@pytest.mark.parametrize("answer", [{"count": 0, "results": None}, {"count": 0}, [], {"Results": []}])
async def test_an_event_without_items_has_no_guids(server: RawServer, arena: ArenaClient, answer: Any) -> None:
    """In whatever way the service says it."""
    server.on("GET", "/v1/outboundintegrations/Q/events/E/itemguids", json_reply(answer))

    assert await arena.event_queue.item_guids(OutboundEvent(guid="E", integration="Q"), reconciled=False) == []


@pytest.mark.parametrize("answer", [{"results": [1]}, {"results": {"guid": "x"}}, {"errors": []}, "x", 5])
async def test_what_is_no_list_of_guids_is_a_decode_error(server: RawServer, arena: ArenaClient, answer: Any) -> None:
    """Nothing is guessed."""
    server.on("GET", "/v1/outboundintegrations/Q/events/E/itemguids", json_reply(answer))

    with pytest.raises(DecodeError):
        await arena.event_queue.item_guids(OutboundEvent(guid="E", integration="Q"))


async def test_an_event_that_does_not_say_where_it_is_from_is_refused(server: RawServer, arena: ArenaClient) -> None:
    """Before anything is sent."""
    for ask in (
        arena.events.reconcile(OutboundEvent(guid="E")),
        arena.event_queue.item_guids(OutboundEvent(guid="E")),
    ):
        with pytest.raises(ConfigurationError, match="has no integration"):
            await ask

    assert server.requests == []


async def test_integrations_and_their_triggers_can_be_looked_up(service: ArenaSimulator) -> None:
    """Of both generations, by name."""
    async with service.client() as arena:
        (found,) = await arena.events.search("Outbound*", enabled=True).collect()
        (queue,) = await arena.event_queue.search().collect()
        one = await arena.events.get(found.guid)
        (trigger,) = await arena.events.triggers(found.guid).collect()

    assert (found.guid, found.enabled, queue.guid, queue.enabled) == (service.integration, True, service.queue, True)
    assert one == found
    assert (trigger.action, trigger.resource) == ("WORKFLOW", "ITEM")


async def test_one_thing_of_an_event_can_be_taken_over_alone(service: ArenaSimulator) -> None:
    """When all are, the event is."""
    made = service.add_event(items=["AAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBB"])
    async with service.client() as arena:
        (event,) = await arena.events.pending(service.integration)
        first, second = await arena.events.resources(event).collect()
        done = await arena.events.reconcile_resource(event, "items", first.guid)
        left = await arena.events.resources(event, query=EventResourceQuery(reconciled=False)).collect()
        await arena.events.reconcile_resource(event, "items", second.guid)
        after = await arena.events.event(service.integration, event.guid)
        again = await arena.events.resource(event, "items", second.guid)

    assert (done.reconciled, [one.guid for one in left], again.reconciled) == (True, [second.guid], True)
    assert (after.reconciled, made.reconciled) == (True, True)


async def test_the_cheap_loop_of_the_queue_costs_one_list_and_two_requests_for_each_event(
    service: ArenaSimulator,
) -> None:
    """Reference 11: the events, the item guids of each, and one PUT of each."""
    for age in (10, 20, 30):
        service.add_event(items=["AAAAAAAAAAAAAAAAAAAA"] * 5, integration=service.queue, age=age)
    async with service.client() as arena:
        for event in await arena.event_queue.pending(service.queue):
            assert len(await arena.event_queue.item_guids(event)) == 5
            await arena.event_queue.reconcile(event)
        assert arena.session.requests_sent == 1 + 3 * 2
        assert await arena.event_queue.pending(service.queue) == []
        (items,) = [event async for event in arena.event_queue.every(service.queue, limit=1)][:1]
        assert len(await arena.event_queue.items(items, reconciled=True).collect()) == 5


# --- watching ---------------------------------------------------------------------------------------------------------

QUICK = PollPolicy(every=5, max_interval=60, timeout=600)


async def test_events_are_reconciled_one_by_one_after_their_blocks(service: ArenaSimulator) -> None:
    """Oldest first; while a block runs its event is still pending at the service."""
    made = [service.add_event(age=age) for age in (10, 30, 20)]
    clock, order = FakeTime(), []
    async with service.client(clock=Clock(monotonic=clock, sleep=clock.sleep)) as arena:
        async for pending in arena.events.watch(service.integration, poll=QUICK):
            async with pending as event:
                assert event.guid not in puts(service)
                order.append(event.guid)
            assert puts(service)[-1] == event.guid
            assert pending.event == event

    assert order == [made[1].guid, made[2].guid, made[0].guid] == puts(service)
    assert [event.reconciled for event in made] == [True] * 3


async def take_over(arena: ArenaClient, integration: str, act: Callable[[], Awaitable[object]]) -> None:
    """Do something in the block of every event."""
    async for pending in arena.events.watch(integration, poll=QUICK):
        async with pending:
            await act()


async def nothing() -> None:
    """Take an event over without any work."""


async def failing() -> None:
    """Fail in the middle of it."""
    raise ZeroDivisionError


async def test_an_event_whose_block_fails_stays_pending(service: ArenaSimulator) -> None:
    """The error leaves the loop unchanged, and nothing is reconciled."""
    made = service.add_event()
    async with service.client() as arena:
        with pytest.raises(ZeroDivisionError):
            await take_over(arena, service.integration, failing)

    assert (puts(service), made.reconciled) == ([], False)


async def test_an_event_that_was_left_pending_is_offered_again_after_a_while(service: ArenaSimulator) -> None:
    """Not at once: one bad event must not spend the allowance of the day. The others go on meanwhile."""
    bad, good = service.add_event(age=20), service.add_event(age=10)
    clock = FakeTime()
    seen: list[tuple[str, float]] = []
    async with service.client(clock=Clock(monotonic=clock, sleep=clock.sleep)) as arena:
        async for pending in arena.events.watch(service.integration, poll=QUICK):
            seen.append((pending.event.guid, clock.at))
            try:
                async with pending as event:
                    if event.guid == bad.guid and len(seen) < 4:
                        raise ValueError
            except ValueError:
                continue
        looks = len(service.seen("GET */events"))

    assert [guid for guid, _ in seen] == [bad.guid, good.guid, bad.guid, bad.guid]
    assert all(later - earlier >= 60 for (_, earlier), (_, later) in pairwise(seen[1:]))
    assert puts(service) == [good.guid, bad.guid]
    # Twice a minute until it is offered again, and 600 seconds without any event, each begun by a look of its own.
    assert looks <= 2 * (QUICK.max_polls(60) + 1) + QUICK.max_polls() + 1


async def test_an_event_whose_block_is_not_entered_is_not_reconciled(service: ArenaSimulator) -> None:
    """Looking at it is not taking it over."""
    service.add_event()
    async with service.client() as arena:
        async for pending in arena.events.watch(service.integration, poll=QUICK):
            assert pending.event.guid
            break

    assert puts(service) == []


async def test_a_watch_without_events_costs_what_its_policy_says_and_ends(service: ArenaSimulator) -> None:
    """The intervals widen; after the time without any event the loop is over."""
    clock = FakeTime()
    async with service.client(clock=Clock(monotonic=clock, sleep=clock.sleep)) as arena:
        began = clock.at
        found = [pending async for pending in arena.events.watch(service.integration, poll=QUICK)]

    assert found == []
    assert len(service.seen("GET */events")) <= QUICK.max_polls()
    assert clock.naps[:3] == [5.0, 7.5, 11.25]
    assert max(clock.naps) == 60
    assert clock.at == began + 600


async def test_an_event_that_comes_later_is_found(service: ArenaSimulator) -> None:
    """And starts the short intervals anew."""
    clock = FakeTime()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        if len(clock.naps) == 6:
            service.add_event()

    async with service.client(clock=Clock(monotonic=clock, sleep=sleep)) as arena:
        async for pending in arena.events.watch(service.integration, poll=QUICK):
            async with pending:
                pass

    assert len(puts(service)) == 1
    assert clock.naps[6:9] == [5.0, 5.0, 7.5]


async def test_a_watch_of_a_list_that_is_not_whole_returns_what_was_received_first(
    server: RawServer, arena: ArenaClient
) -> None:
    """One of two events that are counted is never listed: the other one is processed, then that is an error."""
    listed = {"count": 2, "results": [{"guid": "E1", "resourcesReconciled": False}]}

    def answer(seen: Seen) -> Reply:
        return json_reply(listed if "offset=0" in seen.query else {"count": 2, "results": None})

    server.on("GET", SERVICE_EVENTS, answer)
    server.on("PUT", f"{SERVICE_EVENTS}/E1", json_reply({"guid": "E1", "resourcesReconciled": True}))
    watch = arena.events.watch("O", poll=PollPolicy(every=0.001, max_interval=60))

    async with await anext(watch) as event:
        assert event.guid == "E1"
    with pytest.raises(ListingError, match="is empty, of 2 rows"):
        await anext(watch)
    with pytest.raises(ListingError):
        await arena.events.pending("O")


async def test_leaving_a_watch_leaves_nothing_running(service: ArenaSimulator) -> None:
    """It holds no task, wherever it is left."""
    for _ in range(3):
        service.add_event()
    async with service.client() as arena:
        async for pending in arena.events.watch(service.integration, poll=QUICK):
            async with pending:
                break
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if "arena_async" in task.get_name()]

    assert len(puts(service)) == 1  # A block that is left by break has ended without an error.


async def test_a_watch_can_be_cancelled_in_the_middle_of_a_block(service: ArenaSimulator) -> None:
    """Then the event stays pending."""
    service.add_event()
    inside = asyncio.Event()

    async def hang() -> None:
        inside.set()
        await asyncio.Event().wait()

    async with service.client() as arena:
        task = asyncio.create_task(take_over(arena, service.integration, hang))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert puts(service) == []


@pytest.mark.parametrize(
    ("answer", "expected"), [(error_reply("arena_error_3024.json"), ApiError), (reply(mute=True), TransportError)]
)
async def test_a_reconciliation_that_fails_is_the_error_of_its_block_and_is_not_sent_twice(
    server: RawServer, arena: ArenaClient, answer: Reply, expected: type[Exception]
) -> None:
    """Refused, or heard without an answer: the next watch will tell."""
    server.on("GET", SERVICE_EVENTS, page_reply({"guid": "E", "resourcesReconciled": False}))
    server.on("PUT", f"{SERVICE_EVENTS}/E", answer)
    with pytest.raises(expected):
        await take_over(arena, "O", nothing)

    assert len(server.lines("PUT */E")) == 1
