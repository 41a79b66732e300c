"""The settings of the simulated CentrePoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import attrs

from arena_async.testing.server import SimulatedService

__all__ = ["ALL_SCOPES", "CentrePointSettings"]

ALL_SCOPES = ("CentrePoint", "DataAccess", "Analytics", "DataRetrieval")


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class CentrePointSettings(SimulatedService):
    """A service with the settings of :class:`~arena_async.testing.centrepoint.simulator.CentrePointSimulator`."""

    study: int = 234
    _subjects: int | Sequence[int] = 5
    _programs: int | Sequence[str] = 2
    _data_sets: int | Sequence[str] = ("ActivityDaily8", "ActivityEpochs10")
    _files: int | None = None
    file_size: int = 20_000
    _days: int = 3
    _port: int = 0
    rate_limit: int | None = 500
    link_lifetime: float = 14_400.0
    token_lifetime: float = 3600.0
    scopes: tuple[str, ...] = attrs.field(default=ALL_SCOPES, converter=tuple[str, ...])
    client_id: str = "simulated-client"
    client_secret: str = "simulated-secret"  # noqa: S105 - of a local simulator
    filters_ignored: bool = False
    expiry_contradicts: bool = False
    _content_md5: bool = True
    names_with_data_set: bool = False
    clock: Callable[[], float] = time.time

    def __attrs_post_init__(self) -> None:
        super().__init__(listeners=("api", "auth", "files"), port=self._port, clock=self.clock, case_blind=True)
        if self.file_size < 100:
            raise ValueError(f"file_size is {self.file_size}; a CSV in a gzip member takes at least 100 bytes.")

    @property
    def base_url(self) -> str:
        """The address of the API."""
        return self.origin("api")

    @property
    def auth_url(self) -> str:
        """The address of the token endpoint."""
        return f"{self.origin('auth')}/connect/token"

    @property
    def file_host(self) -> str:
        """The address of the file host."""
        return self.origin("files")
