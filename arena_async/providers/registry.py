"""
The services, by the name used on the command line.

One line per service, plain values only: importing this module loads no client. A new service is one directory beside
this module and one line here; its commands are in the module of the same name in ``arena_async/cli``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, Literal

import attrs

__all__ = ["PROVIDERS", "Provider", "Service"]

#: The names of the services.
Service = Literal["arena", "centrepoint"]


@attrs.frozen
class Provider:
    """
    One service.

    Args:
        title: The name for people.
        client: The client class as ``module:name``, imported when it is used.
        simulator: The simulator class as ``module:name``, imported when it is used.
        size_option: The argument of the simulator for the size of a file.
        example: The command that downloads the simulated files, with fields of the simulator's ``describe()``.
        of_command: Further arguments of ``from_env`` for the client of a command.
    """

    title: str
    client: str
    simulator: str
    size_option: str
    example: str
    of_command: Mapping[str, object] = attrs.field(factory=dict)

    def load_client(self) -> Any:
        """Import and return the client class."""
        return resolve_name(self.client)

    def load_simulator(self) -> Any:
        """Import and return the simulator class."""
        return resolve_name(self.simulator)


#: Every service, by its name.
PROVIDERS: Mapping[Service, Provider] = {
    "arena": Provider(
        title="Arena PLM",
        client="arena_async.providers.arena:ArenaClient",
        simulator="arena_async.testing.arena.simulator:ArenaSimulator",
        size_option="size",
        example="arena-async sync arena extracts",
        of_command={"shared": True},
    ),
    "centrepoint": Provider(
        title="ActiGraph CentrePoint",
        client="arena_async.providers.centrepoint:CentrePointClient",
        simulator="arena_async.testing.centrepoint.simulator:CentrePointSimulator",
        size_option="file_size",
        example="arena-async sync centrepoint datasets {study}",
    ),
}
