"""
Every error this library raises, as one tree.

::

    ArenaAsyncError
    ├── ConfigurationError              a setting or argument is wrong; raised before anything is sent or written
    ├── ClosedError                     the object was closed, or is used from another event loop or after a fork
    ├── UnsafeUrlError                  a URL that must not be contacted (scheme, address, origin, redirect)
    ├── TransportError                  no usable answer: connect, reset, cut off       .request .attempts
    ├── TlsError                        the certificate or the TLS handshake was refused   .request .attempts
    ├── DeadlineError                   a time limit of ours ran out (requests and waits)  .request .attempts
    ├── ApiError                        the service said no     .status .code .request .transient .stale_login
    │   ├── AuthenticationError         the login, session or token was not accepted
    │   │   ├── AccountLockedError      locked for some minutes                       .retry_at
    │   │   └── SessionDisplacedError   another login of the same user took the session
    │   ├── PermissionDeniedError       known user, but not allowed (or it does not exist)
    │   ├── NotFoundError               the object is not there (any more)
    │   ├── ConflictError               the object is in a state that forbids this
    │   ├── ServerError                 the service failed, or is away for now
    │   ├── QuotaExhaustedError         the daily allowance is used up      .resets_at .remaining .reserve .cursor
    │   └── ThrottledError              too many requests in too short a time             .retry_after
    ├── DecodeError                     the payload is not what the service documents     .problems
    ├── ListingError                    a listing shrank, looped or lied                  .cursor
    ├── RunFailedError                  a run of the service ended badly                  .run
    ├── TransferError                   one file could not be brought home          .file .attempts
    │   ├── IntegrityError              truncated, or a digest or CRC differs       .expected .actual
    │   ├── ContentError                not what was asked for (an HTML page, too large, ...)
    │   ├── SourceChangedError          the remote file changed while it was fetched
    │   ├── LinkExpiredError            the signed link is over
    │   ├── StalledError                the body stopped, or is slower than allowed
    │   └── StorageError                the local disk said no
    │       ├── DiskFullError           no room left
    │       ├── DestinationBusyError    the destination is taken by something else
    │       └── UnsafeNameError         no safe local name can be made
    └── TransfersFailedError            several files failed; also an ``ExceptionGroup``

All of them can be pickled. None carries a password, a session id, a token or the query of a signed link.
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
    "IntegrityError",
    "LinkExpiredError",
    "ListingError",
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

    The message is a whole sentence: what was attempted, what came, what it means, what to do.
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
    """What the errors about one request share."""

    def __init__(self, message: str = "", *, request: str | None = None, attempts: int = 1, sent: bool = False) -> None:
        super().__init__(message)
        #: The method and the address without its query, or None.
        self.request = request
        #: How many requests were made, the first one included.
        self.attempts = attempts
        #: Whether the last of them had left, so that the service may have acted on it although no answer came.
        self.sent = sent


class TransportError(_RequestError):
    """No usable answer came: the name was not found, the connection was refused, reset or cut off."""

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
        #: A reused connection died before any byte of the answer: the server never saw the request, most likely.
        self.unanswered_reuse = unanswered_reuse


class TlsError(_RequestError):
    """The certificate or the handshake was refused. It is never tried again and never loosened."""


class DeadlineError(_RequestError):
    """A time limit of ours ran out, for a request or for a wait."""


class _ApiErrorFields(TypedDict, total=False):
    """The fields that every :class:`ApiError` takes."""

    status: int | None
    code: int | None
    request: str | None
    transient: bool
    stale_login: bool
    retry_after: float | None


class ApiError(ArenaAsyncError):
    """The service answered, and the answer is no."""

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
        #: The HTTP status, or None when the refusal was ours (nothing was sent).
        self.status = status
        #: The vendor's own error number, or None.
        self.code = code
        #: The method and the address without its query, or None.
        self.request = request
        #: Whether the same request may succeed later without any change.
        self.transient = transient
        #: Whether a new login may help.
        self.stale_login = stale_login
        #: How many seconds the service asked to wait, or None.
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
    """Another login of the same user ended this session, again after it was taken back."""


class PermissionDeniedError(ApiError):
    """The service knows who asks and does not allow it, or the object does not exist."""


class NotFoundError(ApiError):
    """The object is not there, or not any more."""


class ConflictError(ApiError):
    """The object is in a state that forbids this."""


class ServerError(ApiError):
    """The service failed, or a part of it is away for now."""


class QuotaExhaustedError(ApiError):
    """The daily allowance is used up, down to the reserve. No further request leaves before the reset."""

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
        #: When the allowance starts anew (aware), or None when it is not known.
        self.resets_at = resets_at
        #: How many requests the service last said are left, or None.
        self.remaining = remaining
        #: How many requests the caller asked to leave untouched.
        self.reserve = reserve
        #: The offset at which a listing that was interrupted by this can be taken up again, or None.
        self.cursor = cursor


class ThrottledError(ApiError):
    """Too many requests in too short a time; ``retry_after`` says for how many seconds to wait."""


class DecodeError(ArenaAsyncError):
    """The payload is not what the service documents: malformed, an HTML page, too large, or of another shape."""

    def __init__(self, message: str = "", *, problems: Sequence[str] = (), request: str | None = None) -> None:
        super().__init__(message)
        #: One line per problem, each with the path into the payload.
        self.problems = tuple(problems)
        #: The method and the address without its query, or None.
        self.request = request


class ListingError(ArenaAsyncError):
    """A listing shrank, looped or contradicted itself, so it is not known to be whole."""

    def __init__(self, message: str = "", *, cursor: int | None = None, request: str | None = None) -> None:
        super().__init__(message)
        #: The offset at which the walk can be taken up again, or None.
        self.cursor = cursor
        #: The method and the address without its query, or None.
        self.request = request


class RunFailedError(ArenaAsyncError):
    """A run of the service (extract, export, import, data request) ended badly."""

    def __init__(self, message: str = "", *, run: Any = None) -> None:
        super().__init__(message)
        #: The run as the service last showed it.
        self.run = run


class TransferError(ArenaAsyncError):
    """One file could not be brought home."""

    def __init__(self, message: str = "", *, file: str | None = None, attempts: int = 0) -> None:
        super().__init__(message)
        #: The key of the file.
        self.file = file
        #: How many times its content was asked for.
        self.attempts = attempts


class IntegrityError(TransferError):
    """The content is not whole or not right; it was not kept under the final name."""

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
        #: What the proof says should have come.
        self.expected = expected
        #: What came.
        self.actual = actual


class ContentError(TransferError):
    """What came is not what was asked for: an HTML page, a JSON error with status 200, or more than allowed."""


class SourceChangedError(TransferError):
    """The remote file changed while it was being fetched, more often than was tried again."""


class LinkExpiredError(TransferError):
    """The signed link is over. A fresh one comes from the listing."""


class StalledError(TransferError):
    """The body stopped, or came slower than the slowest rate allowed."""


class StorageError(TransferError):
    """The local disk refused. No request to the service can mend that, so none is made."""


class DiskFullError(StorageError):
    """There is no room left on the local disk, or the quota of the local user is used up."""


class DestinationBusyError(StorageError):
    """The destination is taken: by another kind of file, by another tenant, or by another job of this run."""


class UnsafeNameError(StorageError):
    """No safe local name can be made, or the name does not lie inside the folder."""


class TransfersFailedError(ArenaAsyncError, ExceptionGroup[ArenaAsyncError]):
    """Some files of a run failed; ``exceptions`` holds one error per file."""

    def __new__(cls, message: str, exceptions: Sequence[ArenaAsyncError]) -> Self:
        """Build the group; ``exceptions`` must not be empty."""
        return super().__new__(cls, message, exceptions)

    def __init__(self, message: str, exceptions: Sequence[ArenaAsyncError]) -> None:
        ExceptionGroup.__init__(self, message, exceptions)

    def derive(self, excs: Sequence[Exception]) -> TransfersFailedError:  # type: ignore[override]
        """Keep the class when the group is split, so that ``except*`` gives groups of this class."""
        return TransfersFailedError(self.message, excs)  # type: ignore[arg-type]
