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
        HostPausedError,
        IntegrityError,
        LinkExpiredError,
        ListingError,
        NotAsRequestedError,
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
    from arena_async.http.client import ClientSettings
    from arena_async.http.paginator import PageIterator, Paginator
    from arena_async.http.session import Session
    from arena_async.options import (
        Clock,
        PollPolicy,
        RetryPolicy,
        Timeouts,
        TransferOptions,
    )
    from arena_async.protocol.adapter import Credential
    from arena_async.protocol.files import (
        BodyHead,
        ByteStream,
        Cost,
        FileSet,
        MetadataCache,
        Notice,
        OpenedFile,
        RemoteFile,
        ResponseOrder,
    )
    from arena_async.protocol.messages import Headers, Request, Response, Secret, UploadBody, UploadedFile
    from arena_async.protocol.pagination import Page
    from arena_async.protocol.quota import Quota
    from arena_async.providers.arena import ArenaClient, ArenaCredentials, ArenaMachineCredentials, SessionStore
    from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials
    from arena_async.providers.urls import Link, UrlSet
    from arena_async.transfer.downloader import Downloader, OutcomeStream
    from arena_async.transfer.events import Event, Finished, Observer, Progress, Retrying, Started, Stopped
    from arena_async.transfer.local_proof import Verification, Verified
    from arena_async.transfer.mirror import Mirror
    from arena_async.transfer.models import Action, LedgerEntry, Plan, PlannedFile, StartedRun
    from arena_async.transfer.outcomes import Outcome, Report
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
    "BodyHead",
    "ByteStream",
    "CentrePointClient",
    "CentrePointCredentials",
    "ClientSettings",
    "Clock",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "ContentError",
    "Cost",
    "Credential",
    "DeadlineError",
    "DecodeError",
    "DestinationBusyError",
    "DiskFullError",
    "Downloader",
    "Event",
    "FileSet",
    "Finished",
    "Headers",
    "HostPausedError",
    "IntegrityError",
    "LedgerEntry",
    "Link",
    "LinkExpiredError",
    "ListingError",
    "MetadataCache",
    "Mirror",
    "NotAsRequestedError",
    "NotFoundError",
    "Notice",
    "Observer",
    "OpenedFile",
    "Outcome",
    "OutcomeStream",
    "Page",
    "PageIterator",
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
    "ResponseOrder",
    "RetryPolicy",
    "Retrying",
    "RunFailedError",
    "Secret",
    "ServerError",
    "Session",
    "SessionDisplacedError",
    "SessionStore",
    "SourceChangedError",
    "StalledError",
    "Started",
    "StartedRun",
    "Stopped",
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
    "UploadBody",
    "UploadedFile",
    "UrlSet",
    "Verification",
    "Verified",
    "union",
]

#: The public names of each module.
_NAMES = {
    "errors": """
        AccountLockedError ApiError ArenaAsyncError AuthenticationError ClosedError ConfigurationError
        ConflictError ContentError DeadlineError DecodeError DestinationBusyError DiskFullError HostPausedError
        IntegrityError LinkExpiredError ListingError NotAsRequestedError NotFoundError PermissionDeniedError
        QuotaExhaustedError RunFailedError ServerError SessionDisplacedError SourceChangedError StalledError
        StorageError ThrottledError TlsError TransferError TransfersFailedError TransportError UnsafeNameError
        UnsafeUrlError
    """,
    "http.client": "ClientSettings",
    "http.paginator": "PageIterator Paginator",
    "http.session": "Session",
    "options": "Clock PollPolicy RetryPolicy Timeouts TransferOptions",
    "protocol.adapter": "Credential",
    "protocol.files": "BodyHead ByteStream Cost FileSet MetadataCache Notice OpenedFile RemoteFile ResponseOrder",
    "protocol.messages": "Headers Request Response Secret UploadBody UploadedFile",
    "protocol.pagination": "Page",
    "protocol.quota": "Quota",
    "providers.arena": "ArenaClient ArenaCredentials ArenaMachineCredentials SessionStore",
    "providers.centrepoint": "CentrePointClient CentrePointCredentials",
    "providers.urls": "Link UrlSet",
    "transfer.downloader": "Downloader OutcomeStream",
    "transfer.events": "Event Finished Observer Progress Retrying Started Stopped",
    "transfer.mirror": "Mirror",
    "transfer.models": "Action LedgerEntry Plan PlannedFile StartedRun",
    "transfer.outcomes": "Outcome Report",
    "transfer.union": "union",
    "transfer.local_proof": "Verification Verified",
}
#: Where each public name lives.
_MODULES = {name: f"arena_async.{module}" for module, names in _NAMES.items() for name in names.split()}

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
