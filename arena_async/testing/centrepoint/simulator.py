"""
A local CentrePoint: token endpoint, API and file host, each on its own port, as the vendor documents them.

Undocumented behavior is chosen as follows: a ``limit`` outside 1 to 100 is a 400; a rejected request is not
counted by the limiter; the old link of a file that was renamed by a later run is invalid (404 ``BlobNotFound``).
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any, Unpack

from arena_async.http.client import ClientSettings
from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials
from arena_async.testing.centrepoint.analytics import analytics_tables
from arena_async.testing.centrepoint.collection import collection_tables
from arena_async.testing.centrepoint.dataset_files import DatasetFiles, FileKey
from arena_async.testing.centrepoint.days import DayFiles, DayKey
from arena_async.testing.centrepoint.lists import Table, plain_text, study_tables
from arena_async.testing.centrepoint.requests import DataRequestService
from arena_async.testing.centrepoint.settings import ALL_SCOPES
from arena_async.testing.centrepoint.storage import STORAGE_VERSION
from arena_async.testing.centrepoint.tokens import Tokens
from arena_async.testing.replies import Call, ErrorReply, Reply, Route

__all__ = ["ALL_SCOPES", "CentrePointClientOptions", "CentrePointSimulator", "DayKey", "FileKey"]

_WINDOW = 60.0


class CentrePointClientOptions(ClientSettings, total=False):
    """The options of the client of a simulator, which are those of ``CentrePointClient``."""

    credentials: CentrePointCredentials
    base_url: str
    auth_url: str
    rate_limit: int
    legacy: bool
    allow_http: bool


class CentrePointSimulator(DatasetFiles):
    """
    A CentrePoint of one study, with one file for every subject, study program and data set.

    It also has day files (:attr:`day_files`), and accepts requests for raw and epoch data (:attr:`data_requests`).

    Args:
        study: The number of the study.
        subjects: How many subjects, or their numbers.
        programs: How many study programs, or their GUIDs. From the second on they share one name, as in the documents.
        data_sets: How many data sets each program has, or their names.
        files: Files in all; None for one of each combination. The number of subjects grows as required.
        file_size: Bytes of each dataset file, at least 100; approximate bytes of other files.
        days: How many days each subject has day files for.
        port: The port of the API; 0 for any free one.
        rate_limit: API requests in any 60 seconds; None switches the limiter off.
        link_lifetime: Lifetime of a signed link in seconds.
        token_lifetime: Lifetime of a token in seconds.
        scopes: Scopes that the client may request.
        client_id: The client's id.
        client_secret: The client's secret.
        filters_ignored: Lists ignore filters, like a service that does not read the body of a GET.
        expiry_contradicts: ``downloadUrlExpiresOn`` is before the link becomes valid, as in the documented sample.
        content_md5: The file host sends the MD5 of its files.
        names_with_data_set: The vendor's newer file names, which do not collide.
        clock: Returns the time in seconds since 1970.
    """

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.day_files = DayFiles(self, days=self._days, size=self.file_size)
        self.data_requests = DataRequestService(self, size=self.file_size)
        self._tokens = Tokens(self)
        self._window: deque[float] = deque()

    @property
    def content_md5(self) -> bool:
        """Whether the file host sends the MD5 of its files."""
        return self.storage.content_md5

    @content_md5.setter
    def content_md5(self, enabled: bool) -> None:
        self.storage.content_md5 = enabled

    @property
    def breaches(self) -> list[str]:
        """Requests to the file host that had a credential; there must never be one."""
        return self.storage.breaches

    @property
    def subject(self) -> int:
        """The first subject."""
        return self.subjects[0]

    @property
    def category(self) -> str:
        """The first category that has day files."""
        return self.day_files.categories[0]

    def describe(self) -> dict[str, Any]:
        """Return addresses, credentials, the study and the environment variables of a client."""
        return {
            "base_url": self.base_url,
            "auth_url": self.auth_url,
            "file_host": self.file_host,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "study": self.study,
            "files": len(self.files),
            "environment": {
                "CENTREPOINT_BASE_URL": self.base_url,
                "CENTREPOINT_AUTH_URL": self.auth_url,
                "CENTREPOINT_CLIENT_ID": self.client_id,
                "CENTREPOINT_CLIENT_SECRET": self.client_secret,
            },
        }

    def expire_links(self) -> None:
        """Expire all links issued so far, as when the key that signed them is revoked."""
        self.storage.expire_links()

    def client(self, **options: Unpack[CentrePointClientOptions]) -> CentrePointClient:
        """Return a client for this simulator and its credentials; it requests a token with the first request."""
        options.setdefault("credentials", CentrePointCredentials(self.client_id, self.client_secret))
        options.setdefault("base_url", self.base_url)
        options.setdefault("auth_url", self.auth_url)
        return CentrePointClient(**options)

    def routes(self) -> Iterable[Route]:
        """Return the routes of each port."""
        for table in self.tables():
            yield self._guarded(table.path, table.scope, functools.partial(self._page, table))
            if table.named_by is not None:
                yield self._guarded(f"{table.path}/{{one}}", table.scope, table.one)
        yield Route("POST", "/connect/token", self._tokens.issue, "auth")
        yield Route("GET", "/{study}/{subject}/datasetexports/{program}/{data_set}/{name}", self._blob, "files")
        yield Route("GET", "/{study}/{subject}/{category}/{y}/{m}/{d}/{name}", self.day_files.blob, "files")
        for method, path, handler in self.data_requests.routes():
            yield self._guarded(path, "DataRetrieval", handler, method=method)
        yield Route("GET", "/{container}/{name}", self.data_requests.blob, "files")

    def tables(self) -> Iterable[Table]:
        """Return the lists of the API."""
        yield from study_tables(self)
        yield from collection_tables(self)
        yield from analytics_tables(self)
        yield from self.day_files.tables()
        yield from self.dataset_tables()

    def _page(self, table: Table, call: Call) -> Reply:
        return table.page(self.base_url, call)

    def _guarded(self, path: str, scope: str, handler: Callable[[Call], Reply], *, method: str = "GET") -> Route:
        """Return a route of the API that requires a token with a scope."""
        return Route(method, path, functools.partial(self._admitted, scope, handler), "api")

    def admit(self, call: Call) -> None:
        """Count the requests of the last minute at the API."""
        if call.seen.listener == "api" and self.rate_limit is not None:
            self._window.append(call.seen.at)

    def finish(self, call: Call, reply: Reply) -> Reply:
        """Add the time of the service, which may differ from the client's."""
        finished = reply.adding({"Date": formatdate(self.clock(), usegmt=True)})
        return finished.adding({"x-ms-version": STORAGE_VERSION}) if call.seen.listener == "files" else finished

    def apply_event(self, event: str, call: Call) -> None:
        """Change content (in place), end the token of a request, or expire all links."""
        if event == "expire_links":
            self.expire_links()
        elif event == "expire_session":
            self._tokens.revoked.add(call.headers.get("Authorization", "").removeprefix("Bearer "))
        elif event == "change" and "category" in call.vars and "y" in call.vars:
            self.day_files.rebuild(self.day_files.file_of(call), rename=False)
        elif event == "change" and "data_set" in call.vars:
            self.change_file(self._file_of(call), rename=False)
        else:
            super().apply_event(event, call)

    def unknown(self, call: Call, *, other_method: bool) -> Reply:
        """Respond to an unknown path in plain text, as the service does."""
        del call
        return plain_text(405 if other_method else 404, "There is nothing here.")

    def _admitted(self, scope: str, handler: Callable[[Call], Reply], call: Call) -> Reply:
        """Call the handler if rate limit, token, scope and study allow it."""
        self._check_rate(call)
        kind, _, token = call.headers.get("Authorization", "").partition(" ")
        claims = self._tokens.claims(token) if kind.lower() == "bearer" else None
        if claims is None:
            return Reply(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        if scope not in claims["scope"]:
            return plain_text(403, f"The token does not open the scope {scope}.")
        if "study" in call.vars and call.vars["study"] != str(self.study):
            return plain_text(404, f"Study {call.vars['study']} was not found.")
        return handler(call)

    def _check_rate(self, call: Call) -> None:
        """Reject requests above the limit in any 60 seconds."""
        if self.rate_limit is None:
            return
        now = self.clock()
        while self._window and self._window[0] <= now - _WINDOW:
            self._window.popleft()
        if len(self._window) <= self.rate_limit:
            return
        self._window.remove(call.seen.at)
        wait = max(1, math.ceil(self._window[0] + _WINDOW - now))
        raise ErrorReply(plain_text(429, "Too many requests.").adding({"Retry-After": str(wait)}))
