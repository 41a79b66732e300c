"""How the protections of the rows about requests that change a service are removed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
from sabotage import Patch, protection

from arena_async.options import PollPolicy


@protection("what changes the service is recorded before it leaves")
def _(patch: Patch) -> None:
    records = patch.current("arena_async.protocol.request_records:RequestRecords")

    async def forget(self: Any, scope: str, make: Any, *, required: bool) -> Any:
        return make(records())[1]

    patch.replace("arena_async.providers.send_once:RequestStore.change", forget)


@protection("a request is looked up for as long as the service may take to show it")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.send_once:_LOOK", PollPolicy(timeout=0.001))


@protection("a commit is not sent without a record")
def _(patch: Patch) -> None:
    change = patch.current("arena_async.providers.send_once:RequestStore.change")

    async def in_memory(self: Any, scope: str, make: Any, *, required: bool) -> Any:
        return await change(self, scope, make, required=False)

    patch.replace("arena_async.providers.send_once:RequestStore.change", in_memory)


@protection("the values of an import go as a query and as parts")
def _(patch: Patch) -> None:
    make = patch.current("arena_async.providers.arena.api:make_request")

    def without_query(method: str, path: str, query: Any = None, **others: Any) -> Any:
        return make(method, path, query if method == "GET" else None, **others)

    patch.replace("arena_async.providers.arena.imports:make_request", without_query)


@protection("what the service has done is compared with what was requested")
def _(patch: Patch) -> None:
    async def believe(self: Any, guid: str, run: Any, *, commit: bool) -> Any:
        return run

    patch.replace("arena_async.providers.arena.imports:Imports.checked", believe)


@protection("a run that another request may have started is not taken")
def _(patch: Patch) -> None:
    find = patch.current("arena_async.providers.arena.fetch:Start.find")

    async def alone(self: Any, record: Any, records: Any) -> Any:
        return await find(self, record, attrs.evolve(records, records={}))

    patch.replace("arena_async.providers.arena.fetch:Start.find", alone)


@protection("a request without a response stays recorded when another one takes its place")
def _(patch: Patch) -> None:
    with_record = patch.current("arena_async.protocol.request_records:RequestRecords.with_record")

    def replaced(self: Any, name: str, record: Any) -> Any:
        others = {other: one for other, one in self.records.items() if other != name}
        return with_record(attrs.evolve(self, records=others), name, record)

    patch.replace("arena_async.protocol.request_records:RequestRecords.with_record", replaced)


@protection("what is known of other requests is read with each look")
def _(patch: Patch) -> None:
    read = patch.current("arena_async.providers.send_once:SendOnce._records")

    first: dict[Any, Any] = {}

    async def once(self: Any) -> Any:
        if self not in first:
            first[self] = await read(self)
        return first[self]

    patch.replace("arena_async.providers.send_once:SendOnce._records", once)


@protection("what a start has done is compared before its record is closed")
def _(patch: Patch) -> None:
    async def believe(run: Any) -> Any:
        return run

    once = patch.current("arena_async.providers.arena.fetch:Start.once")

    def unchecked(self: Any, scope: str, **how: Any) -> Any:
        return attrs.evolve(once(self, scope, **how), check=believe)

    patch.replace("arena_async.providers.arena.fetch:Start.once", unchecked)


@protection("a run that was started is not replaced before the service has to show it")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.fetch:SHOWN_AFTER", timedelta())
