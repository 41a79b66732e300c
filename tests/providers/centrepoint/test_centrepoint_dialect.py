"""Pages and rejections of CentrePoint, read from plain values."""

from __future__ import annotations

from typing import Any

import pytest

from arena_async.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    ThrottledError,
)
from arena_async.protocol.messages import Headers, Request, Response
from arena_async.protocol.pagination import ListShape, PageRequest
from arena_async.providers.centrepoint.adapter import CentrePointAdapter, list_shape

DIALECT = CentrePointAdapter()
SHAPE = list_shape("id")
REQUESTED = PageRequest(offset=200, limit=100)
REQUEST = Request(method="GET", path="/dataaccess/v3/studies/234/datasetfiles", scope="DataAccess")


def envelope(**changes: Any) -> dict[str, Any]:
    """Return a page with some keys changed, or taken away by the word absent."""
    page = {"items": [{"id": 1}], "links": {}, "totalCount": 201, "limit": 100, "offset": 200} | changes
    return {name: value for name, value in page.items() if value != "absent"}


def refusal(status: int, body: bytes = b"", **headers: str) -> ApiError:
    """Return the error of a rejection."""
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return DIALECT.read_error(REQUEST, Response(status=status, headers=Headers(pairs), body=body, request=REQUEST.line))


def test_limit_and_offset_are_always_sent() -> None:
    """No default is documented, so none is relied on."""
    assert DIALECT.page_params(REQUESTED) == (("limit", "100"), ("offset", "200"))


def test_an_envelope_becomes_a_page() -> None:
    """Rows, total and both echoes are taken; ``links`` is not looked at."""
    links = {"next": "https://elsewhere.example/DataRetrieval/v3/Studies?limit=100&offset=300"}

    page = DIALECT.read_page(envelope(links=links), REQUESTED, SHAPE)

    assert page.items == ({"id": 1},)
    assert (page.offset, page.limit, page.total) == (200, 100, 201)
    assert (page.echoed_offset, page.echoed_limit) == (200, 100)


def test_numbers_may_come_as_text_and_echoes_may_be_missing() -> None:
    """Integer-like text is read; an absent echo is no contradiction."""
    page = DIALECT.read_page(envelope(totalCount="500", limit="absent", offset="absent"), REQUESTED, SHAPE)

    assert (page.total, page.echoed_offset, page.echoed_limit) == (500, None, None)


@pytest.mark.parametrize("total", [-1, "-1", True, None, 500.0, 500.5, "500.5", "", "many", 2**63, [], "absent"])
def test_a_total_that_is_no_number_of_rows_is_refused(total: object) -> None:
    """A listing whose total cannot be believed cannot be known to be whole."""
    with pytest.raises(DecodeError) as caught:
        DIALECT.read_page(envelope(totalCount=total), REQUESTED, SHAPE)

    assert caught.value.problems[0].startswith("$.totalCount")


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        "items",
        7,
        {},
        envelope(items="absent"),
        envelope(items=None),
        envelope(items={}),
        envelope(items=["x"]),
    ],
)
def test_what_is_no_page_is_refused(payload: object) -> None:
    """A bare array or an error object in place of a page is a decode error."""
    with pytest.raises(DecodeError):
        DIALECT.read_page(payload, REQUESTED, SHAPE)


def test_a_bare_array_is_read_where_it_is_declared() -> None:
    """The file lists of raw and epoch requests have no envelope."""
    shape = ListShape(max_page_size=100, paged=False, bare=True, key="id")

    page = DIALECT.read_page([{"id": 1}, {"id": 2}], REQUESTED, shape)

    assert page.items == ({"id": 1}, {"id": 2})
    assert page.total is None
    with pytest.raises(DecodeError):
        DIALECT.read_page(envelope(), REQUESTED, shape)


def test_no_answer_says_what_is_left() -> None:
    """There is no quota header to read."""
    assert DIALECT.read_quota(Headers([("X-Arena-Requests-Remaining", "5")])) is None


@pytest.mark.parametrize(
    ("status", "kind", "transient"),
    [
        (400, ApiError, False),
        (302, ApiError, False),
        (403, PermissionDeniedError, False),
        (404, NotFoundError, False),
        (409, ConflictError, False),
        (408, ServerError, True),
        (429, ThrottledError, True),
        (500, ServerError, True),
        (501, ServerError, False),
        (502, ServerError, True),
        (503, ServerError, True),
        (504, ServerError, True),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[ApiError], *, transient: bool) -> None:
    """Class, status, request line and whether another try may help."""
    error = refusal(status, b"Something is wrong")

    assert type(error) is kind
    assert error.status == status
    assert error.transient is transient
    assert error.stale_login is False
    assert error.request == "GET /dataaccess/v3/studies/234/datasetfiles"
    assert str(error).startswith(f"GET /dataaccess/v3/studies/234/datasetfiles: {status} (Something is wrong).")


def test_a_token_that_was_not_accepted_is_a_stale_login() -> None:
    """A new token may help, once."""
    error = refusal(401)

    assert type(error) is AuthenticationError
    assert error.stale_login
    assert "scope DataAccess" in str(error)


def test_a_403_names_the_scope_and_the_other_causes() -> None:
    """The service has one response for three causes, so all three are named."""
    said = str(refusal(403, b"Forbidden"))

    assert "scope DataAccess" in said
    assert "no access to this study" in said
    assert "plain http" in said


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry_After": "17"}, 17),
        ({"Retry_After": "1.5"}, 1.5),
        ({"Retry_After": "-1"}, 0),
        ({"Retry_After": "Thu, 01 Feb 2024 10:00:30 GMT", "Date": "Thu, 01 Feb 2024 10:00:00 GMT"}, 30),
        ({"Retry_After": "Thu, 01 Feb 2024 10:00:30 GMT"}, 0),
        ({"Retry_After": "soon"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_is_asked_for_is_read(headers: dict[str, str], wait: float | None) -> None:
    """Seconds, or a date by the server's own clock; nonsense is nothing."""
    assert refusal(429, **headers).retry_after == wait


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"plain text", "(plain text)"),
        (b'"a JSON string"', "(a JSON string)"),
        (b'{"title": "Bad", "detail": "limit is 0"}', "(Bad: limit is 0)"),
        (b'{"message": "no"}', "(no)"),
        (b'{"code": 7}', '({"code": 7})'),
        (b'{"code": ', '({"code":)'),
        (b"[" * 5000, "([[["),
        (b"<html><body>No</body></html>", "(a page of markup)"),
        (b"", "400."),
        (b"\xff\x00\x1b[31m", "\\x1b"),
        (b"look: https://h/x?sig=PLANTED%2Bsig%3D&se=1", "sig=***"),
        (b"Authorization: Bearer PLANTED", "***"),
        (b"x" * 100_000, "..."),
    ],
)
def test_the_servers_own_words_are_shown_scrubbed_and_cut(body: bytes, words: str) -> None:
    """Text, JSON or markup: what it says is kept, secrets and control characters are not."""
    said = str(refusal(400, body))

    assert words in said
    assert "PLANTED" not in said
    assert "\x1b" not in said
    assert len(said) < 700
