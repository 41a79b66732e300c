"""The local HTTP service under every simulator: its table, its log and its faults, seen through bare sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable

import pytest
from http_streams import Answer, ask

from arena_async.testing import faults
from arena_async.testing.payloads import payload
from arena_async.testing.replies import Call, ErrorReply, Reply, Route, content_reply
from arena_async.testing.server import SimulatedService

BODY = b"0123456789"


class Shop(SimulatedService):
    """A service with a file, an echo and a refusal, and a second port."""

    def __init__(self, *, etag: str | None = '"one"', clock: Callable[[], float] = lambda: 1000.0) -> None:
        super().__init__(listeners=("api", "files"), clock=clock)
        self.etag = etag
        self.events: list[tuple[str, str]] = []
        self.orders = 0

    def routes(self) -> Iterable[Route]:
        yield Route("GET", "/v1/files/{file}/content", self._content)
        yield Route("POST", "/v1/echo", self._echo)
        yield Route("POST", "/v1/orders", self._order)
        yield Route("GET", "/v1/no", self._refuse)
        yield Route("GET", "/blob", lambda _: Reply(body=b"blob"), listener="files")
        yield Route("GET", "/large", lambda _: Reply(body=payload("large.bin", 5_000_000)))

    def apply_event(self, event: str, call: Call) -> None:
        if event == "expire_links":
            super().apply_event(event, call)
        self.events.append((event, call.vars["file"]))
        self.etag = '"two"'

    def _content(self, call: Call) -> Reply:
        return content_reply(
            call, payload("ten", 10) if call.vars["file"] == "ten" else _Ten(), etag=self.etag, ranges=True
        )

    def _echo(self, call: Call) -> Reply:
        parts = [(part.name, part.filename, part.content_type, part.body.decode()) for part in call.parts()]
        return Reply.json({"query": dict(call.query), "all": call.values("a"), "parts": parts, "size": len(call.body)})

    def _order(self, _call: Call) -> Reply:
        self.orders += 1
        return Reply(status=201)

    def _refuse(self, _call: Call) -> Reply:
        raise ErrorReply(Reply.json({"no": True}, status=409))


class _Ten:
    size = 10

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterable[bytes]:
        for place in range(start, 10 if stop is None else stop):
            yield BODY[place : place + 1]


async def content(shop: Shop, headers: dict[str, str] | None = None, *, patience: float = 5.0) -> Answer:
    """Ask for the file of ten bytes."""
    return await ask(f"{shop.origin()}/v1/files/F%20G/content", headers=headers, patience=patience)


async def test_a_route_names_the_parts_of_its_path_and_unknown_paths_are_404_or_405() -> None:
    """The table decides; a known path with another method says so."""
    async with Shop() as shop:
        assert (await content(shop)).body == BODY
        assert (await ask(f"{shop.origin()}/v1/nothing")).status == 404
        assert (await ask(f"{shop.origin()}/v1/echo")).status == 405
        assert (await ask(f"{shop.origin()}/v1/no")).status == 409
        assert (await ask(f"{shop.origin()}/blob")).status == 404
        assert (await ask(f"{shop.origin('files')}/blob")).body == b"blob"


async def test_the_log_keeps_every_request_as_it_was_sent() -> None:
    """Path, raw target, query, headers in any case, body, status, bytes and time are there to look at."""
    async with Shop() as shop:
        await ask(f"{shop.origin()}/v1/echo?a=1%2B1&a=2", "POST", headers={"X-Own": "yes"}, body=b"abc")
        await content(shop)
        echo, file = shop.log
        assert (echo.listener, echo.method, echo.path, echo.target) == (
            "api",
            "POST",
            "/v1/echo",
            "/v1/echo?a=1%2B1&a=2",
        )
        assert (echo.query["a"], echo.headers["x-own"], echo.body, echo.at) == ("1+1", "yes", b"abc", 1000.0)
        assert (file.path, file.status, file.sent) == ("/v1/files/F G/content", 200, 10)
        assert shop.seen("get */content") == [file]
        assert shop.seen("GET *", listener="files") == []
        shop.clear()
        assert shop.seen() == []


async def test_a_multipart_body_comes_apart_byte_for_byte() -> None:
    """Names, file names, types and bytes of the parts survive, line ends inside them included."""
    form = (
        b'--xx\r\nContent-Disposition: form-data; name="submitContent"; filename="a.csv"\r\n'
        b"Content-Type: text/csv\r\n\r\na,b\r\n1,2\r\n\r\n"
        b'--xx\r\nContent-Disposition: form-data; name="commit"\r\n\r\ntrue\r\n--xx--\r\n'
    )
    async with Shop() as shop:
        kind = {"Content-Type": "multipart/form-data; boundary=xx"}
        answer = await ask(f"{shop.origin()}/v1/echo?a=1&a=2", "POST", headers=kind, body=form)
    assert answer.json["parts"] == [
        ["submitContent", "a.csv", "text/csv", "a,b\r\n1,2\r\n"],
        ["commit", None, None, "true"],
    ]
    assert answer.json["all"] == ["1", "2"]


@pytest.mark.parametrize(
    ("headers", "status", "body", "shown"),
    [
        ({"Range": "bytes=3-"}, 206, b"3456789", "bytes 3-9/10"),
        ({"Range": "bytes=3-5"}, 206, b"345", "bytes 3-5/10"),
        ({"Range": "bytes=-4"}, 206, b"6789", "bytes 6-9/10"),
        ({"Range": "bytes=3-99"}, 206, b"3456789", "bytes 3-9/10"),
        ({"Range": "bytes=10-"}, 416, b"", "bytes */10"),
        ({"Range": "bytes=5-3"}, 200, BODY, None),
        ({"Range": "bytes=0-1,4-5"}, 200, BODY, None),
        ({"Range": "lines=1-"}, 200, BODY, None),
        ({"Range": "bytes=3-", "If-Match": '"one"'}, 206, b"3456789", "bytes 3-9/10"),
        ({"Range": "bytes=3-", "If-Match": '"old"'}, 412, b"", None),
        ({"Range": "bytes=3-", "If-Match": '"old", "one"'}, 206, b"3456789", "bytes 3-9/10"),
        ({"Range": "bytes=3-", "If-Range": '"one"'}, 206, b"3456789", "bytes 3-9/10"),
        ({"Range": "bytes=3-", "If-Range": '"old"'}, 200, BODY, None),
        ({"If-Match": "*"}, 200, BODY, None),
    ],
    ids=str,
)
async def test_ranges_and_validators_are_answered_by_the_rules_of_http(
    headers: dict[str, str], status: int, body: bytes, shown: str | None
) -> None:
    """One range is honoured under its condition; several, or none that makes sense, are overlooked."""
    async with Shop() as shop:
        answer = await content(shop, headers)
    assert (answer.status, answer.body, answer.headers.get("content-range")) == (status, body, shown)


@pytest.mark.parametrize(
    ("fault", "status", "body", "ending"),
    [
        (faults.status(503, body="busy", headers={"Retry-After": "17"}), 503, b"busy", "whole"),
        (faults.empty_400(), 400, b"", "whole"),
        (faults.redirect("http://127.0.0.1:1/x", code=307), 307, b"", "whole"),
        (faults.mute(), 0, b"", "cut"),
        (faults.lose_answer(), 0, b"", "cut"),
        (faults.drop(after_bytes=4), 200, b"0123", "cut"),
        (faults.drop(), 200, b"", "cut"),
        (faults.drop(after_bytes=99), 200, BODY, "whole"),
        (faults.reset(after_bytes=4), 200, b"0123", "reset"),
        (faults.truncate(to=4), 200, b"0123", "whole"),
        (faults.corrupt(at=2), 200, b"01\xcd3456789", "whole"),
        (faults.wrong_length(12), 200, BODY, "cut"),
        (faults.wrong_length(5), 200, b"01234", "whole"),
        (faults.unannounced(), 200, BODY, "open"),
        (faults.unannounced(drop_after=4), 200, b"0123", "open"),
        (faults.chunked(), 200, BODY, "whole"),
        (faults.chunked(drop_after=4), 200, b"0123", "cut"),
        (faults.trickle(bytes_per_second=1000.0), 200, BODY, "whole"),
        (faults.ignore_range(), 200, BODY, "whole"),
    ],
    ids=lambda value: value.name if isinstance(value, faults.Fault) else None,
)
async def test_a_fault_does_what_it_says_once(fault: faults.Fault, status: int, body: bytes, ending: str) -> None:
    """One request meets the fault, the next one does not."""
    async with Shop() as shop:
        shop.inject(fault, on="GET */content")
        broken = await content(shop)
        sound = await content(shop)
    # A chunked body that is cut inside a chunk brings some of that chunk.
    got = broken.body[: len(body)] if fault.name == "chunked" and ending == "cut" else broken.body
    assert (broken.status, got, broken.ending) == (status, body, ending)
    assert (sound.status, sound.body, sound.ending) == (200, BODY, "whole")


@pytest.mark.parametrize(
    ("page", "at", "count", "left"),
    [
        ({"count": 3, "results": [1, 2, 3]}, 0, None, {"count": 0, "results": []}),
        ({"count": 3, "results": [1, 2, 3]}, 1, 1, {"count": 2, "results": [1, 3]}),
        ({"count": 9, "results": [1, 2, 3]}, 2, None, {"count": 9, "results": [1, 2]}),
        ({"items": [1, 2, 3], "totalCount": 3}, 0, 1, {"items": [2, 3], "totalCount": 3}),
        ([1, 2, 3], 1, None, [1]),
        ({"guid": "G"}, 0, None, {"guid": "G"}),
    ],
)
def test_a_page_may_lack_rows(page: object, at: int, count: int | None, left: object) -> None:
    """The number of the page follows its rows, a total does not."""
    assert json.loads(bytes(Reply.json(page).lacking(at, count).body)) == left


async def test_surplus_bytes_really_follow_a_length_that_is_too_small() -> None:
    """Announcing five of ten bytes sends all ten."""
    async with Shop() as shop:
        shop.inject(faults.wrong_length(5))
        reader, writer = await asyncio.open_connection("127.0.0.1", int(shop.origin().rsplit(":", 1)[1]))
        writer.write(b"GET /v1/files/F/content HTTP/1.1\r\nHost: x\r\n\r\n")
        everything = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert b"Content-Length: 5\r\n" in everything
    assert everything.endswith(BODY)


@pytest.mark.parametrize("fault", [faults.hang(), faults.stall(after_bytes=3)], ids=["hang", "stall"])
async def test_closing_the_service_ends_what_hangs(fault: faults.Fault) -> None:
    """A request that would wait for ever is let go when the service is closed, and the close does not wait for it."""
    async with Shop() as shop:
        shop.inject(fault)
        waiting = asyncio.create_task(content(shop))
        await shop.until(lambda: shop.log)
    assert (await waiting).ending in ("cut", "reset")


async def test_a_client_that_leaves_ends_its_hanging_request() -> None:
    """The service notices that nobody waits any more."""
    async with Shop() as shop:
        shop.inject(faults.stall(after_bytes=3))
        answer = await content(shop, patience=0.05)
        assert (answer.body, answer.ending) == (b"012", "silent")
        async with asyncio.timeout(5):
            await shop.until(lambda: not shop.in_flight)
        assert shop.max_in_flight == 1


async def test_a_delayed_request_is_seen_at_once_and_answered_after_the_event() -> None:
    """The log has it before the event lets it go on."""
    go = asyncio.Event()
    async with Shop() as shop:
        shop.inject(faults.delay(go))
        waiting = asyncio.create_task(content(shop))
        await shop.until(lambda: shop.log)
        assert (shop.log[0].status, waiting.done()) == (None, False)
        go.set()
        assert (await waiting).body == BODY


async def test_a_muted_request_is_not_carried_out_and_a_lost_answer_is() -> None:
    """The two look the same to the client and are not the same to the service."""
    async with Shop() as shop:
        shop.inject(faults.mute())
        shop.inject(faults.lose_answer())
        await ask(f"{shop.origin()}/v1/orders", "POST")
        assert shop.orders == 0
        await ask(f"{shop.origin()}/v1/orders", "POST")
        assert shop.orders == 1


async def test_faults_wait_their_turn() -> None:
    """``after`` leaves requests unharmed, ``times`` repeats, the first injected is the first met, others pass by."""
    async with Shop() as shop:
        shop.inject(faults.status(500), on="GET */content", after=1, times=2)
        shop.inject(faults.status(503), on="GET *", after=3)
        shop.inject(faults.status(404), on="POST *")
        assert [(await content(shop)).status for _ in range(5)] == [200, 500, 500, 503, 200]
        shop.inject(faults.status(429), times=None)
        assert [(await content(shop)).status for _ in range(3)] == [429, 429, 429]
        shop.clear()
        assert (await content(shop)).status == 200


async def test_what_happens_to_the_service_happens_before_it_answers() -> None:
    """A change shows in the very answer whose request met it."""
    async with Shop() as shop:
        shop.inject(faults.change(), on="GET */content", after=1)
        assert (await content(shop)).headers["etag"] == '"one"'
        assert (await content(shop)).headers["etag"] == '"two"'
        assert shop.events == [("change", "F G")]


async def test_headers_of_an_answer_can_be_added_replaced_and_taken_away() -> None:
    """A label can lie while the bytes stay as they are."""
    async with Shop() as shop:
        shop.inject(faults.with_headers({"etag": None, "Content-Encoding": "gzip"}))
        answer = await content(shop)
    assert ("etag" in answer.headers, answer.headers["content-encoding"], answer.body) == (False, "gzip", BODY)


async def test_a_large_answer_arrives_whole() -> None:
    """Megabytes are streamed and arrive as the recipe has them."""
    async with Shop() as shop:
        answer = await ask(f"{shop.origin()}/large")
        unframed_fault = faults.unannounced()
        shop.inject(unframed_fault)
        unframed = await ask(f"{shop.origin()}/large")
    assert answer.body == unframed.body == payload("large.bin", 5_000_000).read()


async def test_it_closes_twice_starts_again_and_says_when_it_is_not_running() -> None:
    """Closing is safe to repeat; an address is only there while it runs."""
    shop = Shop()
    with pytest.raises(RuntimeError, match="not running"):
        shop.origin()
    async with shop:
        assert (await content(shop)).status == 200
    await shop.aclose()
    async with shop:
        assert (await content(shop)).status == 200


async def test_entering_and_leaving_in_different_tasks_is_fine() -> None:
    """A fixture may start it in one task and close it in another."""
    shop = Shop()
    await asyncio.create_task(shop.start())
    assert (await content(shop)).status == 200
    await asyncio.create_task(shop.aclose())
