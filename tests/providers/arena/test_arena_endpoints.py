"""The page of endpoints: it lists the vendor's groups completely, and each call sends what the page says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from endpoint_table import Endpoint, match, read_page

from arena_async.options import PollPolicy, TransferOptions
from arena_async.protocol.files import FileSet
from arena_async.providers.arena import (
    ITEM,
    ArenaClient,
    ArenaMachineCredentials,
    ExportOptions,
    OutboundEvent,
    all_of,
)
from arena_async.testing import ArenaSimulator
from arena_async.transfer.downloader import Downloader

ROUTES = read_page()

#: The groups that are listed completely: every endpoint of the vendor's pages is declared, supported or not.
COMPLETE = {
    "Access": {("POST", "/login"), ("PUT", "/logout"), ("POST", "/oauth2/token")},
    "Data Extract": {
        ("GET", "/extracts"),
        ("POST", "/extracts"),
        ("GET", "/extracts/{}"),
        ("PUT", "/extracts/{}"),
        ("DELETE", "/extracts/{}"),
        ("GET", "/extracts/{}/ownerusers"),
        ("GET", "/extracts/{}/ownerusers/{}"),
        ("GET", "/extracts/{}/runs"),
        ("POST", "/extracts/{}/runs"),
        ("GET", "/extracts/{}/runs/latestCompleted"),
        ("GET", "/extracts/{}/runs/{}"),
        ("GET", "/extracts/{}/runs/{}/files"),
        ("GET", "/extracts/{}/runs/{}/files/{}"),
        ("GET", "/extracts/{}/runs/{}/files/{}/content"),
    },
    "Export": {
        ("GET", "/exports"),
        ("POST", "/exports"),
        ("GET", "/exports/{}"),
        ("GET", "/exports/{}/runs"),
        ("POST", "/exports/{}/runs"),
        ("GET", "/exports/{}/runs/latestCompleted"),
        ("GET", "/exports/{}/runs/{}"),
        ("GET", "/exports/{}/runs/{}/files/{}"),
        ("GET", "/exports/{}/runs/{}/files/{}/content"),
        ("GET", "/settings/exports/attributes"),
        ("GET", "/settings/export/attributes"),
    },
    "Import Engine": {
        ("GET", "/imports"),
        ("POST", "/imports"),
        ("GET", "/imports/{}"),
        ("PUT", "/imports/{}"),
        ("GET", "/imports/{}/runs"),
        ("POST", "/imports/{}/runs"),
        ("GET", "/imports/{}/runs/{}"),
        ("PUT", "/imports/{}/runs/{}"),
        ("PUT", "/imports/{}/runs/{}/complete"),
        ("GET", "/imports/{}/runs/{}/{}"),
    },
    "File": {
        ("GET", "/files"),
        ("GET", "/files/{}"),
        ("GET", "/files/{}/editions"),
        ("GET", "/files/{}/content"),
        ("GET", "/files/{}/watermarkcontent"),
        ("GET", "/items/{}/files"),
        ("GET", "/items/{}/files/{}"),
        ("GET", "/items/{}/files/{}/content"),
        ("GET", "/items/{}/files/{}/watermarkcontent"),
        ("GET", "/items/{}/image/content"),
    },
}


def test_the_five_groups_are_complete() -> None:
    """Reference sections 2, 5, 6.1, 7 and 8: nothing is left out, nothing is listed twice."""
    declared: dict[str, list[tuple[str, str]]] = {}
    for route in ROUTES:
        path = "/".join("{}" if part.startswith("{") else part for part in route.path.split("/"))
        declared.setdefault(route.group, []).append((route.method, path))

    assert {group: set(declared[group]) for group in COMPLETE} == COMPLETE
    assert all(len(rows) == len(set(rows)) for rows in declared.values())


def test_every_endpoint_has_a_call_or_a_reason() -> None:
    """One of the two, and never both."""
    assert [route.path for route in ROUTES if bool(route.calls) == bool(route.why_not)] == []


# --- by which call ----------------------------------------------------------------------------------------------------

QUICK = PollPolicy(every=0.01, max_interval=0.02, timeout=5)
CRITERIA = all_of(ITEM.number.contains("9"))
OPTIONS = ExportOptions(export_views=("SPECS",))


@attrs.frozen
class Stage:
    """A service, a client of it, a folder, and what there is to ask for."""

    service: ArenaSimulator
    arena: ArenaClient
    directory: Path

    @property
    def extract_run(self) -> Any:
        return self.service.extracts[self.service.extract].runs[0]

    @property
    def export_run(self) -> Any:
        return self.service.exports[self.service.export].runs[0]

    @property
    def import_run(self) -> Any:
        return self.service.imports[self.service.import_].runs[0]

    @property
    def file(self) -> str:
        return next(iter(self.service.vault))

    @property
    def item(self) -> str:
        return next(iter(self.service.items))

    @property
    def event(self) -> OutboundEvent:
        return OutboundEvent(guid=self.service.add_event().guid, integration=self.service.integration)

    @property
    def queued(self) -> OutboundEvent:
        guid = self.service.add_event(integration=self.service.queue).guid
        return OutboundEvent(guid=guid, integration=self.service.queue)

    @property
    def sheet(self) -> Path:
        place = self.directory / "sheet.csv"
        place.write_text("number,name\r\n900-1,Bracket\r\n")
        return place

    async def download(self, files: FileSet) -> None:
        """Bring the files of a set home."""
        async with Downloader(self.directory, options=TransferOptions(durability="off")) as downloads:
            (await downloads.run(files)).raise_for_failures()

    async def take_over(self, events: Any, integration: str) -> None:
        """Take the next event over."""
        async for pending in events.watch(integration, poll=QUICK):
            async with pending:
                break

    async def resource(self, ask: Callable[..., Awaitable[object]]) -> None:
        """Ask for one of the things of an event."""
        made = self.service.add_event()
        event = OutboundEvent(guid=made.guid, integration=self.service.integration)
        await ask(event, "items", made.resources[0].guid)

    async def list_both(self) -> None:
        """Read the two lists of the complete groups that have no call of their own."""
        await self.arena.list(f"/extracts/{self.service.extract}/ownerusers").collect()
        await self.arena.list("/settings/exports/attributes", world="items").collect()

    async def machine(self) -> None:
        """Ask for something as a machine user."""
        service = self.service
        who = ArenaMachineCredentials(service.client_id, service.client_secret, service.token_url)
        async with service.client(credentials=who) as arena:
            await arena.extracts.get(service.extract)


Act = Callable[[Stage], Awaitable[object]]

CALLS: dict[str, Act] = {
    "ArenaCredentials": lambda s: s.arena.session.credential(),
    "aclose": lambda s: s.arena.aclose(),
    "ArenaMachineCredentials": lambda s: s.machine(),
    "extracts.search": lambda s: s.arena.extracts.search().collect(),
    "extracts.get": lambda s: s.arena.extracts.get(s.service.extract),
    "extracts.runs": lambda s: s.arena.extracts.runs(s.service.extract).collect(),
    "extracts.files": lambda s: s.download(s.arena.extracts.files(s.service.extract)),
    "extracts.files(latest=True)": lambda s: s.download(s.arena.extracts.files(s.service.extract, latest=True)),
    "extracts.start": lambda s: s.arena.extracts.start(s.service.extract),
    "extracts.wait": lambda s: s.arena.extracts.wait(s.service.extract, s.extract_run.guid),
    "extracts.fetch": lambda s: s.arena.extracts.fetch(s.service.extract, s.directory, poll=QUICK),
    "extracts.run": lambda s: s.arena.extracts.run(s.service.extract, s.extract_run.guid),
    "extracts.latest_run": lambda s: s.arena.extracts.latest_run(s.service.extract),
    "extracts.run_files": lambda s: s.arena.extracts.run_files(s.service.extract, s.extract_run.guid).collect(),
    "extracts.association": lambda s: s.arena.extracts.association(
        s.service.extract, s.extract_run.guid, s.extract_run.files[0].guid
    ),
    "list": lambda s: s.list_both(),
    "exports.search": lambda s: s.arena.exports.search().collect(),
    "exports.define": lambda s: s.arena.exports.define(
        "E", options=OPTIONS, criteria=all_of(ITEM.number.contains("9"))
    ),
    "exports.get": lambda s: s.arena.exports.get(s.service.export),
    "exports.runs": lambda s: s.arena.exports.runs(s.service.export).collect(),
    "exports.files": lambda s: s.download(s.arena.exports.files(s.service.export)),
    "exports.start": lambda s: s.arena.exports.start(s.service.export),
    "exports.wait": lambda s: s.arena.exports.wait(s.service.export, s.export_run.guid),
    "exports.fetch": lambda s: s.arena.exports.fetch(s.service.export, s.directory, poll=QUICK),
    "exports.run": lambda s: s.arena.exports.run(s.service.export, s.export_run.guid),
    "exports.file": lambda s: s.arena.exports.file(s.service.export, s.export_run.guid, s.export_run.files[0].guid),
    "imports.search": lambda s: s.arena.imports.search().collect(),
    "imports.define": lambda s: s.arena.imports.define("I", resource="ITEM_SPECS", mode="EDIT"),
    "imports.get": lambda s: s.arena.imports.get(s.service.import_),
    "imports.rename": lambda s: s.arena.imports.rename(s.service.import_, name="Prices"),
    "imports.runs": lambda s: s.arena.imports.runs(s.service.import_).collect(),
    "imports.files": lambda s: s.download(s.arena.imports.files(s.service.import_)),
    "imports.start": lambda s: s.arena.imports.start(s.service.import_, s.sheet),
    "imports.wait": lambda s: s.arena.imports.wait(s.service.import_, s.import_run.guid),
    "imports.fetch": lambda s: s.arena.imports.fetch(s.service.import_, s.sheet, s.directory, poll=QUICK),
    "imports.run": lambda s: s.arena.imports.run(s.service.import_, s.import_run.guid),
    "imports.commit": lambda s: s.arena.imports.commit(s.service.import_, s.import_run.guid, despite_errors=True),
    "imports.complete": lambda s: s.arena.imports.complete(s.service.import_, s.import_run.guid),
    "files.search": lambda s: s.arena.files.search().collect(),
    "files.get": lambda s: s.arena.files.get(s.file),
    "files.content": lambda s: s.download(s.arena.files.content(s.file)),
    "files.editions": lambda s: s.arena.files.editions(s.file).collect(),
    "items.search": lambda s: s.arena.items.search().collect(),
    "items.get": lambda s: s.arena.items.get(s.item),
    "items.associations": lambda s: s.arena.items.associations(s.item).collect(),
    "items.association": lambda s: s.arena.items.association(s.item, s.service.items[s.item].files[0].guid),
    "items.files": lambda s: s.download(s.arena.items.files(s.item)),
    "usages": lambda s: s.arena.usages().collect(),
    "events.search": lambda s: s.arena.events.search().collect(),
    "events.get": lambda s: s.arena.events.get(s.service.integration),
    "events.triggers": lambda s: s.arena.events.triggers(s.service.integration).collect(),
    "events.every": lambda s: s.arena.events.every(s.service.integration).collect(),
    "events.pending": lambda s: s.arena.events.pending(s.service.integration),
    "events.event": lambda s: s.arena.events.event(s.service.integration, s.event.guid),
    "events.reconcile": lambda s: s.arena.events.reconcile(s.event),
    "events.watch": lambda s: s.take_over(s.arena.events, s.event.integration),
    "events.resources": lambda s: s.arena.events.resources(s.event).collect(),
    "events.resource": lambda s: s.resource(s.arena.events.resource),
    "events.reconcile_resource": lambda s: s.resource(s.arena.events.reconcile_resource),
    "event_queue.search": lambda s: s.arena.event_queue.search().collect(),
    "event_queue.every": lambda s: s.arena.event_queue.every(s.service.queue).collect(),
    "event_queue.pending": lambda s: s.arena.event_queue.pending(s.service.queue),
    "event_queue.event": lambda s: s.arena.event_queue.event(s.service.queue, s.queued.guid),
    "event_queue.reconcile": lambda s: s.arena.event_queue.reconcile(s.queued),
    "event_queue.watch": lambda s: s.take_over(s.arena.event_queue, s.queued.integration),
    "event_queue.items": lambda s: s.arena.event_queue.items(s.queued).collect(),
    "event_queue.item_guids": lambda s: s.arena.event_queue.item_guids(s.queued),
}
#: The older word of the pages for a list; the simulator knows the newer one.
ELSEWHERE = {"/settings/export/attributes"}


def said_of(call: str) -> set[Endpoint]:
    """Return the endpoints that the table names for a call."""
    return {route for route in ROUTES if call in route.calls and route.path not in ELSEWHERE}


def test_every_call_of_the_table_is_tried() -> None:
    """And no other."""
    assert {call for route in ROUTES for call in route.calls} == set(CALLS)


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_reaches_the_endpoints_that_the_table_names(call: str, tmp_path: Path) -> None:
    """Read from the log of the service: all of them, and none that the table does not know or does not support."""
    async with ArenaSimulator(run_polls=1) as service, service.client() as arena:
        await arena.session.credential()
        if call != "ArenaCredentials":
            service.log.clear()
        await CALLS[call](Stage(service, arena, tmp_path))
        log = list(service.log)

    requested = {match(ROUTES, seen.method, seen.path.removeprefix("/v1")) for seen in log}
    assert {seen.status for seen in log} <= {200, 201}
    assert None not in requested
    assert {route.path for route in said_of(call)} <= {route.path for route in requested if route is not None}
    assert [route.path for route in requested if route is not None and not route.calls] == []
