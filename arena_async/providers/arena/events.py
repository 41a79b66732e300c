"""
Outbound events: changes that wait until another system has read and reconciled them.

::

    async for pending in arena.events.watch(integration):       oldest first; polls at growing intervals
        async with pending as event:
            await process(event)                                an error leaves the event pending
        #                                                       here it is reconciled by one request

The service pushes nothing. There are two generations: the event engine (:class:`Events`) and the older event queue
(:class:`EventQueue`), which returns the guids of all items of an event at once. Both are read in the same way.
"""

from __future__ import annotations

import logging
from collections import deque
from datetime import UTC, datetime
from typing import Any, Literal, Self

import attrs

from arena_async.errors import ConfigurationError, DeadlineError, DecodeError, ListingError, NotAsRequestedError
from arena_async.http.paginator import ListQuery, Paginator
from arena_async.http.polling import Polled, wait_until
from arena_async.http.session import Session, read_json, request_object
from arena_async.options import Clock, PollPolicy
from arena_async.protocol.decoding import decode, wire
from arena_async.protocol.messages import join_path, printable
from arena_async.providers.arena.adapter import LIST, read_count
from arena_async.providers.arena.api import get_object, make_request, paginate
from arena_async.providers.arena.models import ArenaModel, ArenaRecord, Change, Item, User
from arena_async.providers.arena.queries import EventResourceQuery, write_query

__all__ = [
    "EventIntegration",
    "EventQueue",
    "EventResource",
    "EventTrigger",
    "Events",
    "OutboundEvent",
    "PendingEvent",
    "ResourceKind",
    "Watch",
]

_log = logging.getLogger("arena_async")

#: What an event may be about, in the vendor's words.
ResourceKind = Literal["items", "changes", "requests", "qualityprocesses"]


@attrs.frozen(kw_only=True)
class EventIntegration(ArenaRecord):
    """An integration that collects events for another system, of either generation."""

    name: str | None = None
    # The older queue, and one page of the newer engine, have "enable".
    enabled: bool | None = wire("enabled", "enable")
    status: str | None = None
    type: str | None = None
    transfer_type: str | None = None
    modify_user: User | None = None
    last_modified_date_time: datetime | None = None


@attrs.frozen(kw_only=True)
class EventTrigger(ArenaModel):
    """
    The trigger of an event.

    ``action`` is ``CREATE``, ``EDIT`` or ``WORKFLOW``; ``resource`` is ``ITEM``, ``REQUEST``, ``CHANGE`` or
    ``QUALITY``.
    """

    guid: str
    name: str | None = None
    description: str | None = None
    action: str | None = None
    resource: str | None = None


@attrs.frozen(kw_only=True)
class OutboundEvent(ArenaRecord):
    """
    A change that waits until another system has processed it.

    ``integration`` is the guid of the integration it was read from. ``change`` is what an event of the older queue is
    about.
    """

    integration: str = ""
    event_type: str | None = None
    status: str | None = None
    #: Whether all of it was processed; each generation has a key of its own for that.
    reconciled: bool | None = wire("resourcesReconciled", "itemsReconciled", "reconciled")
    triggers: tuple[EventTrigger, ...] = ()
    change: Change | None = None


@attrs.frozen(kw_only=True)
class EventResource(ArenaModel):
    """
    A resource of an event; the field depends on the kind.

    ``pre_events`` and ``post_events`` are its states before and after, as they were received: a list, or one object.
    """

    guid: str
    reconciled: bool | None = None
    # The newer engine has a lower-case t.
    reconciled_date_time: datetime | None = wire("reconciledDatetime", "reconciledDateTime")
    reconciled_user: User | None = None
    item: Item | None = wire("item", "effectiveItemRevision")
    superseded_item: Item | None = wire("supersededItemRevision")
    change: Change | None = None
    request: Any = attrs.field(default=None, hash=False)
    quality_process: Any = attrs.field(default=None, hash=False)
    pre_events: Any = wire("preEvents", "preEvent", hashed=False)
    post_events: Any = wire("postEvents", "postEvent", hashed=False)


@attrs.frozen
class _EventSource:
    """
    The methods of both generations.

    Args:
        session: The session.
        timing: The clock.
    """

    session: Session = attrs.field(repr=False)
    timing: Clock = attrs.field(factory=Clock, repr=False)
    #: Where the integrations of this generation are, and what it calls an event that was processed completely.
    _root = "/outboundevents"
    _flag = "resourcesReconciled"

    def search(
        self, name: str | None = None, *, enabled: bool | None = None, offset: int = 0, limit: int | None = None
    ) -> Paginator[EventIntegration]:
        """
        Return the integrations that collect events. One request for each 400.

        Args:
            name: Only this name; a trailing ``*`` finds what starts with it.
            enabled: Only those that are, or are not, enabled.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        query = {"name": name, "enabled": enabled}
        return paginate(self.session, EventIntegration, self._root, query, offset=offset, limit=limit)

    def every(
        self, integration: str, *, reconciled: bool | None = None, offset: int = 0, limit: int | None = None
    ) -> Paginator[OutboundEvent]:
        """
        Return the events of an integration, in the order of the service. One request for each 400.

        Args:
            integration: The integration.
            reconciled: Only those that are, or are not, reconciled; None for both.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        query = {self._flag: "any" if reconciled is None else reconciled}
        request = make_request("GET", self._path(integration, "/events"), query)

        def read(row: Any) -> OutboundEvent:
            return attrs.evolve(decode(row, OutboundEvent, request=request.line), integration=integration)

        return Paginator(self.session, ListQuery(request, LIST, read), limit=limit, start=offset)

    async def pending(self, integration: str) -> list[OutboundEvent]:
        """Return the events that are not reconciled, the oldest first. One request for each 400."""
        found, failure = await _known_pending(self, integration)
        if failure is not None:
            raise failure
        return found

    async def event(self, integration: str, guid: str) -> OutboundEvent:
        """Return one event. One request."""
        path = self._path(integration, "/events/{event}", event=guid)
        return attrs.evolve(await get_object(self.session, OutboundEvent, path), integration=integration)

    async def reconcile(self, event: OutboundEvent) -> OutboundEvent:
        """
        Mark an event, and everything in it, as processed. One request, however much is in it.

        The user has to be an administrator of the integration. An event that the response does not say to be reconciled
        is looked at once more, which is another request.

        Raises:
            ConfigurationError: The event has no integration.
            NotAsRequestedError: The service shows it as pending; reconciling it again does no harm.
        """
        request = make_request("PUT", self._event_path(event), json={self._flag: True})
        found = await request_object(self.session, request, OutboundEvent)
        if found.reconciled is None:
            found = await self.event(event.integration, event.guid)
        _check_reconciled(found)
        return attrs.evolve(found, integration=event.integration)

    def watch(self, integration: str, *, poll: PollPolicy | None = None) -> Watch:
        """
        Return the events of an integration as they appear, the oldest first, until there was none for ``poll.timeout``.

        An event is reconciled when its block has ended without an error. One that is left pending, by an error or
        because its block was never entered, is returned again after ``poll.max_interval`` seconds; so is one whose
        reconciliation the service has lost. Processing an event twice must do no harm.

        Nothing runs beside the loop: leave it at any time. Without events it costs at most
        :meth:`PollPolicy.max_polls` requests; with events, one for each poll and one for each event.

        Args:
            integration: The integration.
            poll: How often to poll, and how long to continue without any event; None for the default policy.
        """
        return Watch(self, integration, poll or PollPolicy())

    def _path(self, integration: str, rest: str = "", **identifiers: str) -> str:
        """Return a path below an integration."""
        return join_path(f"{self._root}/{{integration}}{rest}", integration=integration, **identifiers)

    def _event_path(self, event: OutboundEvent, rest: str = "", **identifiers: str) -> str:
        """
        Return a path below an event.

        Raises:
            ConfigurationError: The event has no integration.
        """
        if not event.integration:
            raise ConfigurationError(
                f"Event {printable(event.guid)} has no integration; take it from events.pending(), "
                "events.every() or events.event()."
            )
        return self._path(event.integration, "/events/{event}" + rest, event=event.guid, **identifiers)


async def _known_pending(source: _EventSource, integration: str) -> tuple[list[OutboundEvent], ListingError | None]:
    """Return those that were received, the oldest first, and the error if there may be more."""
    found: list[OutboundEvent] = []
    failure: ListingError | None = None
    try:
        async for event in source.every(integration, reconciled=False):
            found += [] if event.reconciled else [event]
    except ListingError as error:
        failure = error
    # One without a time comes first, so that it is not postponed forever.
    found.sort(key=lambda event: event.creation_date_time or datetime.min.replace(tzinfo=UTC))
    return found, failure


@attrs.frozen
class Events(_EventSource):
    """
    Outbound events of items, changes, requests and quality processes: the event engine.

    Everything here raises :class:`~arena_async.errors.ApiError` where the service responds with an error,
    :class:`~arena_async.errors.DecodeError` where its response is not as documented, and
    :class:`~arena_async.errors.ConfigurationError` for a guid that cannot be sent.
    """

    async def get(self, integration: str) -> EventIntegration:
        """Return one integration. One request."""
        return await get_object(self.session, EventIntegration, self._path(integration))

    def triggers(self, integration: str, *, offset: int = 0, limit: int | None = None) -> Paginator[EventTrigger]:
        """Return the triggers of an integration. One request for each 400."""
        path = self._path(integration, "/triggers")
        return paginate(self.session, EventTrigger, path, offset=offset, limit=limit)

    def resources(
        self,
        event: OutboundEvent,
        kind: ResourceKind = "items",
        query: EventResourceQuery | None = None,
        *,
        offset: int = 0,
        limit: int | None = None,
    ) -> Paginator[EventResource]:
        """
        Return the resources of an event. One request for each 400.

        Args:
            event: The event.
            kind: ``items``, ``changes``, ``requests`` or ``qualityprocesses``.
            query: Only these.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        path = self._event_path(event, "/{kind}", kind=kind)
        return paginate(self.session, EventResource, path, write_query(query), offset=offset, limit=limit)

    async def resource(self, event: OutboundEvent, kind: ResourceKind, guid: str) -> EventResource:
        """Return one resource of an event. One request."""
        path = self._event_path(event, "/{kind}/{resource}", kind=kind, resource=guid)
        return await get_object(self.session, EventResource, path)

    async def reconcile_resource(self, event: OutboundEvent, kind: ResourceKind, guid: str) -> EventResource:
        """
        Mark one resource of an event as processed. One request; :meth:`reconcile` takes one for all.

        Raises:
            NotAsRequestedError: The service shows it as pending; reconciling it again does no harm.
        """
        path = self._event_path(event, "/{kind}/{resource}", kind=kind, resource=guid)
        found = await request_object(self.session, make_request("PUT", path, json={"reconciled": True}), EventResource)
        if found.reconciled is None:
            found = await self.resource(event, kind, guid)
        _check_reconciled(found)
        return found


@attrs.frozen
class EventQueue(_EventSource):
    """
    Outbound events of changes and item revisions: the older event queue.

    Everything here raises :class:`~arena_async.errors.ApiError` where the service responds with an error,
    :class:`~arena_async.errors.DecodeError` where its response is not as documented, and
    :class:`~arena_async.errors.ConfigurationError` for a guid that cannot be sent.
    """

    _root = "/outboundintegrations"
    _flag = "itemsReconciled"

    def items(
        self, event: OutboundEvent, *, reconciled: bool | None = None, offset: int = 0, limit: int | None = None
    ) -> Paginator[EventResource]:
        """
        Return the items of an event. One request for each 400.

        Args:
            event: The event.
            reconciled: Only those that are, or are not, reconciled; None for both.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        query = {"reconciled": "any" if reconciled is None else reconciled}
        path = self._event_path(event, "/items")
        return paginate(self.session, EventResource, path, query, offset=offset, limit=limit)

    async def item_guids(self, event: OutboundEvent, *, reconciled: bool | None = None) -> list[str]:
        """
        Return the guids of all item revisions of an event at once, for one export of them all. One request.

        Args:
            event: The event.
            reconciled: Only those that are, or are not, reconciled; None for both.
        """
        query = {"reconciled": "any" if reconciled is None else reconciled}
        request = make_request("GET", self._event_path(event, "/itemguids"), query)
        return _read_guids(await read_json(await self.session.send(request)), request.line)


def _check_reconciled(found: OutboundEvent | EventResource) -> None:
    """Raise if the service shows an object as pending; a release that does not say is believed."""
    if found.reconciled is False:
        raise NotAsRequestedError(
            f"Event {printable(found.guid)} was to be reconciled, and the service shows it as pending. Reconcile it "
            "again.",
            result=found,
        )


def _read_guids(payload: Any, request: str) -> list[str]:
    """Read a list of bare guids."""
    rows = payload.get("results", payload.get("Results")) if isinstance(payload, dict) else payload
    if rows is None and isinstance(payload, dict) and "errors" not in payload:
        rows = []
    if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
        raise DecodeError(
            f"{request}: the response is no list of guids. The service may have changed; report the endpoint.",
            problems=("$.results: no array of text where one was expected",),
            request=request,
        )
    count = read_count(payload.get("count")) if isinstance(payload, dict) else None
    if count not in (None, len(rows)):
        raise ListingError(
            f"{request}: the response has {len(rows)} of {count} guids. The list is not known to be whole; list again.",
            request=request,
        )
    return rows


@attrs.define(eq=False)
class Watch:
    """
    The events of an integration as they appear: an async iterator that keeps nothing open.

    Args:
        source: The events of one generation.
        integration: The integration.
        policy: How often to poll.
    """

    _source: _EventSource
    _integration: str
    _policy: PollPolicy
    _due: deque[OutboundEvent] = attrs.field(init=False, factory=deque)
    _again_at: dict[str, float] = attrs.field(init=False, factory=dict)
    _polled: bool = attrs.field(init=False, default=False)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PendingEvent:
        if not self._due:
            try:
                await self._wait()
            except DeadlineError:
                raise StopAsyncIteration from None
        event = self._due.popleft()
        self._again_at[event.guid] = self._source.timing.monotonic() + self._policy.max_interval
        return PendingEvent(event, self._source)

    async def _wait(self) -> None:
        """Poll until an event is due, at the intervals of the policy."""
        clock = self._source.timing
        if self._polled:
            await clock.sleep(self._policy.every)
        self._polled = True
        polled = Polled[Any](what=f"integration {printable(self._integration)}")
        self._due.extend(await wait_until(self._find_due, bool, self._policy, clock=clock, polled=polled))

    async def _find_due(self) -> list[OutboundEvent]:
        """
        Return the pending events that were not returned a short while ago.

        Raises:
            ListingError: None of those that were received is due, and there may be more.
        """
        pending, failure = await _known_pending(self._source, self._integration)
        if failure is None:
            guids = {event.guid for event in pending}
            self._again_at = {guid: at for guid, at in self._again_at.items() if guid in guids}
        now = self._source.timing.monotonic()
        due = [event for event in pending if self._again_at.get(event.guid, now) <= now]
        if failure is not None and not due:
            raise failure
        return due


@attrs.frozen(eq=False, repr=False)
class PendingEvent:
    """
    A pending event: an async context manager that reconciles it when its block ends without an error.

    Args:
        event: The event, also before the block is entered.
        source: Reconciles it.
    """

    event: OutboundEvent
    _source: _EventSource

    def __repr__(self) -> str:
        return f"<PendingEvent {self.event.guid}>"

    async def __aenter__(self) -> OutboundEvent:
        return self.event

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            await self._source.reconcile(self.event)
        else:
            _log.info("Event %s stays pending: %s.", printable(self.event.guid), type(error).__name__)
