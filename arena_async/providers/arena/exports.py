"""Exports of items: definitions say what to write, runs write it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import attrs

from arena_async.errors import ConfigurationError
from arena_async.net.pager import Pager
from arena_async.net.session import Session
from arena_async.options import PollPolicy, TransferOptions
from arena_async.providers.arena import routes
from arena_async.providers.arena.asking import ask, walk
from arena_async.providers.arena.criteria import Criteria
from arena_async.providers.arena.definitions import check_texts, define
from arena_async.providers.arena.export_options import same_options, write_export_options
from arena_async.providers.arena.fetches import Fetch
from arena_async.providers.arena.files import ExportFiles, one_export_run
from arena_async.providers.arena.models import ArenaFile, ExportDefinition, ExportOptions, ExportRun
from arena_async.providers.arena.runs import REAL_TIME, Line, Start, Watch
from arena_async.transfer.destination import Timing
from arena_async.transfer.events import Observer
from arena_async.transfer.started_run import Fetched, To

__all__ = ["Exports"]


@attrs.frozen
class Exports:
    """
    The export definitions of the workspace and their runs.

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
        number: int | None = None,
        description: str | None = None,
        creator: str | None = None,
        creator_email: str | None = None,
        creator_guid: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[ExportDefinition]:
        """
        Give the export definitions of the workspace. One request for each 400.

        Args:
            name: Only this name, which need not be unique; a trailing ``*`` finds what starts with it.
            number: Only this number.
            description: Only this description; a trailing ``*`` finds what starts with it.
            creator: Only those of the user with this full name.
            creator_email: Only those of the user with this e-mail address.
            creator_guid: Only those of the user with this guid.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        params = {
            "name": name,
            "number": number,
            "description": description,
            "creator.fullName": creator,
            "creator.email": creator_email,
            "creator.guid": creator_guid,
        }
        return walk(self.session, routes.EXPORTS.request(params), ExportDefinition, offset=offset, limit=limit)

    async def get(self, guid: str, *, include_empty_additional_attributes: bool | None = None) -> ExportDefinition:
        """
        Give one export definition. One request.

        Args:
            guid: The definition.
            include_empty_additional_attributes: Whether custom attributes without a value are shown too.
        """
        params = {"includeEmptyAdditionalAttributes": include_empty_additional_attributes}
        return await ask(self.session, routes.EXPORT.request(params, export=guid), ExportDefinition)

    def runs(
        self,
        guid: str,
        *,
        completed_from: datetime | None = None,
        completed_to: datetime | None = None,
        latest: bool | None = None,
        number: int | None = None,
        status: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[ExportRun]:
        """
        Give the runs of a definition. One request for each 400. Date-times are aware.

        Args:
            guid: The definition.
            completed_from: Only those completed then or later.
            completed_to: Only those completed then or earlier.
            latest: True for the run that was completed last (``latestCompleted``).
            number: Only the run of this number.
            status: Only this status, for instance ``COMPLETE``.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        params = {
            "completionDateTimeFrom": completed_from,
            "completionDateTimeTo": completed_to,
            "latestCompleted": latest,
            "number": number,
            "status": status,
        }
        request = routes.EXPORT_RUNS.request(params, export=guid)
        return walk(self.session, request, ExportRun, offset=offset, limit=limit)

    async def run(self, guid: str, run: str) -> ExportRun:
        """
        Give one run of a definition. One request.

        Raises:
            PermissionDeniedError: Another user started it, or it does not exist.
        """
        return await ask(self.session, routes.EXPORT_RUN.request(export=guid, run=run), ExportRun)

    async def file(self, guid: str, run: str, file: str) -> ArenaFile:
        """Give name, size and the other facts of one file of a run. One request."""
        return await ask(self.session, routes.EXPORT_FILE.request(export=guid, run=run, file=file), ArenaFile)

    def files(
        self,
        guid: str,
        run: str | None = None,
        *,
        latest: bool = False,
        completed_since: datetime | None = None,
    ) -> ExportFiles:
        """
        Give the zip files of completed runs, to be brought home. Sends nothing yet.

        Only the user who started a run may fetch its files, and the service keeps them for 60 days.

        Args:
            guid: The definition.
            run: Only this run.
            latest: Only the run that was completed last.
            completed_since: Only runs completed then or later (aware).

        Raises:
            ConfigurationError: ``run`` together with ``latest`` or ``completed_since``.
        """
        return ExportFiles(
            self.session, guid, reserve=self.reserve, run=run, latest=latest, completed_since=completed_since
        )

    async def define(
        self,
        name: str,
        *,
        criteria: Criteria | None = None,
        options: ExportOptions,
        description: str | None = None,
        reuse: bool = False,
    ) -> ExportDefinition:
        """
        Make an export definition. It can be neither changed nor removed afterwards. One request.

        Args:
            name: What it is called, at most 100 characters; a name need not be unique.
            criteria: Which items it takes; None leaves that to each run.
            options: What it writes.
            description: What it is for, at most 4,000 characters.
            reuse: Look for a definition of this name first that does the same, and give that one: one request more for
                a new one, and none of them left behind by each run of a script.

        Raises:
            ConfigurationError: The service would refuse it, or the export would come out empty. Nothing was sent.
            TransportError: The answer was lost, and the definition is not in the list.
        """
        body: dict[str, Any] = {"name": name, "world": "ITEMS", "options": write_export_options(options)}
        body |= {"criteria": criteria.as_json()} if criteria is not None else {}
        body |= {"description": description} if description is not None else {}
        check_texts(name, description)
        wanted = body.get("criteria")

        def same(found: ExportDefinition) -> bool:
            agrees = found.options is not None and same_options(options, found.options)
            return found.name == name and agrees and (found.criteria or None) == wanted

        return await define(
            self.session,
            attrs.evolve(routes.EXPORT_DEFINE.request(), json=body),
            ExportDefinition,
            listed=lambda: self.search(name),
            same=same,
            reuse=reuse,
            timing=self.timing,
            user=self.user,
        )

    async def start(
        self,
        definition: str | ExportDefinition,
        *,
        criteria: Criteria | None = None,
        poll: PollPolicy | None = None,
        watch: Watch[ExportRun] | None = None,
    ) -> ExportRun:
        """
        Start a run of a definition, once. One request, and more only where something goes wrong.

        The service does one export at a time; while another one is in progress, this one waits in line, at the price of
        a request each time it asks. When the answer is lost, the run is looked for in the list of runs before anything
        is sent again.

        Args:
            definition: The definition, by its guid or as it was given, which is checked for criteria before sending.
            criteria: Which items it takes; exactly one of definition and run has criteria.
            poll: How long to wait in line, and how often to try; None for the usual policy.
            watch: Called with what is seen of the run.

        Raises:
            ConfigurationError: Both have criteria, or none.
            DeadlineError: Another export was in progress all the time; nothing was started.
            TransportError: The answer was lost, and nobody knows whether a run was started.
        """
        start = self._start(definition, criteria)
        return await self._line(_guid(definition)).start(start, poll=poll, watch=watch)

    async def wait(
        self,
        definition: str | ExportDefinition,
        run: str | ExportRun,
        *,
        poll: PollPolicy | None = None,
        earlier: Iterable[ExportRun] = (),
        watch: Watch[ExportRun] | None = None,
    ) -> ExportRun:
        """
        Wait until a run is done. Costs :meth:`PollPolicy.most_questions` requests at most.

        A run that somebody has fetched already (``DOWNLOADED``) is done, too.

        Args:
            definition: The definition.
            run: The run, by its guid or as :meth:`start` gave it, which saves the first question.
            poll: How often to ask and how long to wait; None for the usual policy.
            earlier: Runs that you have listed before: asking begins when most of the time is over that they took.
            watch: Called after each question.

        Raises:
            RunFailedError: The run ended badly.
            DeadlineError: It is not done yet; it goes on at the service.
            PermissionDeniedError: Another user started it, or it does not exist.
        """
        return await self._line(_guid(definition)).wait(run, poll=poll, watch=watch, earlier=earlier)

    async def fetch(
        self,
        definition: str | ExportDefinition,
        to: To,
        *,
        criteria: Criteria | None = None,
        poll: PollPolicy | None = None,
        fresh: bool = False,
        options: TransferOptions | None = None,
        observer: Observer | None = None,
        watch: Watch[ExportRun] | None = None,
    ) -> Fetched[ExportRun]:
        """
        Start a run, wait until it is done, and bring its files home, verified. All of it or an error.

        The folder remembers the run from the moment it is started: after a crash, or an error, the same call waits for
        that run and starts no other.

        Args:
            definition: The definition, by its guid or as it was given.
            to: The folder, or a :class:`~arena_async.Mirror` of one.
            criteria: Which items it takes; exactly one of definition and run has criteria.
            poll: How often to ask and how long to wait; None for the usual policy.
            fresh: Start a run even if one is under way.
            options: How files are brought home.
            observer: Called with each event of the files.
            watch: Called with what is seen of the run.

        Raises:
            ConfigurationError: Both the definition and the run have criteria, or none.
            RunFailedError: The run ended badly; the next call starts another one.
            TransfersFailedError: The run is done, and not all of its files are here; the next call fetches the rest.
            DeadlineError: The run is not done yet, or another one was in progress; the next call goes on.
            DestinationBusyError: The folder belongs to another workspace.
        """
        guid = _guid(definition)
        fetch = Fetch(
            line=self._line(guid),
            start=self._start(definition, criteria),
            files=self.files(guid).of,
            name=_digest(criteria),
            poll=poll,
            watch=watch,
            fresh=fresh,
        )
        return await fetch.fetch(to, options=options, observer=observer)

    @staticmethod
    def _start(definition: str | ExportDefinition, criteria: Criteria | None) -> Start[ExportRun]:
        """
        Say how a run is started.

        Raises:
            ConfigurationError: The definition is known, and both it and the run have criteria, or none.
        """
        if isinstance(definition, ExportDefinition) and bool(definition.criteria) == (criteria is not None):
            if criteria is None:
                problem = "Neither it nor the run has criteria (code 3140); give criteria for the run"
            else:
                problem = "Both it and the run have criteria (code 3142); leave them out of the run"
            raise ConfigurationError(f"The export {definition.guid} cannot be run. {problem}.")
        own = criteria.as_json() if criteria is not None else None
        request = routes.EXPORT_START.request(export=_guid(definition))
        return Start(
            request=attrs.evolve(request, json={} if own is None else {"criteria": own}),
            like=lambda run: own is None or run.criteria in (None, own),
        )

    def _line(self, guid: str) -> Line[ExportRun]:
        return Line(
            kind="export",
            definition=guid,
            model=ExportRun,
            session=self.session,
            one=lambda run: one_export_run(self.session, guid, run),
            every=lambda: aiter(self.runs(guid)),
            user=self.user,
            timing=self.timing,
        )


def _guid(definition: str | ExportDefinition) -> str:
    """Give the guid of a definition."""
    return definition.guid if isinstance(definition, ExportDefinition) else definition


def _digest(criteria: Criteria | None) -> str:
    """Give what tells runs with these criteria from others of the same definition."""
    if criteria is None:
        return ""
    return hashlib.sha256(json.dumps(criteria.as_json()).encode()).hexdigest()[:16]
