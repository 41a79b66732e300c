"""The client of the CentrePoint API."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Self, Unpack

import attrs

from arena_async.errors import ConfigurationError
from arena_async.http.client import BaseClient, ClientSettings, http_options, named_by
from arena_async.http.session import Session
from arena_async.protocol.quota import SlidingWindow
from arena_async.protocol.state_directory import user_state_directory
from arena_async.protocol.urls import UrlPolicy, origin
from arena_async.providers.centrepoint import analytics, studies
from arena_async.providers.centrepoint.adapter import CentrePointAdapter
from arena_async.providers.centrepoint.api import Api
from arena_async.providers.centrepoint.auth import CentrePointAuth, CentrePointCredentials
from arena_async.providers.centrepoint.data_requests import ActiveRequests, DataRequests, EpochQuery, RawQuery
from arena_async.providers.centrepoint.datasets import DatasetQuery, Datasets, StudyFileSet
from arena_async.providers.centrepoint.day_files import DayFiles
from arena_async.providers.send_once import RequestStore

__all__ = ["AUTH_URL", "BASE_URL", "RATE_LIMIT", "CentrePointClient"]

BASE_URL = "https://api.actigraphcorp.com"
AUTH_URL = "https://auth.actigraphcorp.com/connect/token"
#: Requests in any 60 seconds. The service allows 500 for an IP address, which other programs may share.
RATE_LIMIT = 400


class CentrePointClient(BaseClient):
    """
    A client of ActiGraph CentrePoint, V3.

    ::

        async with CentrePointClient.from_env() as centrepoint:
            async for file in centrepoint.datasets.search(234):
                ...

    Creating one sends nothing; a token is requested before the first request that needs its scope.

    Args:
        credentials: What ActiGraph issued.
        base_url: The address of the API.
        auth_url: The complete address of the token endpoint.
        rate_limit: Requests that may be sent in any 60 seconds.
        legacy: List dataset files with the request of the first published page, unless a call says otherwise.
        state_directory: The directory of the records of what was started at the service, by which nothing is started
            twice; None for the state directory of the user.
        allow_http: Whether plain http is allowed to other hosts than this machine.
        settings: Retries, timeouts, TLS, proxy, user agent, connector and clock:
            :class:`~arena_async.ClientSettings`.

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
        state_directory: str | os.PathLike[str] | None = None,
        allow_http: bool = False,
        **settings: Unpack[ClientSettings],
    ) -> None:
        if not isinstance(credentials, CentrePointCredentials):
            raise ConfigurationError("CentrePointClient takes CentrePointCredentials(client_id, client_secret).")
        UrlPolicy.for_base(auth_url, allow_http=allow_http)  # The token endpoint has the rules of the API.
        options = http_options(settings, headers={"Accept": "application/json"})
        session = Session(
            CentrePointAuth(credentials=credentials, auth_url=auth_url),
            CentrePointAdapter(),
            SlidingWindow(limit=rate_limit, seconds=60.0),
            base_url=base_url.rstrip("/"),
            urls=UrlPolicy.for_base(base_url, allow_http=allow_http).trusting(auth_url),
            options=options,
        )
        super().__init__(session)
        tenant = f"{origin(base_url)} {credentials.client_id}"
        self._api = Api(session, tenant=tenant, clock=attrs.evolve(options.clock, now=session.now))
        self._legacy = legacy
        self._records = RequestStore(credentials.client_id, state_directory, now=options.clock.now)
        self._create_services()

    def _create_services(self) -> None:
        """Create the services; each knows the API of this client."""
        api, active = self._api, ActiveRequests()
        self.datasets = Datasets(api, legacy=self._legacy)
        self.day_files = DayFiles(api)
        self.raw_requests = DataRequests(api, RawQuery, active, self._records)
        self.epoch_requests = DataRequests(api, EpochQuery, active, self._records)
        self.studies, self.programs, self.subjects = studies.Studies(api), studies.Programs(api), studies.Subjects(api)
        self.sites = studies.StudyObjects(api, studies.SITES)
        self.milestones = studies.StudyList(api, studies.MILESTONES)
        self.activity_monitors = studies.StudyObjects(api, studies.MONITORS)
        self.assignments = studies.StudyObjects(api, studies.ASSIGNMENTS)
        self.uploads, self.webhooks = studies.Uploads(api), studies.Webhooks(api)
        self.minute_summaries = analytics.MinuteSummaries(api)
        self.daily_statistics = analytics.Computed(api, analytics.DAILY_STATISTICS)
        self.sleep_periods = analytics.Computed(api, analytics.SLEEP_PERIODS)
        self.event_markers = analytics.Computed(api, analytics.EVENT_MARKERS)
        self.algorithm_settings = analytics.AlgorithmSettings(api)

    @classmethod
    def from_env(
        cls,
        *,
        environ: Mapping[str, str] | None = None,
        rate_limit: int = RATE_LIMIT,
        legacy: bool = False,
        allow_http: bool = False,
        **settings: Unpack[ClientSettings],
    ) -> Self:
        """
        Create a client from the environment.

        ``CENTREPOINT_CLIENT_ID`` and ``CENTREPOINT_CLIENT_SECRET`` must be set; ``CENTREPOINT_BASE_URL`` and
        ``CENTREPOINT_AUTH_URL`` may be, and ``ARENA_ASYNC_STATE``, which names the state directory. ``environ`` is read
        instead of the environment of the process, and the other arguments are those of the class.

        Raises:
            ConfigurationError: A variable is missing or cannot be used; the message names it. Nothing was sent.
        """
        found = os.environ if environ is None else environ
        client_id = _required(found, "CENTREPOINT_CLIENT_ID")
        client_secret = _required(found, "CENTREPOINT_CLIENT_SECRET")
        return cls(
            CentrePointCredentials(client_id, client_secret),
            base_url=_address(found, "CENTREPOINT_BASE_URL", BASE_URL, allow_http=allow_http),
            auth_url=_address(found, "CENTREPOINT_AUTH_URL", AUTH_URL, allow_http=allow_http),
            rate_limit=rate_limit,
            legacy=legacy,
            state_directory=user_state_directory(found, sys.platform),
            allow_http=allow_http,
            **settings,
        )

    def study_files(self, study: int | str) -> StudyFileSet:
        """
        Return all dataset files of a study, of every subject, program and data set.

        A ``Mirror`` lists all of them the first time, and later only what changed where that costs less. Its
        ``stale()`` returns the data sets that lack the newest raw data.

        Raises:
            ConfigurationError: That is no number of a study.
        """
        return StudyFileSet(self._api, DatasetQuery(study, legacy=self._legacy))

    def __repr__(self) -> str:
        return f"<CentrePointClient {self._session.base_url}>"


def _required(environ: Mapping[str, str], name: str) -> str:
    """Return a variable that must be set, without blanks and line ends around it."""
    text = environ.get(name, "").strip()
    if not text or not text.isprintable():
        state = "is not set" if not text else "has characters that cannot be sent"
        raise ConfigurationError(f"{name} {state}; it takes what ActiGraph issued for the API.")
    return text


def _address(environ: Mapping[str, str], name: str, default: str, *, allow_http: bool) -> str:
    """Return a variable that holds an address."""
    url = environ.get(name, "").strip() or default
    named_by(name, lambda: UrlPolicy.for_base(url, allow_http=allow_http))
    return url
