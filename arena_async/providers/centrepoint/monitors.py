"""How data is collected: the monitors of a study, who wears them, and what reached the service."""

from __future__ import annotations

from arena_async.net.pager import Pager
from arena_async.providers.centrepoint.asking import Asking, Demand
from arena_async.providers.centrepoint.auth import CENTREPOINT
from arena_async.providers.centrepoint.collection_models import ActivityMonitor, Assignment, Upload

__all__ = ["ActivityMonitors", "Assignments", "Uploads"]


class ActivityMonitors:
    """The monitors of a study; reached as ``client.activity_monitors``. Needs the scope ``CentrePoint``."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def search(self, study: int | str) -> Pager[ActivityMonitor]:
        """List them."""
        return self._asking.walk(
            Demand(
                template="/centrepoint/v3/Studies/{study}/ActivityMonitors",
                scope=CENTREPOINT,
                model=ActivityMonitor,
                key=("serial",),
                study=study,
            )
        )

    async def get(self, study: int | str, serial: str) -> ActivityMonitor:
        """
        Give one, by its serial number.

        Raises:
            NotFoundError: There is no such monitor.
        """
        template = "/centrepoint/v3/Studies/{study}/ActivityMonitors/{serial}"
        return await self._asking.one(
            Demand(template=template, scope=CENTREPOINT, model=ActivityMonitor, study=study, parts={"serial": serial})
        )


class Assignments:
    """Which subject wears which monitor; reached as ``client.assignments``. Needs the scope ``CentrePoint``."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def search(self, study: int | str) -> Pager[Assignment]:
        """List the assignments of a study, those that ended included."""
        template = "/centrepoint/v3/Studies/{study}/Assignments"
        return self._asking.walk(Demand(template=template, scope=CENTREPOINT, model=Assignment, study=study))

    async def get(self, study: int | str, assignment: int | str) -> Assignment:
        """
        Give one, by its number.

        Raises:
            NotFoundError: There is no such assignment.
        """
        template = "/centrepoint/v3/Studies/{study}/Assignments/{assignment}"
        parts = {"assignment": assignment}
        return await self._asking.one(
            Demand(template=template, scope=CENTREPOINT, model=Assignment, study=study, parts=parts)
        )


class Uploads:
    """What monitors sent to the service; reached as ``client.uploads``. Needs the scope ``CentrePoint``."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def search(self, study: int | str, subject: int | str) -> Pager[Upload]:
        """
        List the uploads of a subject, by number or identifier.

        The service has no filter on dates here and promises no order.
        """
        template = "/centrepoint/v3/Studies/{study}/Subjects/{subject}/Uploads"
        return self._asking.walk(
            Demand(template=template, scope=CENTREPOINT, model=Upload, study=study, subject=subject)
        )

    async def get(self, study: int | str, subject: int | str, upload: int | str) -> Upload:
        """
        Give one, by its number.

        Raises:
            NotFoundError: There is no such upload.
        """
        return await self._asking.one(
            Demand(
                template="/centrepoint/v3/Studies/{study}/Subjects/{subject}/Uploads/{upload}",
                scope=CENTREPOINT,
                model=Upload,
                study=study,
                subject=subject,
                parts={"upload": upload},
            )
        )
