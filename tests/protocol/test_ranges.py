"""What is done with each answer to a request for content."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.protocol.files import BodyHead
from arena_async.protocol.ranges import (
    ContentRange,
    HeadDecision,
    PartialContent,
    ResumeStep,
    is_piece,
    judge_head,
    read_content_range,
    strong_etag,
    validator_of,
)

ETAG = '"0x8DA"'
PARTIAL = PartialContent(offset=40, validator=ETAG, total=100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 0-9/100", ContentRange(first=0, last=9, total=100)),
        ("bytes 90-99/100", ContentRange(first=90, last=99, total=100)),
        ("bytes 0-0/1", ContentRange(first=0, last=0, total=1)),
        ("bytes 5-9/*", ContentRange(first=5, last=9, total=None)),
        ("bytes */1234", ContentRange(total=1234)),
        ("bytes */0", ContentRange(total=0)),
        ("Bytes 0-9/100", ContentRange(first=0, last=9, total=100)),
        ("  bytes 0-9/100\t", ContentRange(first=0, last=9, total=100)),
        (None, None),
        ("", None),
        ("bytes", None),
        ("bytes */*", None),
        ("bytes 9-0/100", None),
        ("bytes 0-100/100", None),
        ("bytes 0-9/9", None),
        ("bytes -9/100", None),
        ("bytes 0-/100", None),
        ("bytes=0-9/100", None),
        ("items 0-9/100", None),
        ("bytes 0-9/100, bytes 20-29/100", None),
        ("bytes 0-9/1e3", None),
        ("bytes \uff10-9/100", None),
        ("bytes 0-9/" + "9" * 5000, None),
        ("bytes 0-9 / 100", None),
        ("bytes 0-9/100\r\nx: y", None),
    ],
)
def test_a_content_range_is_read_exactly_or_not_at_all(text: str | None, expected: ContentRange | None) -> None:
    """Whatever is not one well-formed range of bytes says nothing."""
    assert read_content_range(text) == expected


@given(st.integers(0, 10**15), st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_content_range_that_is_written_is_read_back(first: int, more: int, rest: int) -> None:
    """Every range a server may write comes back as its numbers."""
    last, total = first + more, first + more + rest

    assert read_content_range(f"bytes {first}-{last}/{total}") == ContentRange(first=first, last=last, total=total)


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading_of_a_content_range(text: str) -> None:
    """Any text gives a range in order, or None."""
    found = read_content_range(text)

    assert found is None or found.total is None or found.last is None or found.last < found.total


@pytest.mark.parametrize(
    ("text", "strong"),
    [
        ('"abc"', True),
        ('"0x8DC-_/=+"', True),
        ('W/"abc"', False),
        ('w/"abc"', False),
        ("abc", False),
        ('""', False),
        ('"a"b"', False),
        ('"a b"', False),
        ('"caf\u00e9"', False),
        ('"' + "x" * 2000 + '"', False),
        ('"a"\n', False),
        (None, False),
    ],
)
def test_only_a_quoted_ascii_etag_without_weakness_is_a_validator(text: str | None, *, strong: bool) -> None:
    """A validator must come back byte for byte and prove equal bytes."""
    assert (strong_etag(text) == text and text is not None) is strong


def test_an_encoded_body_has_no_validator() -> None:
    """Nobody knows whether a range of it would count encoded or plain bytes."""
    assert validator_of(BodyHead(status=200, etag=ETAG, encoding="gzip")) is None
    assert validator_of(BodyHead(status=200, etag=ETAG, encoding="identity")) == ETAG
    assert validator_of(BodyHead(status=200, etag=f"W/{ETAG}")) is None


def head(status: int, **fields: object) -> BodyHead:
    """Make a head; a total comes with it unless said otherwise."""
    return BodyHead(status=status, **fields)  # type: ignore[arg-type]


WHOLE = {"length": 100, "total": 100, "etag": ETAG}
REST = {"offset": 40, "length": 60, "total": 100, "etag": ETAG}

ROWS = [
    # id, answer, what is held, size listed, step, whether ranges are given up for that host
    ("the whole body", head(200, **WHOLE), None, None, ResumeStep.APPEND, False),
    ("the whole body of the listed size", head(200, **WHOLE), None, 100, ResumeStep.APPEND, False),
    ("TR05 shorter than listed", head(200, **WHOLE), None, 101, ResumeStep.CHANGED, False),
    ("TR05 longer than listed", head(200, **WHOLE), None, 99, ResumeStep.CHANGED, False),
    ("no length anywhere", head(200), None, None, ResumeStep.APPEND, False),
    ("no length announced, size listed", head(200), None, 100, ResumeStep.APPEND, False),
    ("an empty file", head(200, length=0, total=0), None, 0, ResumeStep.APPEND, False),
    ("TR22 206 to a request without a range", head(206, **WHOLE), None, None, ResumeStep.RESTART_PLAIN, False),
    ("TR21 a slice under 200", head(200, offset=0, length=10, total=100), None, None, ResumeStep.RESTART_PLAIN, False),
    ("TR21 a slice from the middle under 200", head(200, **REST), None, None, ResumeStep.RESTART_PLAIN, False),
    ("412 nobody asked for", head(412), None, None, ResumeStep.REFUSE, False),
    ("416 nobody asked for", head(416, total=0), None, None, ResumeStep.REFUSE, False),
    ("another status", head(204), None, None, ResumeStep.REFUSE, False),
    ("the rest", head(206, **REST), PARTIAL, None, ResumeStep.APPEND, False),
    ("the rest, size listed", head(206, **REST), PARTIAL, 100, ResumeStep.APPEND, False),
    ("a first part of the rest", head(206, **{**REST, "length": 5}), PARTIAL, None, ResumeStep.APPEND, False),
    ("the rest without its length", head(206, **{**REST, "length": None}), PARTIAL, None, ResumeStep.APPEND, False),
    ("TR17 the range is ignored", head(200, **WHOLE), PARTIAL, None, ResumeStep.RESTART_HERE, True),
    ("TR17 and the size is another", head(200, **WHOLE), PARTIAL, 120, ResumeStep.CHANGED, False),
    ("TR18 starts at 0", head(206, **WHOLE), PARTIAL, None, ResumeStep.RESTART_PLAIN, True),
    ("TR18 starts later", head(206, **{**REST, "offset": 41}), PARTIAL, None, ResumeStep.RESTART_PLAIN, True),
    ("TR19 another total", head(206, **{**REST, "total": 101, "length": 61}), PARTIAL, None, ResumeStep.CHANGED, False),
    ("TR19 another ETag", head(206, **{**REST, "etag": '"other"'}), PARTIAL, None, ResumeStep.CHANGED, False),
    ("another size than listed", head(206, **REST), PARTIAL, 99, ResumeStep.CHANGED, False),
    ("TR21 the rest under 200", head(200, **REST), PARTIAL, None, ResumeStep.APPEND, False),
    ("TR21 a slice from 0 under 200", head(200, length=10, total=100), PARTIAL, None, ResumeStep.RESTART_PLAIN, True),
    (
        "TR22 206 without Content-Range",
        head(206, offset=None, length=60),
        PARTIAL,
        None,
        ResumeStep.RESTART_PLAIN,
        True,
    ),
    (
        "TR22 multipart",
        head(206, **REST, content_type="multipart/byteranges; boundary=x"),
        PARTIAL,
        None,
        ResumeStep.RESTART_PLAIN,
        True,
    ),
    ("no ETag on the rest", head(206, **{**REST, "etag": None}), PARTIAL, None, ResumeStep.RESTART_PLAIN, True),
    (
        "weak ETag on the rest",
        head(206, **{**REST, "etag": f"W/{ETAG}"}),
        PARTIAL,
        None,
        ResumeStep.RESTART_PLAIN,
        True,
    ),
    ("total unknown", head(206, **{**REST, "total": None}), PARTIAL, None, ResumeStep.RESTART_PLAIN, False),
    ("more than the rest", head(206, **{**REST, "length": 61}), PARTIAL, None, ResumeStep.RESTART_PLAIN, False),
    ("the rest, encoded", head(206, **REST, encoding="gzip"), PARTIAL, None, ResumeStep.RESTART_PLAIN, True),
    ("TR25 412", head(412), PARTIAL, None, ResumeStep.CHANGED, False),
    (
        "416 with what we have",
        head(416, offset=None, total=40),
        PartialContent(offset=40, validator=ETAG),
        None,
        ResumeStep.COMPLETE,
        False,
    ),
    ("416 of another size", head(416, offset=None, total=40), PARTIAL, None, ResumeStep.CHANGED, False),
    (
        "416 with less",
        head(416, offset=None, total=39),
        PartialContent(offset=40, validator=ETAG),
        None,
        ResumeStep.CHANGED,
        False,
    ),
    ("416 with more", head(416, offset=None, total=100), PARTIAL, None, ResumeStep.RESTART_PLAIN, True),
    ("416 without a total", head(416, offset=None), PARTIAL, None, ResumeStep.RESTART_PLAIN, True),
    (
        "416 of another ETag",
        head(416, total=40, etag='"b"'),
        PartialContent(offset=40, validator=ETAG),
        None,
        ResumeStep.CHANGED,
        False,
    ),
    (
        "416, listed otherwise",
        head(416, total=40),
        PartialContent(offset=40, validator=ETAG),
        41,
        ResumeStep.CHANGED,
        False,
    ),
    ("TR10 encoded", head(200, **WHOLE, encoding="gzip"), None, None, ResumeStep.REFUSE, False),
    ("encoded twice", head(200, **WHOLE, encoding="gzip, br"), None, None, ResumeStep.REFUSE, False),
]


@pytest.mark.parametrize(
    ("answer", "held", "listed", "step", "ignored"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_the_table_says_what_to_do_with_each_answer(
    answer: BodyHead, held: PartialContent | None, listed: int | None, step: ResumeStep, *, ignored: bool
) -> None:
    """One row per kind of answer."""
    decision = judge_head(answer, held, expected=listed)

    assert (decision.step, decision.ranges_ignored) == (step, ignored)
    assert decision.reason


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", " GZIP "])
def test_a_stored_gzip_file_may_be_called_encoded(encoding: str) -> None:
    """TR09: hosts name the encoding of what is stored; the bytes are the file all the same."""
    decision = judge_head(head(200, **WHOLE, encoding=encoding), expected=100, gzipped=True)

    assert decision.step is ResumeStep.APPEND


def test_a_stored_gzip_file_in_another_encoding_is_refused() -> None:
    """Only gzip can be the host's word for what is stored."""
    assert judge_head(head(200, **WHOLE, encoding="br"), gzipped=True).step is ResumeStep.REFUSE


@pytest.mark.parametrize("validator", [None, "", 'W/"a"', "bare"])
def test_a_range_without_a_strong_validator_is_never_judged(validator: str | None) -> None:
    """Such a range must not have been asked for."""
    with pytest.raises(ValueError, match="without a strong validator"):
        judge_head(head(206, **REST), PartialContent(offset=40, validator=validator))

    assert not PartialContent(offset=40, validator=validator).resumable
    assert not PartialContent(offset=0, validator=ETAG).resumable


HEADS = st.builds(
    BodyHead,
    status=st.sampled_from([200, 206, 412, 416, 204, 304]),
    offset=st.one_of(st.none(), st.integers(0, 120)),
    length=st.one_of(st.none(), st.integers(0, 120)),
    total=st.one_of(st.none(), st.integers(0, 120)),
    etag=st.sampled_from([None, ETAG, '"other"', f"W/{ETAG}", "bare"]),
    encoding=st.sampled_from([None, "identity", "gzip", "br"]),
    content_type=st.sampled_from([None, "text/html", "multipart/byteranges; boundary=x"]),
)
SIZES = st.one_of(st.none(), st.integers(0, 120))


@given(HEADS, SIZES, SIZES, st.booleans())
def test_a_range_is_joined_only_to_what_is_proved_to_belong(
    answer: BodyHead, known: int | None, listed: int | None, gzipped: bool
) -> None:
    """Whatever the answer says: it is appended only with the same ETag, the same place, and sizes that agree."""
    held = PartialContent(offset=40, validator=ETAG, total=known)

    decision = judge_head(answer, held, expected=listed, gzipped=gzipped)

    if decision.step is ResumeStep.APPEND:
        assert answer.status in (200, 206)
        assert (answer.offset, answer.etag) == (40, ETAG)
        assert answer.total is not None
        assert answer.total in (known, answer.total if known is None else known)
        assert listed in (None, answer.total)
        assert answer.encoding in (None, "identity") or answer.status == 200
    if decision.step is ResumeStep.COMPLETE:
        assert answer.status == 416
        assert answer.total == 40
        assert known in (None, 40)
        assert listed in (None, 40)


@given(HEADS, SIZES, st.booleans())
def test_a_whole_answer_is_written_only_from_its_first_byte(
    answer: BodyHead, listed: int | None, gzipped: bool
) -> None:
    """Without a range, nothing but a whole body under status 200 is ever written."""
    decision = judge_head(answer, None, expected=listed, gzipped=gzipped)

    assert isinstance(decision, HeadDecision)
    assert decision.step not in (ResumeStep.RESTART_HERE, ResumeStep.COMPLETE)
    if decision.step is ResumeStep.APPEND:
        assert (answer.status, answer.offset) == (200, 0)
        assert answer.length is None or answer.total is None or answer.length >= answer.total


PIECE = BodyHead(status=206, offset=40, length=20, total=100, etag=ETAG)


@pytest.mark.parametrize(
    ("change", "right"),
    [
        ({}, True),
        ({"length": 60}, False),
        ({"length": 19}, False),
        ({"length": None}, False),
        ({"status": 200}, False),
        ({"status": 412}, False),
        ({"status": 416}, False),
        ({"offset": 41}, False),
        ({"offset": None}, False),
        ({"total": 101}, False),
        ({"total": None}, False),
        ({"etag": '"other"'}, False),
        ({"etag": 'W/"0x8DA"'}, False),
        ({"etag": None}, False),
        ({"encoding": "gzip"}, False),
        ({"content_type": "multipart/byteranges; boundary=b"}, False),
    ],
)
def test_only_exactly_the_piece_that_was_asked_for_is_one(change: dict[str, Any], right: bool) -> None:
    """Bytes 40 to 59 of 100."""
    assert is_piece(attrs.evolve(PIECE, **change), PARTIAL, until=60) is right


def test_nothing_is_a_piece_of_a_file_without_a_strong_validator() -> None:
    """Equal weak tags prove nothing."""
    weak = 'W/"0x8DA"'
    assert not is_piece(attrs.evolve(PIECE, etag=weak), attrs.evolve(PARTIAL, validator=weak), until=60)
