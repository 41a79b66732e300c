"""Outbound events of the simulated Arena, of both generations."""

from __future__ import annotations

from arena_async.testing.arena.access import Handler
from arena_async.testing.arena.definitions import EventIntegration, OutboundEvent, OutboundResource
from arena_async.testing.arena.lists import Lists
from arena_async.testing.arena.queries import (
    error_reply,
    find,
    match_flag,
    match_span,
    match_text,
    newest_first,
    read_object,
)
from arena_async.testing.arena.records import User
from arena_async.testing.replies import Call, Reply

__all__ = ["EventEndpoints"]

_RESOURCE_KINDS = ("items", "changes", "requests", "qualityprocesses")


class EventEndpoints(Lists):
    """The endpoints of outbound events, of both generations."""

    def _event_handlers(self) -> dict[str, Handler]:
        """Return the endpoints by method and path."""
        return {
            "GET /outboundevents": self._integrations,
            "GET /outboundevents/{integration}": self._integration,
            "GET /outboundevents/{integration}/triggers": self._triggers,
            "GET /outboundevents/{integration}/events": self._events,
            "GET /outboundevents/{integration}/events/{event}": self._one_event,
            "PUT /outboundevents/{integration}/events/{event}": self._settle_event,
            "GET /outboundevents/{integration}/events/{event}/{kind}": self._resources,
            "GET /outboundevents/{integration}/events/{event}/{kind}/{resource}": self._resource,
            "PUT /outboundevents/{integration}/events/{event}/{kind}/{resource}": self._settle_resource,
            "GET /outboundintegrations": self._queues,
            "GET /outboundintegrations/{queue}/events": self._queue_events,
            "GET /outboundintegrations/{queue}/events/{event}": self._queue_event,
            "PUT /outboundintegrations/{queue}/events/{event}": self._settle_queue_event,
            "GET /outboundintegrations/{queue}/events/{event}/items": self._queue_items,
            "GET /outboundintegrations/{queue}/events/{event}/itemguids": self._queue_item_guids,
        }

    def _integrations(self, call: Call, _user: User) -> Reply:
        by = {"name": match_text(lambda one: one.name), "enabled": match_flag(lambda one: one.enabled)}
        return self._list(call, list(self.integrations.values()), EventIntegration.as_json, by=by)

    def _integration(self, call: Call, _user: User) -> Reply:
        return Reply.json(find(call, "integration", self.integrations).as_json())

    def _triggers(self, call: Call, _user: User) -> Reply:
        find(call, "integration", self.integrations)
        rows = [{"action": "WORKFLOW", "guid": "M4O7Q3OF25GDWFYH0JPT", "name": "Release", "resource": "ITEM"}]
        return self._list(call, rows, dict)

    def _events(self, call: Call, _user: User) -> Reply:
        """List events, the newest first."""
        rows = newest_first(find(call, "integration", self.integrations).events)
        by = {"resourcesReconciled": match_flag(lambda one: one.reconciled)}
        return self._list(call, rows, OutboundEvent.as_json, by=by, also=("order",))

    def _event(self, call: Call) -> OutboundEvent:
        owner = find(call, "integration", self.integrations)
        return find(call, "event", {one.guid: one for one in owner.events})

    def _one_event(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._event(call).as_json())

    def _settle_event(self, call: Call, _user: User) -> Reply:
        event = self._event(call)
        event.settle(done=read_object(call).get("resourcesReconciled") is True, at=self._past(0))
        return Reply.json(event.as_json())

    def _resources(self, call: Call, _user: User) -> Reply:
        event, kind = self._event(call), call.vars["kind"]
        if kind not in _RESOURCE_KINDS:
            raise error_reply(404, 404, "There is nothing here.")
        rows = [one for one in event.resources if one.kind == kind]
        by = {
            "reconciled": match_flag(lambda one: one.reconciled),
            **match_span("reconciledDateTime", lambda one: one.reconciled_at, inclusive=True),
        }
        return self._list(call, rows, OutboundResource.as_json, by=by)

    def _resource_of(self, call: Call) -> OutboundResource:
        event = self._event(call)
        kind = call.vars["kind"]
        return find(call, "resource", {one.guid: one for one in event.resources if one.kind == kind})

    def _resource(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._resource_of(call).as_json())

    def _settle_resource(self, call: Call, _user: User) -> Reply:
        resource = self._resource_of(call)
        resource.reconciled = read_object(call).get("reconciled") is True
        resource.reconciled_at = self._past(0) if resource.reconciled else None
        self._event(call).note()
        return Reply.json(resource.as_json())

    def _queues(self, call: Call, _user: User) -> Reply:
        by = {"name": match_text(lambda one: one.name), "enabled": match_flag(lambda one: one.enabled)}
        return self._list(call, list(self.queues.values()), EventIntegration.as_queue_json, by=by)

    def _queue_events(self, call: Call, _user: User) -> Reply:
        rows = newest_first(find(call, "queue", self.queues).events)
        by = {
            "itemsReconciled": match_flag(lambda one: one.reconciled),
            **match_span("creationDateTime", lambda one: one.created, inclusive=True),
        }
        return self._list(call, rows, OutboundEvent.as_queue_json, by=by)

    def _queued(self, call: Call) -> OutboundEvent:
        owner = find(call, "queue", self.queues)
        return find(call, "event", {one.guid: one for one in owner.events})

    def _queue_event(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._queued(call).as_queue_json())

    def _settle_queue_event(self, call: Call, _user: User) -> Reply:
        event = self._queued(call)
        event.settle(done=read_object(call).get("itemsReconciled") is True, at=self._past(0))
        return Reply.json(event.as_queue_json())

    def _queue_items(self, call: Call, _user: User) -> Reply:
        by = {"reconciled": match_flag(lambda one: one.reconciled)}
        return self._list(call, self._queued(call).resources, OutboundResource.as_queue_json, by=by)

    def _queue_item_guids(self, call: Call, _user: User) -> Reply:
        """Return guids without paging; by default those that are not reconciled."""
        wanted = call.query.get("reconciled", "false").lower()
        rows = [one.about for one in self._queued(call).resources if wanted in ("any", str(one.reconciled).lower())]
        return Reply.json({"count": len(rows), "results": rows})
