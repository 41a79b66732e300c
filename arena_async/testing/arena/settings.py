"""The settings of the simulated Arena."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal

import attrs

from arena_async.testing.server import SimulatedService

__all__ = ["ArenaSettings", "Size"]

Size = int | Callable[[int], int]


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class ArenaSettings(SimulatedService):
    """A service with the settings of :class:`~arena_async.testing.arena.simulator.ArenaSimulator`."""

    initial_files: int | Mapping[str, int] = attrs.field(default=3, alias="files")
    _size: Size = 20_000
    initial_exports: int = attrs.field(default=2, alias="exports")
    initial_imports: int = attrs.field(default=1, alias="imports")
    quota: int = 10_000
    _port: int = 0
    clock: Callable[[], float] = time.time
    email: str = "integration@example.com"
    password: str = "correct horse"  # noqa: S105 - of a local simulator
    workspace_id: int = 899_123_456
    lands_in: int | None = None
    client_id: str = "0oa1machine"
    client_secret: str = "correct staple"  # noqa: S105 - of a local simulator
    token_lifetime: float = 5399.0
    session_key: Literal["arenaSessionId", "arena_session_id"] = "arenaSessionId"
    count: object = "page"
    shape: Literal["results", "Results", "bare", "null", "missing"] = "results"
    paging: Literal["honoured", "limit ignored", "ignored", "refused"] = "honoured"
    honours_view: bool = True
    ignored_filters: frozenset[str] = attrs.field(default=(), converter=frozenset)
    status_names: Mapping[str, str] | None = None
    sizes_as_text: bool = False
    needs_content_type: bool = True
    quota_headers: Literal["always", "success", "never"] = "always"
    gzipped: bool = False
    etag: Literal["strong", "weak"] | None = None
    ranges: bool = False
    content_md5: bool = False
    disposition: bool = False
    import_parameters: Literal["query", "parts", "both"] = "query"
    runs_shown_after: float = 0.0
    run_polls: int = 1
    run_seconds: float | None = None

    def __attrs_post_init__(self) -> None:
        super().__init__(port=self._port, clock=self.clock)
