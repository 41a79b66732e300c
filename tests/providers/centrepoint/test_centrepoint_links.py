"""What the rejections of the file host mean, read from plain values."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    LinkExpiredError,
    PermissionDeniedError,
    ServerError,
    SourceChangedError,
    ThrottledError,
)
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Headers, Request, Response
from arena_async.providers.centrepoint.links import link_end, read_refusal

PLACE = "https://datafiles.actigraphcorp.com/study-0000000234/a.csv.gz"
URL = f"{PLACE}?skt=2024-02-29T15%3A00%3A51Z&ske=2024-02-29T19%3A00%3A51Z&se=2024-02-29T19%3A00%3A51Z&sig=PLANTED%3D"
FILE = RemoteFile(
    key="k",
    service="centrepoint",
    tenant="t",
    parts=("centrepoint", "study-234"),
    stem="ActivityDaily8",
    extension=".csv.gz",
)
ENDS = datetime(2024, 2, 29, 19, 0, 51, tzinfo=UTC)
LONG_BEFORE = datetime(2024, 2, 29, 16, 0, tzinfo=UTC)
AFTER = datetime(2024, 2, 29, 19, 1, tzinfo=UTC)


def xml(code: str) -> bytes:
    """Return the body of a rejection, with the byte order mark and the signature that storage echoes."""
    text = f'\ufeff<?xml version="1.0"?><Error><Code>{code}</Code><Message>no: sig=PLANTED%3D</Message></Error>'
    return text.encode()


def refusal(
    status: int,
    body: bytes = b"",
    *,
    url: str = URL,
    now: datetime = LONG_BEFORE,
    headers: dict[str, str] | None = None,
) -> ArenaAsyncError:
    """Return the error of a rejection."""
    request = Request(method="GET", path=url, scope=None, metered=False)
    response = Response(status=status, headers=Headers((headers or {}).items()), body=body, request=request.line)
    return read_refusal(request, response, file=FILE, now=now)


@pytest.mark.parametrize(
    ("url", "end"),
    [
        (URL, ENDS),
        (
            f"{PLACE}?se=2024-02-29T19%3A00%3A51Z&ske=2024-02-29T18%3A00%3A00Z",
            ENDS.replace(hour=18, minute=0, second=0),
        ),
        (f"{PLACE}?se=2024-02-29", datetime(2024, 2, 29, tzinfo=UTC)),
        (f"{PLACE}?se=soon&sig=x", None),
        (PLACE, None),
        ("http://[", None),
    ],
)
def test_a_link_states_its_own_end(url: str, end: datetime | None) -> None:
    """The earlier of its own and of its key's end; nonsense is no end."""
    assert link_end(url) == end


@pytest.mark.parametrize("code", ["AuthenticationFailed", "AuthorizationFailure"])
@pytest.mark.parametrize("by_header", [True, False])
def test_a_403_of_a_link_past_its_end_is_an_expired_link(code: str, *, by_header: bool) -> None:
    """By the header or by the body, since a response may have only one of them."""
    headers = {"x-ms-error-code": code} if by_header else {}

    error = refusal(403, b"" if by_header else xml(code), now=AFTER, headers=headers)

    assert type(error) is LinkExpiredError
    assert error.file == "k"
    assert "List again" in str(error)


def test_the_clock_of_the_file_host_decides_and_not_ours() -> None:
    """Our clock may be hours off."""
    body, late, early = xml("AuthenticationFailed"), "Thu, 29 Feb 2024 19:01:00 GMT", "Thu, 29 Feb 2024 16:00:00 GMT"

    assert type(refusal(403, body, now=LONG_BEFORE, headers={"Date": late})) is LinkExpiredError
    assert type(refusal(403, body, now=AFTER, headers={"Date": early})) is PermissionDeniedError


def test_without_its_clock_ours_may_be_some_minutes_off() -> None:
    """A quarter of an hour before the end counts as the end then."""
    body = xml("AuthenticationFailed")

    assert type(refusal(403, body, now=ENDS.replace(hour=18, minute=46))) is LinkExpiredError
    assert type(refusal(403, body, now=ENDS.replace(hour=18, minute=45, second=50))) is PermissionDeniedError


def test_a_link_that_states_no_end_may_be_over_at_any_time() -> None:
    """Then the code alone decides; a network rule is not an end."""
    bare = f"{PLACE}?sig=PLANTED%3D"

    assert type(refusal(403, xml("AuthenticationFailed"), url=bare)) is LinkExpiredError
    assert type(refusal(403, xml("AuthorizationFailure"), url=bare)) is PermissionDeniedError


@pytest.mark.parametrize(
    ("status", "code", "kind", "transient"),
    [
        (403, "AuthenticationFailed", PermissionDeniedError, False),
        (403, "AuthorizationPermissionMismatch", PermissionDeniedError, False),
        (403, "", PermissionDeniedError, False),
        (401, "NoAuthenticationInformation", PermissionDeniedError, False),
        (400, "InvalidQueryParameterValue", ApiError, False),
        (409, "PublicAccessNotPermitted", ApiError, False),
        (429, "", ThrottledError, True),
        (408, "", ServerError, True),
        (500, "InternalError", ServerError, True),
        (503, "ServerBusy", ServerError, True),
        (505, "", ServerError, False),
    ],
)
def test_other_refusals_have_their_errors(status: int, code: str, kind: type[ApiError], *, transient: bool) -> None:
    """Class, and whether the same link may work later."""
    error = refusal(status, xml(code) if code else b"", headers={"Retry-After": "3"})

    assert type(error) is kind
    assert error.status == status
    assert error.transient is transient
    assert error.retry_after == (3 if transient else None) or not transient
    assert error.stale_login is False


@pytest.mark.parametrize("status", [404, 410])
def test_content_that_is_gone_was_replaced(status: int) -> None:
    """A later run of the program makes another name, and the list has it."""
    error = refusal(status, xml("BlobNotFound"))

    assert type(error) is SourceChangedError
    assert error.file == "k"
    assert "List again" in str(error)


@pytest.mark.parametrize("status", [400, 403, 404, 429, 503])
@pytest.mark.parametrize("body", [b"", xml("AuthenticationFailed"), b"sig=PLANTED%3D", b"<Code>sig=PLANTED</Code>"])
def test_no_refusal_shows_the_query_of_a_link(status: int, body: bytes) -> None:
    """Neither the link nor what the server echoes of it."""
    error = refusal(status, body, now=AFTER, headers={"x-ms-error-code": "sig=PLANTED"})

    assert "PLANTED" not in str(error) + repr(error) + repr(vars(error))
    assert PLACE in str(error)
    assert "centrepoint/study-234/ActivityDaily8.csv.gz" in str(error)
