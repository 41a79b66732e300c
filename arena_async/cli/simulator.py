"""``simulate``: a simulator of a service on this machine."""

from __future__ import annotations

import asyncio
import shlex
from typing import Any

from arena_async.cli.exit_codes import ExitCode
from arena_async.cli.output import Output
from arena_async.errors import ConfigurationError
from arena_async.providers.registry import PROVIDERS, Service

__all__ = ["open_simulator", "simulate"]


async def simulate(service: Service, output: Output, *, port: int, files: int, size: int) -> int:
    """Run a simulator until the command is stopped, and write the settings that a client needs."""
    if not 0 <= port <= 65_535:  # uvloop would choose another port
        raise ConfigurationError(f"Port {port} cannot be used; ports are 1 to 65535, and 0 takes a free one.")
    simulator = open_simulator(service, port=port, files=files, size=size)
    try:
        await simulator.start()
    except OSError as error:
        raise ConfigurationError(f"Port {port} cannot be used ({error.strerror}); choose another.") from None
    try:
        _write_settings(service, simulator, output)
        await asyncio.Event().wait()
    finally:
        await simulator.aclose()
    return ExitCode.OK


def open_simulator(service: Service, *, files: int, size: int, port: int = 0) -> Any:
    """
    Return the simulator of a service, not started yet.

    Raises:
        ConfigurationError: An argument is out of range.
    """
    provider = PROVIDERS[service]
    try:
        return provider.load_simulator()(port=port, files=files, **{provider.size_option: size})
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"The simulator cannot be started: {error}") from None


def _write_settings(service: Service, simulator: Any, output: Output) -> None:
    provider, description = PROVIDERS[service], simulator.describe()
    settings: dict[str, str] = description["environment"]
    if output.json:
        output.record({"type": "simulator", "service": service, "environment": settings})
        return
    output.note(f"# {provider.title} simulator. Set these for the client, or save them in a file for --env:")
    for name, value in settings.items():
        output.data(f"export {name}={shlex.quote(value)}")
    output.note(f"# Then: {provider.example.format(**description)} --to out")
    output.note("# Ctrl-C stops it.")
