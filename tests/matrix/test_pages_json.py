"""Rows PG14, PG16 to PG18, PG50 and PG51: replies that are no JSON, too much of it, or called by another name."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from functools import partial
from typing import Any

import pytest
from matrix import World, case, row
from scripted import RawServer, Reply, reply
from services import ArenaScript, CentrePointScript

from arena_async.errors import ApiError, DeadlineError, DecodeError, ServerError
from arena_async.options import MIB, RetryPolicy

LINE = "GET /v1/extracts?offset=0&limit=400"
GOOD = json.dumps({"count": 1, "results": [{"guid": "G0", "name": "Näme"}]}, ensure_ascii=False).encode()
JSON = {"Content-Type": "application/json"}


async def listed(world: World, *answers: Reply) -> tuple[list[str | None], Exception | None, list[str]]:
    """Return the names of the extracts, the error, and the lines of the requests for them."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/extracts", *answers)
        names: list[str | None] = []
        failure: Exception | None = None
        async with script.client(retry=RetryPolicy(attempts=1)) as arena:
            try:
                names = [extract.name for extract in await arena.extracts.search().collect()]
            except Exception as error:  # noqa: BLE001 - which one it is, is what the rows are about
                failure = error
    world.saw(failure)
    return names, failure, server.lines("GET *")


@row("PG14", protection="a page that cannot be read is asked for once more")
@pytest.mark.parametrize("second", [GOOD, GOOD[: len(GOOD) // 2]], ids=["whole", "cut too"])
async def test_json_that_is_cut_with_an_honest_length_is_asked_for_once_more(world: World, second: bytes) -> None:
    """PG14: half a document, announced as that: once more; then the rows, or an error."""
    cut = reply(body=GOOD[: len(GOOD) // 2], headers=JSON)
    names, failure, lines = await listed(world, cut, reply(body=second, headers=JSON))
    assert lines == [LINE] * 2
    if second == GOOD:
        assert (names, failure) == (["Näme"], None)
    else:
        assert type(failure) is DecodeError
        assert "/extracts" in str(failure)


#: What a parser lets through.
LEFT_TO_THE_PAGE = ("NaN", "null", "a number")
NO_JSON: dict[str, bytes] = {
    "NaN": b'{"count": NaN, "results": []}',
    "two documents": GOOD + GOOD,
    "5,000 digits": b'{"count": 1, "results": [{"guid": "G0", "name": ' + b"9" * 5000 + b"}]}",
    "100,000 brackets": b"[" * 100_000 + b"]" * 100_000,
    "invalid UTF-8": GOOD.replace("ä".encode(), b"\xe4"),
    "nothing": b"",
    "a page of HTML": b"<html><body>Sign in</body></html>",
    "null": b"null",
    "a number": b"17",
}


@row("PG16", protection="whatever comes is read by rules, and never by hope")
@pytest.mark.parametrize(
    "what",
    [
        case(what, protection="what is no page is no empty list") if what in LEFT_TO_THE_PAGE else what
        for what in NO_JSON
    ],
)
async def test_what_is_no_page_is_one_kind_of_error(world: World, what: str) -> None:
    """PG16: whatever comes: once more, then one kind of error, short and with nothing behind it."""
    names, failure, lines = await listed(world, reply(body=NO_JSON[what], headers=JSON))
    assert names == []
    assert type(failure) is DecodeError
    assert failure.__cause__ is None
    assert len(str(failure)) < 1000
    assert lines == [LINE] * 2


@row("PG16", protection="whatever comes is read by rules, and never by hope")
@pytest.mark.parametrize(
    ("body", "label"),
    [
        (b"\xef\xbb\xbf" + GOOD, "application/json"),
        case(GOOD, "application/json; charset=utf-16", protection="JSON is UTF-8 whatever its label says"),
        case(GOOD, "application/json; charset=no-such-thing", protection="JSON is UTF-8 whatever its label says"),
        case(
            b"\n\n" + GOOD + b"\r\n ",
            "application/json; charset=latin-1",
            protection="JSON is UTF-8 whatever its label says",
        ),
    ],
    ids=["BOM", "labelled UTF-16", "labelled nonsense", "labelled latin-1"],
)
async def test_json_is_utf_8_whatever_it_is_called(world: World, body: bytes, label: str) -> None:
    """PG16: a mark at the beginning and a wrong name of the charset do no harm."""
    names, failure, lines = await listed(world, reply(body=body, headers={"Content-Type": label}))
    assert (names, failure) == (["Näme"], None)
    assert lines == [LINE]


def bomb(size: int) -> bytes:
    """Return a gzip of so many bytes, a multiple of a mebibyte, that are all the same: about a thousandth of that."""
    packer = zlib.compressobj(9, wbits=31)
    head = packer.compress(b"[" + b" " * (MIB - 1)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"".join([head, *[block] * (size // MIB - 1), packer.flush()])


@row("PG17", protection="a page is bounded where it is unpacked")
@pytest.mark.parametrize("what", ["200 MB", "10 GB in gzip"])
async def test_a_page_beyond_all_bounds_is_refused_in_bounded_memory(world: World, what: str) -> None:
    """PG17: refused at 16 MiB, counted after unpacking, without a second request; the server is left with the rest."""
    pieces = 0

    async def count() -> None:
        nonlocal pieces
        pieces += 1

    blank = b" " * (MIB // 4)
    if what == "200 MB":
        answer = reply(body=blank, times=800, headers=JSON, piece=len(blank), between=count)
    else:
        packed = bomb(10_240 * MIB)
        assert 5 * MIB < len(packed) < 16 * MIB
        answer = reply(body=packed, headers={**JSON, "Content-Encoding": "gzip"}, piece=64 * 1024, between=count)
    names, failure, lines = await listed(world, answer)
    assert (names, lines) == ([], [LINE])
    assert type(failure) is DecodeError
    assert "larger than 16 MiB" in str(failure)
    assert pieces < 100 if what == "10 GB in gzip" else pieces * len(blank) <= 48 * MIB


@row("PG50", protection="all of a response has one deadline")
@pytest.mark.parametrize("what", ["a page", "a refusal", "a login", "a refused login"])
async def test_a_response_that_drips_ends_in_time(world: World, what: str) -> None:
    """PG50: a byte now and then never stalls; the time for all tries holds for every byte, and nothing is repeated."""
    status = 503 if what.startswith("a refus") else 200
    drip = reply(status, body=b" " * 15_000, headers=JSON, piece=1, between=partial(asyncio.sleep, 0))
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/extracts", drip)
        if "login" in what:
            server.on("POST", "/v1/login", drip)
        async with script.client(retry=RetryPolicy(timeout=0.2)) as arena:
            with pytest.raises(DeadlineError, match=r"no complete response within 0\.2 s") as caught:
                await arena.extracts.search().collect()
    world.saw(caught.value)
    assert len([line for line in server.lines() if "logout" not in line]) == (1 if "login" in what else 2)


@row("PG51", protection="values are counted before they are made")
@pytest.mark.parametrize("value", [b"[]", b"{}"])
async def test_a_page_of_millions_of_values_is_refused_before_it_is_parsed(world: World, value: bytes) -> None:
    """PG51: A few KB on the wire would take hundreds of MB of memory and hold the event loop for seconds."""
    body = b'{"count": 1, "results": [{"guid": "G0"}], "more": [' + (value + b",") * 1_000_000 + b"0]}"
    answer = reply(body=gzip.compress(body), headers={**JSON, "Content-Encoding": "gzip"})
    # What looks for secrets in the frames of the error writes the body out as text.
    world.memory += len(body) * 20
    del body
    names, failure, lines = await listed(world, answer)
    assert (names, lines) == ([], [LINE])
    assert type(failure) is DecodeError
    assert "more than 1,000,000 values" in str(failure)


@row("PG18", protection="a reply is judged by what it is, not by its label")
@pytest.mark.parametrize(
    "headers", [{"Content-Type": "text/plain"}, {}, {"Content-Type": "text/html"}, {"Content-Type": ";"}]
)
async def test_json_under_any_label_is_read(world: World, headers: dict[str, str]) -> None:
    """PG18: if it parses it is JSON."""
    names, failure, lines = await listed(world, reply(body=GOOD, headers=headers))
    assert (names, failure) == (["Näme"], None)
    assert lines == [LINE]


@row("PG18", protection="the words of a refusal are kept and made safe")
@pytest.mark.parametrize("service", ["arena", "centrepoint"])
async def test_a_refusal_in_plain_text_keeps_its_words(world: World, service: str) -> None:
    """PG18: the words are in the error, escaped, without what they say of secrets."""
    text = f"Study \x1b[31m999\u202e was not found; token={world.secrets['token']}.1".encode()
    refusal = reply(400, body=text, headers={"Content-Type": "text/plain; charset=utf-8"})
    failure: Any = None
    async with RawServer() as server:
        script = ArenaScript(world, server) if service == "arena" else CentrePointScript(world, server)
        script.on("GET", "/extracts" if service == "arena" else "/centrepoint/v3/Studies", refusal)
        async with script.client() as client:
            rows = client.extracts.search() if service == "arena" else client.studies.search()  # type: ignore[union-attr]
            with pytest.raises(ApiError) as caught:
                await rows.collect()
            failure = caught.value

    world.saw(failure)
    assert not isinstance(failure, ServerError)
    assert "999" in str(failure)
    assert "was not found" in str(failure)
    assert str(failure).isprintable()
    assert len(server.lines("GET *")) == 1
