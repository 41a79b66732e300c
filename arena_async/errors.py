"""
Every error this library raises, as one tree.

::

    ArenaAsyncError
    ├── ConfigurationError              a setting or argument is wrong; raised before anything is sent or written
    ├── ClosedError                     the object was closed, or is used from another event loop or after a fork
    ├── UnsafeUrlError                  a URL that must not be contacted (scheme, address, origin, redirect)
    ├── TransportError                  no usable response: connect, reset, cut off     .request .attempts
    ├── TlsError                        the certificate or the TLS handshake failed     .request .attempts
    ├── DeadlineError                   a timeout of ours (requests and waits)          .request .attempts
    ├── ApiError                        the service returned an error  .status .code .request .transient .stale_login
    │   ├── AuthenticationError         the login, session or token was not accepted
    │   │   ├── AccountLockedError      locked for some minutes                       .retry_at
    │   │   └── SessionDisplacedError   another login of the same user ended the session
    │   ├── PermissionDeniedError       known user, but not allowed (or it does not exist)
    │   ├── NotFoundError               the object is not there (any more)
    │   ├── ConflictError               the object is in a state that forbids this
    │   ├── ServerError                 the service failed, or is unavailable
    │   │   └── HostPausedError         not sent: the host failed repeatedly, and is left alone  .retry_after .lasting
    │   ├── QuotaExhaustedError         the daily quota is used up      .resets_at .remaining .reserve .cursor
    │   └── ThrottledError              too many requests in a short time             .retry_after
    ├── DecodeError                     the payload is not what the service documents     .problems
    ├── ListingError                    a listing shrank, looped or contradicts itself    .cursor
    ├── RunFailedError                  a run of the service failed                       .run
    ├── NotAsRequestedError             the service did something else than requested  .result
    ├── TransferError                   one file could not be downloaded            .file .attempts
    │   ├── IntegrityError              truncated, or a digest or CRC differs       .expected .actual
    │   ├── ContentError                not the requested content (an HTML page, too large, ...)
    │   ├── SourceChangedError          the remote file changed during the download
    │   ├── LinkExpiredError            the signed URL expired
    │   ├── StalledError                the body stalled, or is slower than allowed
    │   └── StorageError                the local disk failed
    │       ├── DiskFullError           no space left
    │       ├── DestinationBusyError    the destination is used by something else
    │       └── UnsafeNameError         no safe local name is possible
    └── TransfersFailedError            several files failed; also an ``ExceptionGroup``

All of them can be pickled. None contains a password, a session id, a token or the query of a signed URL.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self, TypedDict, Unpack

__all__ = [
    "AccountLockedError",
    "ApiError",
    "ArenaAsyncError",
    "AuthenticationError",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "ContentError",
    "DeadlineError",
    "DecodeError",
    "DestinationBusyError",
    "DiskFullError",
    "HostPausedError",
    "IntegrityError",
    "LinkExpiredError",
    "ListingError",
    "NotAsRequestedError",
    "NotFoundError",
    "PermissionDeniedError",
    "QuotaExhaustedError",
    "RunFailedError",
    "ServerError",
    "SessionDisplacedError",
    "SourceChangedError",
    "StalledError",
    "StorageError",
    "ThrottledError",
    "TlsError",
    "TransferError",
    "TransfersFailedError",
    "TransportError",
    "UnsafeNameError",
    "UnsafeUrlError",
]


class ArenaAsyncError(Exception):
    """
    The base of every error this library raises.

    The message is a complete sentence: what was attempted, what happened, what it means, what to do.
    Every subclass takes the message alone as its positional argument, which is what lets it be pickled.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class ConfigurationError(ArenaAsyncError):
    """A setting or an argument is wrong. Nothing was sent and nothing was written."""


class ClosedError(ArenaAsyncError):
    """The object was closed before, or is used from another event loop, or after a fork."""


class UnsafeUrlError(ArenaAsyncError):
    """A URL that must not be contacted: its scheme, its address, or where a redirect points."""


class _RequestError(ArenaAsyncError):
    """Base of the errors about one request."""

    def __init__(self, message: str = "", *, request: str | None = None, attempts: int = 1, sent: bool = False) -> None:
        super().__init__(message)
        #: The method and the URL without its query, or None.
        self.request = request
        #: The number of requests, including the first one.
        self.attempts = attempts
        #: Whether the last of them was sent, so that the service may have processed it although there was no response.
        self.sent = sent


class TransportError(_RequestError):
    """No usable response: the name was not found, the connection was refused, reset or cut off."""

    def __init__(
        self,
        message: str = "",
        *,
        request: str | None = None,
        attempts: int = 1,
        sent: bool = False,
        unanswered_reuse: bool = False,
    ) -> None:
        super().__init__(message, request=request, attempts=attempts, sent=sent)
        #: A reused connection was closed before any byte of the response: most likely the server ignored the request.
        self.unanswered_reuse = unanswered_reuse


class TlsError(_RequestError):
    """The certificate or the handshake failed. It is never retried, and checks are never relaxed."""


class DeadlineError(_RequestError):
    """A timeout of ours, of a request or a wait."""


class _ApiErrorFields(TypedDict, total=False):
    """The fields that every :class:`ApiError` takes."""

    status: int | None
    code: int | None
    request: str | None
    transient: bool
    stale_login: bool
    retry_after: float | None


class ApiError(ArenaAsyncError):
    """The service responded with an error."""

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: int | None = None,
        request: str | None = None,
        transient: bool = False,
        stale_login: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        #: The HTTP status, or None if the request was rejected before it was sent.
        self.status = status
        #: The vendor's own error number, or None.
        self.code = code
        #: The method and the URL without its query, or None.
        self.request = request
        #: Whether the same request may succeed later without any change.
        self.transient = transient
        #: Whether a new login may help.
        self.stale_login = stale_login
        #: The seconds that the service requested to wait, or None.
        self.retry_after = retry_after


class AuthenticationError(ApiError):
    """The login, the session or the token was not accepted."""


class AccountLockedError(AuthenticationError):
    """The account is locked for some minutes after too many rejected logins."""

    def __init__(
        self, message: str = "", *, retry_at: datetime | None = None, **fields: Unpack[_ApiErrorFields]
    ) -> None:
        super().__init__(message, **fields)
        #: When a login may be tried again (aware), or None.
        self.retry_at = retry_at


class SessionDisplacedError(AuthenticationError):
    """Another login of the same user ended this session, repeatedly."""


class PermissionDeniedError(ApiError):
    """The user is known but not permitted, or the object does not exist."""


class NotFoundError(ApiError):
    """The object does not exist (any more)."""


class ConflictError(ApiError):
    """The object is in a state that forbids this."""


class ServerError(ApiError):
    """The service failed, or a part of it is unavailable."""


class HostPausedError(ServerError):
    """
    Nothing was sent: the host failed repeatedly or stated a pause, and no request is sent to it for a while.

    ``retry_after`` is the number of seconds after which it is tried again.
    """

    def __init__(self, message: str = "", *, lasting: bool = False, **fields: Unpack[_ApiErrorFields]) -> None:
        super().__init__(message, **fields)
        #: Whether the outage is longer than ``RetryPolicy.timeout``, so that it is not waited for any more.
        self.lasting = lasting


class QuotaExhaustedError(ApiError):
    """The daily quota is used up, down to the reserve. No further request is sent before the reset."""

    def __init__(
        self,
        message: str = "",
        *,
        resets_at: datetime | None = None,
        remaining: int | None = None,
        reserve: int = 0,
        cursor: int | None = None,
        **fields: Unpack[_ApiErrorFields],
    ) -> None:
        super().__init__(message, **fields)
        #: When the quota resets (aware), or None if unknown.
        self.resets_at = resets_at
        #: The requests left as last stated by the service, or None.
        self.remaining = remaining
        #: The requests that the caller reserved for other clients.
        self.reserve = reserve
        #: The offset at which an interrupted listing can be continued, or None.
        self.cursor = cursor


class ThrottledError(ApiError):
    """Too many requests in a short time; ``retry_after`` is the number of seconds to wait."""


class DecodeError(ArenaAsyncError):
    """The payload is not what the service documents: malformed, an HTML page, too large, or of another shape."""

    def __init__(self, message: str = "", *, problems: Sequence[str] = (), request: str | None = None) -> None:
        super().__init__(message)
        #: One line per problem, each with the path into the payload.
        self.problems = tuple(problems)
        #: The method and the URL without its query, or None.
        self.request = request


class ListingError(ArenaAsyncError):
    """A listing moved, looped or contradicts what was stated about it: it is not known to be whole."""

    def __init__(self, message: str = "", *, cursor: int | None = None, request: str | None = None) -> None:
        super().__init__(message)
        #: The offset at which the listing can be continued, or None.
        self.cursor = cursor
        #: The method and the URL without its query, or None.
        self.request = request


class RunFailedError(ArenaAsyncError):
    """A run of the service (extract, export, import, data request) ended badly."""

    def __init__(self, message: str = "", *, run: Any = None) -> None:
        super().__init__(message)
        #: The run as the service last showed it.
        self.run = run


class NotAsRequestedError(ArenaAsyncError):
    """By its own response the service did something else than requested; the message says what that means."""

    def __init__(self, message: str = "", *, result: Any = None) -> None:
        super().__init__(message)
        #: What the service responded with.
        self.result = result


class TransferError(ArenaAsyncError):
    """One file could not be downloaded."""

    def __init__(self, message: str = "", *, file: str | None = None, attempts: int = 0) -> None:
        super().__init__(message)
        #: The key of the file.
        self.file = file
        #: How many times its content was requested.
        self.attempts = attempts


class IntegrityError(TransferError):
    """The content is incomplete or wrong; it was not stored under the final name."""

    def __init__(
        self,
        message: str = "",
        *,
        expected: str | int | None = None,
        actual: str | int | None = None,
        file: str | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, file=file, attempts=attempts)
        #: The expected size or digest.
        self.expected = expected
        #: The received size or digest.
        self.actual = actual


class ContentError(TransferError):
    """The response is not the requested content: an HTML page, a JSON error with status 200, or too large."""

    def __init__(self, message: str = "", *, page: bool = False, file: str | None = None, attempts: int = 0) -> None:
        super().__init__(message, file=file, attempts=attempts)
        #: Whether a document of another server came (HTML, XML, JSON): a sign-in or maintenance page. It says nothing
        #: about this file, and other files of the host will get the same.
        self.page = page


class SourceChangedError(TransferError):
    """The remote file changed during the download, more often than it was retried."""


class LinkExpiredError(TransferError):
    """The signed URL expired. The listing has a fresh one."""


class StalledError(TransferError):
    """The body stalled, or was slower than the slowest rate allowed."""


class StorageError(TransferError):
    """The local disk failed. No request to the service can fix that, so none is sent."""


class DiskFullError(StorageError):
    """There is no space left on the local disk, or the disk quota of the user is used up."""


class DestinationBusyError(StorageError):
    """The destination is used by another kind of file, another tenant, or another job of this run."""


class UnsafeNameError(StorageError):
    """No safe local name is possible, or the name is outside the directory."""


class TransfersFailedError(ArenaAsyncError, ExceptionGroup[ArenaAsyncError]):
    """Some files of a run failed; ``exceptions`` holds one error per file."""

    def __new__(cls, message: str, exceptions: Sequence[ArenaAsyncError]) -> Self:
        """Build the group; ``exceptions`` must not be empty."""
        return super().__new__(cls, message, exceptions)

    def __init__(self, message: str, exceptions: Sequence[ArenaAsyncError]) -> None:
        ExceptionGroup.__init__(self, message, exceptions)

    def derive(self, excs: Sequence[Exception]) -> TransfersFailedError:  # type: ignore[override]
        """Keep the class when the group is split, so that ``except*`` returns groups of this class."""
        return TransfersFailedError(self.message, excs)  # type: ignore[arg-type]
