"""Data extracts: zip files of CSV tables that an administrator has scheduled."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import attrs

from arena_async.net.pager import Pager
from arena_async.net.session import Session
from arena_async.options import PollPolicy, TransferOptions
from arena_async.providers.arena import routes
from arena_async.providers.arena.asking import ask, walk
from arena_async.providers.arena.fetches import Fetch
from arena_async.providers.arena.files import ExtractFiles
from arena_async.providers.arena.models import Extract, ExtractRun, FileAssociation
from arena_async.providers.arena.runs import REAL_TIME, Line, Start, Watch
from arena_async.transfer.destination import Timing
from arena_async.transfer.events import Observer
from arena_async.transfer.started_run import Fetched, To

__all__ = ["Extracts"]


@attrs.frozen
class Extracts:
    """
    The data extracts of the workspace.

    Everything here raises :class:`~arena_async.errors.ApiError` where the service refuses,
    :class:`~arena_async.errors.DecodeError` where it answers with something else, and
    :class:`~arena_async.errors.ConfigurationError` for a guid or a date-time that cannot be sent.

    Args:
        session: Where to ask.
        reserve: Requests the caller wants left untouched.
        user: The e-mail address of the user, by which a run of its own is known again; or None.
        timing: Where time comes from.
    """

    session: Session = attrs.field(repr=False)
    reserve: int = 0
    user: str | None = attrs.field(default=None, repr=False)
    timing: Timing = attrs.field(default=REAL_TIME, repr=False)

    def search(
        self,
        name: str | None = None,
        *,
        enabled: bool | None = None,
        creator: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[Extract]:
        """
        Give the extracts of the workspace. One request for each 400.

        Args:
            name: Only this name; a trailing ``*`` finds what starts with it.
            enabled: Only those that are, or are not, enabled.
            creator: Only those of the user with this full name.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        request = routes.EXTRACTS.request({"name": name, "enabled": enabled, "creator.fullName": creator})
        return walk(self.session, request, Extract, offset=offset, limit=limit)

    async def get(self, guid: str) -> Extract:
        """Give one extract. One request."""
        return await ask(self.session, routes.EXTRACT.request(extract=guid), Extract)

    def runs(
        self,
        guid: str,
        *,
        status: str | None = None,
        scheduled_from: datetime | None = None,
        scheduled_to: datetime | None = None,
        run_from: datetime | None = None,
        run_to: datetime | None = None,
        completed_from: datetime | None = None,
        completed_to: datetime | None = None,
        downloaded_from: datetime | None = None,
        downloaded_to: datetime | None = None,
        with_files: bool = False,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[ExtractRun]:
        """
        Give the runs of an extract. One request for each 400. Date-times are aware.

        Args:
            guid: The extract.
            status: Only this status, for instance ``Completed``.
            scheduled_from: Only those scheduled then or later.
            scheduled_to: Only those scheduled then or earlier.
            run_from: Only those started then or later.
            run_to: Only those started then or earlier.
            completed_from: Only those completed then or later.
            completed_to: Only those completed then or earlier.
            downloaded_from: Only those first fetched then or later.
            downloaded_to: Only those first fetched then or earlier.
            with_files: Ask for the guids of the files with each run; not every service release honours it.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        params = {
            "status": status,
            "scheduledDateTimeFrom": scheduled_from,
            "scheduledDateTimeTo": scheduled_to,
            "runDateTimeFrom": run_from,
            "runDateTimeTo": run_to,
            "completionDateTimeFrom": completed_from,
            "completionDateTimeTo": completed_to,
            "downloadDateTimeFrom": downloaded_from,
            "downloadDateTimeTo": downloaded_to,
            "view": "withFiles" if with_files else None,
        }
        request = routes.EXTRACT_RUNS.request(params, extract=guid)
        return walk(self.session, request, ExtractRun, offset=offset, limit=limit)

    async def run(self, guid: str, run: str) -> ExtractRun:
        """Give one run of an extract. One request."""
        return await ask(self.session, routes.EXTRACT_RUN.request(extract=guid, run=run), ExtractRun)

    async def latest_run(self, guid: str, *, with_files: bool = False) -> ExtractRun:
        """
        Give the run of an extract that was completed last. One request.

        Args:
            guid: The extract.
            with_files: Ask for the guids of its files too.
        """
        params = {"view": "withFiles" if with_files else None}
        return await ask(self.session, routes.EXTRACT_LATEST_RUN.request(params, extract=guid), ExtractRun)

    def run_files(
        self,
        guid: str,
        run: str,
        *,
        downloaded_from: datetime | None = None,
        downloaded_to: datetime | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[FileAssociation]:
        """
        Give the files of a run with their names and sizes. One request for each 400.

        Args:
            guid: The extract.
            run: The run.
            downloaded_from: Only those first fetched then or later (aware).
            downloaded_to: Only those first fetched then or earlier (aware).
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        params = {"downloadDateTimeFrom": downloaded_from, "downloadDateTimeTo": downloaded_to}
        request = routes.EXTRACT_RUN_FILES.request(params, extract=guid, run=run)
        return walk(self.session, request, FileAssociation, offset=offset, limit=limit)

    async def association(self, guid: str, run: str, association: str) -> FileAssociation:
        """Give one file of a run, by the guid of its association. One request."""
        request = routes.EXTRACT_ASSOCIATION.request(extract=guid, run=run, association=association)
        return await ask(self.session, request, FileAssociation)

    def files(
        self,
        guid: str | None = None,
        run: str | None = None,
        *,
        latest: bool = False,
        completed_since: datetime | None = None,
    ) -> ExtractFiles:
        """
        Give the zip files of completed runs, to be brought home. Sends nothing yet.

        Args:
            guid: The extract; None for all of the workspace.
            run: Only this run.
            latest: Only the run that was completed last. A run of a delta extract holds the changes only.
            completed_since: Only runs completed then or later (aware).

        Raises:
            ConfigurationError: ``run`` together with ``latest`` or ``completed_since``, or without ``guid``.
        """
        return ExtractFiles(
            self.session, guid, reserve=self.reserve, run=run, latest=latest, completed_since=completed_since
        )

    async def start(
        self, guid: str, *, poll: PollPolicy | None = None, watch: Watch[ExtractRun] | None = None
    ) -> ExtractRun:
        """
        Start a run of an extract, once. One request, and more only where something goes wrong.

        When the answer is lost, the run is looked for in the list of runs before anything is sent again.

        Args:
            guid: The extract.
            poll: How long to go on trying, and how often; None for the usual policy.
            watch: Called with what is seen of the run.

        Raises:
            TransportError: The answer was lost, and nobody knows whether a run was started.
        """
        return await self._line(guid).start(self._start(guid), poll=poll, watch=watch)

    async def wait(
        self,
        guid: str,
        run: str | ExtractRun,
        *,
        poll: PollPolicy | None = None,
        earlier: Iterable[ExtractRun] = (),
        watch: Watch[ExtractRun] | None = None,
    ) -> ExtractRun:
        """
        Wait until a run is done. Costs :meth:`PollPolicy.most_questions` requests at most.

        Args:
            guid: The extract.
            run: The run, by its guid or as :meth:`start` gave it, which saves the first question.
            poll: How often to ask and how long to wait; None for the usual policy.
            earlier: Runs that you have listed before: asking begins when most of the time is over that they took.
            watch: Called after each question.

        Raises:
            RunFailedError: The run ended badly.
            DeadlineError: It is not done yet; it goes on at the service.
        """
        return await self._line(guid).wait(run, poll=poll, watch=watch, earlier=earlier)

    async def fetch(
        self,
        guid: str,
        to: To,
        *,
        poll: PollPolicy | None = None,
        fresh: bool = False,
        options: TransferOptions | None = None,
        observer: Observer | None = None,
        watch: Watch[ExtractRun] | None = None,
    ) -> Fetched[ExtractRun]:
        """
        Start a run, wait until it is done, and bring its files home, verified. All of it or an error.

        The folder remembers the run from the moment it is started: after a crash, or an error, the same call waits for
        that run and starts no other.

        Args:
            guid: The extract.
            to: The folder, or a :class:`~arena_async.Mirror` of one.
            poll: How often to ask and how long to wait; None for the usual policy.
            fresh: Start a run even if one is under way.
            options: How files are brought home.
            observer: Called with each event of the files.
            watch: Called with what is seen of the run.

        Raises:
            RunFailedError: The run ended badly; the next call starts another one.
            TransfersFailedError: The run is done, and not all of its files are here; the next call fetches the rest.
            DeadlineError: The run is not done yet; the next call waits on.
            DestinationBusyError: The folder belongs to another workspace.
        """
        fetch = Fetch(
            line=self._line(guid),
            start=self._start(guid),
            files=self.files(guid).of,
            poll=poll,
            watch=watch,
            fresh=fresh,
        )
        return await fetch.fetch(to, options=options, observer=observer)

    @staticmethod
    def _start(guid: str) -> Start[ExtractRun]:
        return Start(request=attrs.evolve(routes.EXTRACT_START.request(extract=guid), json={}))

    def _line(self, guid: str) -> Line[ExtractRun]:
        return Line(
            kind="extract",
            definition=guid,
            model=ExtractRun,
            session=self.session,
            one=lambda run: self.run(guid, run),
            every=lambda: aiter(self.runs(guid)),
            user=self.user,
            timing=self.timing,
        )
