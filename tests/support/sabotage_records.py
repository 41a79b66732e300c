"""How the protections of the rows about requests that change a service are removed."""

from __future__ import annotations

from typing import Any

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
