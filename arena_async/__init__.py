"""
Async client and downloader for Arena PLM and ActiGraph CentrePoint bulk data.

Public names are imported on first use, so ``import arena_async`` alone loads neither aiohttp nor cattrs.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arena_async.errors import (
        AccountLockedError,
        ApiError,
        ArenaAsyncError,
        AuthenticationError,
        ClosedError,
        ConfigurationError,
        ConflictError,
        ContentError,
        DeadlineError,
        DecodeError,
        DestinationBusyError,
        DiskFullError,
        IntegrityError,
        LinkExpiredError,
        ListingError,
        NotFoundError,
        PermissionDeniedError,
        QuotaExhaustedError,
        RunFailedError,
        ServerError,
        SessionDisplacedError,
        SourceChangedError,
        StalledError,
        StorageError,
        ThrottledError,
        TlsError,
        TransferError,
        TransfersFailedError,
        TransportError,
        UnsafeNameError,
        UnsafeUrlError,
    )
    from arena_async.http.paginator import Paginator
    from arena_async.options import (
        PollPolicy,
        RetryPolicy,
        Timeouts,
        TransferOptions,
    )
    from arena_async.protocol.files import (
        ByteStream,
        Cost,
        FileSet,
        OpenedFile,
        RemoteFile,
    )
    from arena_async.protocol.messages import Request, Response
    from arena_async.protocol.pagination import Page
    from arena_async.protocol.quota import Quota
    from arena_async.providers.arena import ArenaClient, ArenaCredentials, ArenaMachineCredentials, SessionStore
    from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials
    from arena_async.providers.urls import Link, UrlSet
    from arena_async.transfer.downloader import Downloader, OutcomeStream
    from arena_async.transfer.events import Event, Finished, Progress, Retrying, Started
    from arena_async.transfer.mirror import Mirror, Verification, Verified
    from arena_async.transfer.models import Action, Outcome, Plan, PlannedFile, Report
    from arena_async.transfer.union import union

__all__ = [
    "AccountLockedError",
    "Action",
    "ApiError",
    "ArenaAsyncError",
    "ArenaClient",
    "ArenaCredentials",
    "ArenaMachineCredentials",
    "AuthenticationError",
    "ByteStream",
    "CentrePointClient",
    "CentrePointCredentials",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "ContentError",
    "Cost",
    "DeadlineError",
    "DecodeError",
    "DestinationBusyError",
    "DiskFullError",
    "Downloader",
    "Event",
    "FileSet",
    "Finished",
    "IntegrityError",
    "Link",
    "LinkExpiredError",
    "ListingError",
    "Mirror",
    "NotFoundError",
    "OpenedFile",
    "Outcome",
    "OutcomeStream",
    "Page",
    "Paginator",
    "PermissionDeniedError",
    "Plan",
    "PlannedFile",
    "PollPolicy",
    "Progress",
    "Quota",
    "QuotaExhaustedError",
    "RemoteFile",
    "Report",
    "Request",
    "Response",
    "RetryPolicy",
    "Retrying",
    "RunFailedError",
    "ServerError",
    "SessionDisplacedError",
    "SessionStore",
    "SourceChangedError",
    "StalledError",
    "Started",
    "StorageError",
    "ThrottledError",
    "Timeouts",
    "TlsError",
    "TransferError",
    "TransferOptions",
    "TransfersFailedError",
    "TransportError",
    "UnsafeNameError",
    "UnsafeUrlError",
    "UrlSet",
    "Verification",
    "Verified",
    "union",
]

#: Where each public name lives.
_MODULES = {
    "AccountLockedError": "arena_async.errors",
    "Action": "arena_async.transfer.models",
    "ApiError": "arena_async.errors",
    "ArenaAsyncError": "arena_async.errors",
    "ArenaClient": "arena_async.providers.arena",
    "ArenaCredentials": "arena_async.providers.arena",
    "ArenaMachineCredentials": "arena_async.providers.arena",
    "AuthenticationError": "arena_async.errors",
    "ByteStream": "arena_async.protocol.files",
    "CentrePointClient": "arena_async.providers.centrepoint",
    "CentrePointCredentials": "arena_async.providers.centrepoint",
    "ClosedError": "arena_async.errors",
    "ConfigurationError": "arena_async.errors",
    "ConflictError": "arena_async.errors",
    "ContentError": "arena_async.errors",
    "Cost": "arena_async.protocol.files",
    "DeadlineError": "arena_async.errors",
    "DecodeError": "arena_async.errors",
    "DestinationBusyError": "arena_async.errors",
    "DiskFullError": "arena_async.errors",
    "Downloader": "arena_async.transfer.downloader",
    "Event": "arena_async.transfer.events",
    "FileSet": "arena_async.protocol.files",
    "Finished": "arena_async.transfer.events",
    "IntegrityError": "arena_async.errors",
    "Link": "arena_async.providers.urls",
    "LinkExpiredError": "arena_async.errors",
    "ListingError": "arena_async.errors",
    "Mirror": "arena_async.transfer.mirror",
    "NotFoundError": "arena_async.errors",
    "OpenedFile": "arena_async.protocol.files",
    "Outcome": "arena_async.transfer.models",
    "OutcomeStream": "arena_async.transfer.downloader",
    "Page": "arena_async.protocol.pagination",
    "Paginator": "arena_async.http.paginator",
    "PermissionDeniedError": "arena_async.errors",
    "Plan": "arena_async.transfer.models",
    "PlannedFile": "arena_async.transfer.models",
    "PollPolicy": "arena_async.options",
    "Progress": "arena_async.transfer.events",
    "Quota": "arena_async.protocol.quota",
    "QuotaExhaustedError": "arena_async.errors",
    "RemoteFile": "arena_async.protocol.files",
    "Report": "arena_async.transfer.models",
    "Request": "arena_async.protocol.messages",
    "Response": "arena_async.protocol.messages",
    "RetryPolicy": "arena_async.options",
    "Retrying": "arena_async.transfer.events",
    "RunFailedError": "arena_async.errors",
    "ServerError": "arena_async.errors",
    "SessionDisplacedError": "arena_async.errors",
    "SessionStore": "arena_async.providers.arena",
    "SourceChangedError": "arena_async.errors",
    "StalledError": "arena_async.errors",
    "Started": "arena_async.transfer.events",
    "StorageError": "arena_async.errors",
    "ThrottledError": "arena_async.errors",
    "Timeouts": "arena_async.options",
    "TlsError": "arena_async.errors",
    "TransferError": "arena_async.errors",
    "TransferOptions": "arena_async.options",
    "TransfersFailedError": "arena_async.errors",
    "TransportError": "arena_async.errors",
    "UnsafeNameError": "arena_async.errors",
    "UnsafeUrlError": "arena_async.errors",
    "UrlSet": "arena_async.providers.urls",
    "Verification": "arena_async.transfer.mirror",
    "Verified": "arena_async.transfer.mirror",
    "union": "arena_async.transfer.union",
}

# A library configures no logging: https://docs.python.org/3/howto/logging.html#library-config
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
