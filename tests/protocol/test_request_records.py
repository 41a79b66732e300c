"""What is remembered about requests that change a service, and whether one may be sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from arena_async.protocol.request_records import (
    RequestRecord,
    RequestRecords,
    load_records,
    may_send,
    record_name,
)

BEGAN = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SENDING = RequestRecord(state="sending", sender="a", at=BEGAN, written=BEGAN)
STARTED = RequestRecord(state="started", sender="a", at=BEGAN, written=BEGAN, result="R")
OVER = attrs.evolve(STARTED, state="over")
LATELY = attrs.evolve(OVER, written=BEGAN + SECOND)


@pytest.mark.parametrize(
    ("record", "replaces", "resumes", "expected"),
    [
        (None, None, True, True),
        (SENDING, None, True, False),
        (SENDING, None, False, False),
        (SENDING, SENDING, True, True),
        (SENDING, attrs.evolve(SENDING, sender="b"), True, False),
        (STARTED, None, True, False),
        (STARTED, None, False, True),
        (STARTED, STARTED, True, True),
        (OVER, None, True, True),
        (LATELY, None, True, False),
        (LATELY, None, False, True),
        (attrs.evolve(LATELY, result=""), None, True, True),
        (attrs.evolve(LATELY, written=BEGAN + 5 * SECOND), None, True, True),
    ],
    ids=[
        "nothing is known", "no response", "no response, none is resumed", "no response, and looked up",
        "no response, and another one looked up", "started", "started, none is resumed", "started, and gone",
        "finished before this call", "finished during this call", "finished, none is resumed", "rejected",
        "finished in the future: a clock was set back",
    ],
)  # fmt: skip
def test_whether_a_request_may_be_sent(
    record: RequestRecord | None, replaces: RequestRecord | None, resumes: bool, expected: bool
) -> None:
    """A request without a response never, unless it was looked up; a result is used as long as it is wanted."""
    now = BEGAN + 2 * SECOND

    assert may_send(record, replaces=replaces, resumes=resumes, since=BEGAN, now=now) is expected


def test_records_come_back_as_they_were_written() -> None:
    """With every field; and results are known afterwards, each once."""
    records = RequestRecords().with_record("a", SENDING).with_record("b", attrs.evolve(STARTED, took=1.5))
    records = records.with_record("c", STARTED)

    assert load_records(records.dump("what it is about")) == records
    assert records.known == ("R",)
    assert load_records(None) == RequestRecords()


def test_old_records_make_room_and_those_without_a_response_stay() -> None:
    """A file of records does not grow with the years."""
    records = RequestRecords()
    for number in range(150):
        written = BEGAN + number * SECOND
        records = records.with_record(f"s{number}", attrs.evolve(SENDING, written=written))
        records = records.with_record(f"o{number}", attrs.evolve(OVER, written=written, result=f"R{number}"))
    records = records.with_record("o0", attrs.evolve(OVER, written=BEGAN, result="again"))

    assert sum(record.state == "sending" for record in records.records.values()) == 150
    closed = [name for name, record in records.records.items() if record.state == "over"]
    assert len(closed) == 100
    assert {"o0", "o149"} < set(closed)
    assert "o1" not in closed
    assert records.known[-1] == "again"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        json.dumps({"arena_async_requests": 2, "records": {}, "known": []}).encode(),
        json.dumps({"arena_async_requests": 1, "records": {"a": {}}, "known": []}).encode(),
        json.dumps({"arena_async_requests": 1, "records": {}}).encode(),
        RequestRecords().with_record("a", SENDING).dump("").replace(b"sending", b"dancing"),
        RequestRecords().with_record("a", SENDING).dump("").replace(b"+00:00", b""),
    ],
)
def test_a_file_that_makes_no_sense_is_an_error(content: bytes) -> None:
    """It may have held the record of a commit."""
    with pytest.raises(ValueError, match=r"."):
        load_records(content)


def test_a_name_does_not_show_what_it_is_made_of() -> None:
    """And the parts do not run into each other."""
    assert len(record_name("start", "secret.csv")) == 32
    assert record_name("start", "secret.csv").isalnum()
    assert record_name("a", "bc") != record_name("ab", "c")
