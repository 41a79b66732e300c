"""
What a folder remembers about jobs that a service does for it: a run that was started is waited for, not started again.

The ledger of the folder holds one row for each job. Whoever starts a run writes ``starting`` before the request leaves,
``started`` as soon as the run has a name, and ``over`` when its result is here.
"""

from __future__ import annotations

import attrs

from arena_async.transfer.destination import Destination
from arena_async.transfer.ledger import Job, JobState

__all__ = ["Job", "JobState", "Jobs"]


@attrs.frozen
class Jobs:
    """
    The jobs of one folder.

    Args:
        destination: The folder.
    """

    _destination: Destination = attrs.field(repr=False)

    async def claim(self, service: str, tenant: str) -> None:
        """
        Take the folder for a tenant of a service, before anything is started for it.

        Raises:
            DestinationBusyError: It belongs to another tenant of that service.
            StorageError: The folder cannot be used.
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        await self._destination.open()
        await self._destination.claim(service, tenant)

    async def find(self, key: str) -> Job | None:
        """
        Give what is known about a job, or None.

        Raises:
            StorageError: The ledger cannot be read.
            ClosedError: The folder was closed before, or is used from another event loop or after a fork.
        """
        await self._destination.open()
        return await self._destination.ledger.job(key)

    async def note(self, job: Job) -> None:
        """
        Write down what is known about a job now; it is on the disk when this returns.

        Raises:
            StorageError: The ledger cannot be written.
            ClosedError: The folder was closed before, or is used from another event loop or after a fork.
        """
        await self._destination.open()
        await self._destination.ledger.note_job(job)
