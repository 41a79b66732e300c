"""The door to CentrePoint: credentials and settings in, lists and files out."""

from __future__ import annotations

import os
import ssl as tls
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from arena_async.errors import ConfigurationError
from arena_async.net.session import Session
from arena_async.options import HttpOptions, RetryPolicy, Timeouts
from arena_async.providers.centrepoint.analytics import (
    AlgorithmSettings,
    DailySummaries,
    EventMarkers,
    MinuteSummaries,
    SleepPeriods,
)
from arena_async.providers.centrepoint.asking import Asking
from arena_async.providers.centrepoint.auth import CentrePointAuth, CentrePointCredentials
from arena_async.providers.centrepoint.data_requests import EpochRequests, RawRequests
from arena_async.providers.centrepoint.datasets import Datasets
from arena_async.providers.centrepoint.day_files import DayFiles
from arena_async.providers.centrepoint.dialect import CentrePointDialect
from arena_async.providers.centrepoint.monitors import ActivityMonitors, Assignments, Uploads
from arena_async.providers.centrepoint.places import Places
from arena_async.providers.centrepoint.studies import Milestones, Programs, Sites, Studies, Subjects
from arena_async.providers.centrepoint.study_files import StudyFileSet
from arena_async.providers.centrepoint.subjects import Directory
from arena_async.providers.centrepoint.webhooks import Webhooks
from arena_async.wire.quota import SlidingWindow
from arena_async.wire.urls import UrlPolicy, origin

__all__ = ["AUTH_URL", "BASE_URL", "RATE_LIMIT", "CentrePointClient"]

BASE_URL = "https://api.actigraphcorp.com"
AUTH_URL = "https://auth.actigraphcorp.com/connect/token"
#: Requests in any 60 seconds. The service allows 500 for an IP address, which other programs may share.
RATE_LIMIT = 400


class CentrePointClient:
    """
    A client of ActiGraph CentrePoint, V3.

    ::

        async with CentrePointClient.from_env() as centrepoint:
            async for file in centrepoint.datasets.search(234):
                ...

    Making one sends nothing; a token is asked for with the first request that needs its scope.

    Args:
        credentials: What ActiGraph issued.
        base_url: The address of the API.
        auth_url: The whole address of the token endpoint.
        rate_limit: Requests that may leave in any 60 seconds.
        legacy: Ask for dataset files in the form of the first published page, unless a call says otherwise.
        retry: How often and how patiently a request is tried again; None for the defaults.
        timeouts: How long the network may keep us waiting; None for the defaults.
        ssl: A TLS context, for instance for a company's own authority; None for the system's.
        proxy: The address of an HTTP proxy, or None for none; the environment is not looked at.
        user_agent: What goes before the library's own name in ``User-Agent``.
        connector: An aiohttp connector whose pool, TLS and DNS are shared; whoever made it closes it.
        allow_http: Whether plain http is taken to other hosts than this machine.

    Raises:
        ConfigurationError: A setting cannot be used.
    """

    def __init__(
        self,
        credentials: CentrePointCredentials,
        *,
        base_url: str = BASE_URL,
        auth_url: str = AUTH_URL,
        rate_limit: int = RATE_LIMIT,
        legacy: bool = False,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        ssl: tls.SSLContext | None = None,
        proxy: str | None = None,
        user_agent: str | None = None,
        connector: Any = None,
        allow_http: bool = False,
    ) -> None:
        if not isinstance(credentials, CentrePointCredentials):
            raise ConfigurationError("CentrePointClient takes CentrePointCredentials(client_id, client_secret).")
        urls = _policy(base_url, auth_url, allow_http=allow_http)
        self._session = Session(
            CentrePointAuth(credentials=credentials, auth_url=auth_url),
            CentrePointDialect(),
            SlidingWindow(limit=rate_limit, seconds=60.0),
            base_url=base_url.rstrip("/"),
            urls=urls,
            options=HttpOptions(
                retry=retry or RetryPolicy(),
                timeouts=timeouts or Timeouts(),
                headers={"Accept": "application/json"},
                ssl=ssl,
                proxy=proxy,
                user_agent=user_agent,
                connector=connector,
            ),
        )
        tenant = f"{origin(base_url)} {credentials.client_id}"
        self._tenant, self._legacy = tenant, legacy
        asking = self._asking = Asking(self._session, Directory(self._session).resolve)
        self.datasets = Datasets(asking, tenant=tenant, legacy=legacy)
        self.day_files = DayFiles(asking, tenant=tenant)
        places = Places()
        self.raw_requests = RawRequests(asking, tenant=tenant, places=places)
        self.epoch_requests = EpochRequests(asking, tenant=tenant, places=places)
        self.studies = Studies(asking)
        self.sites = Sites(asking)
        self.subjects = Subjects(asking)
        self.milestones = Milestones(asking)
        self.programs = Programs(asking)
        self.activity_monitors = ActivityMonitors(asking)
        self.assignments = Assignments(asking)
        self.uploads = Uploads(asking)
        self.minute_summaries = MinuteSummaries(asking)
        self.daily_statistics = DailySummaries(asking)
        self.sleep_periods = SleepPeriods(asking)
        self.event_markers = EventMarkers(asking)
        self.algorithm_settings = AlgorithmSettings(asking)
        self.webhooks = Webhooks(asking)

    @classmethod
    def from_env(
        cls,
        *,
        environ: Mapping[str, str] | None = None,
        rate_limit: int = RATE_LIMIT,
        legacy: bool = False,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        ssl: tls.SSLContext | None = None,
        proxy: str | None = None,
        user_agent: str | None = None,
        connector: Any = None,
        allow_http: bool = False,
    ) -> Self:
        """
        Make a client from the environment.

        ``CENTREPOINT_CLIENT_ID`` and ``CENTREPOINT_CLIENT_SECRET`` must be set; ``CENTREPOINT_BASE_URL`` and
        ``CENTREPOINT_AUTH_URL`` may be. ``environ`` is looked at instead of the environment of the process, and the
        other arguments are those of the class.

        Raises:
            ConfigurationError: A variable is missing or cannot be used; the message names it. Nothing was sent.
        """
        found = os.environ if environ is None else environ
        client_id = _required(found, "CENTREPOINT_CLIENT_ID")
        client_secret = _required(found, "CENTREPOINT_CLIENT_SECRET")
        urls = {
            name: _address(found, variable, default, allow_http=allow_http)
            for name, variable, default in (
                ("base", "CENTREPOINT_BASE_URL", BASE_URL),
                ("auth", "CENTREPOINT_AUTH_URL", AUTH_URL),
            )
        }
        return cls(
            CentrePointCredentials(client_id, client_secret),
            base_url=urls["base"],
            auth_url=urls["auth"],
            rate_limit=rate_limit,
            legacy=legacy,
            retry=retry,
            timeouts=timeouts,
            ssl=ssl,
            proxy=proxy,
            user_agent=user_agent,
            connector=connector,
            allow_http=allow_http,
        )

    def study_files(self, study: int | str) -> StudyFileSet:
        """
        Give all dataset files of a study, of every subject, program and data set.

        A ``Mirror`` lists them whole the first time, and later only what changed where that costs less. Data sets that
        lack the newest raw data are told by its ``stale()``.

        Raises:
            ConfigurationError: That is no number of a study.
        """
        return StudyFileSet(self._asking, study, tenant=self._tenant, legacy=self._legacy)

    def __repr__(self) -> str:
        return f"<CentrePointClient {self._session.base_url}>"

    @property
    def session(self) -> Session:
        """What sends the requests; its ``send`` and ``stream`` reach what this library has no name for."""
        return self._session

    async def aclose(self) -> None:
        """End every request and connection of this client. Safe to call twice."""
        await self._session.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _policy(base_url: str, auth_url: str, *, allow_http: bool) -> UrlPolicy:
    """
    Give whom the session may contact, which follows from the two addresses the caller named.

    Raises:
        ConfigurationError: One of the addresses cannot be used.
    """
    UrlPolicy.for_base(auth_url, allow_http=allow_http)
    return UrlPolicy.for_base(base_url, allow_http=allow_http).trusting(auth_url)


def _required(environ: Mapping[str, str], name: str) -> str:
    """Read a variable that must be set, without the blanks and line ends that get around it."""
    text = environ.get(name, "").strip()
    if not text or not text.isprintable():
        state = "is not set" if not text else "has characters that cannot be sent"
        raise ConfigurationError(f"{name} {state}; it takes what ActiGraph issued for the API.")
    return text


def _address(environ: Mapping[str, str], name: str, default: str, *, allow_http: bool) -> str:
    """Read a variable that holds an address."""
    url = environ.get(name, "").strip() or default
    problem = None
    try:
        UrlPolicy.for_base(url, allow_http=allow_http)
    except ConfigurationError as error:
        problem = str(error)
    if problem is not None:
        raise ConfigurationError(f"{name} cannot be used. {problem}")
    return url
