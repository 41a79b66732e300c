"""A service played on this machine, for trying things out."""

from __future__ import annotations

import asyncio
import shlex
from typing import Any

from arena_async.cli.exits import Exit
from arena_async.cli.output import Output
from arena_async.errors import ConfigurationError
from arena_async.providers.registry import Provider

__all__ = ["example", "open_simulator", "simulate"]


async def simulate(provider: Provider, output: Output, *, port: int, files: int, size: int) -> int:
    """Play a service until the command is stopped, and print the settings that lead a client there."""
    if not 0 <= port <= 65_535:  # Not every event loop sees that; uvloop takes another port then.
        raise ConfigurationError(
            f"Port {port} of this machine cannot be used; they go from 1 to 65535, 0 takes a free one."
        )
    simulator = open_simulator(provider, port=port, files=files, size=size)
    try:
        await simulator.start()
    except OSError as error:
        raise ConfigurationError(
            f"Port {port} of this machine cannot be used ({error.strerror}); take another."
        ) from None
    try:
        _announce(provider, simulator, output)
        await asyncio.Event().wait()
    finally:
        await simulator.aclose()
    return Exit.OK


def open_simulator(provider: Provider, *, files: int, size: int, port: int = 0) -> Any:
    """
    Make the simulator of a service, not started yet.

    Raises:
        ConfigurationError: It cannot be made like this.
    """
    try:
        return provider.load_simulator()(port=port, files=files, **{provider.simulated_size: size})
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"This cannot be simulated: {error}") from None


def example(provider: Provider, simulator: Any) -> str:
    """Give the words of the command line that bring home what a simulator offers."""
    values = [str(getattr(simulator, attribute)) for attribute in provider.simulated_words]
    return shlex.join(["arena-async", "sync", provider.name, provider.sources[0].name, *values])


def _announce(provider: Provider, simulator: Any, output: Output) -> None:
    settings: dict[str, str] = simulator.describe()["environment"]
    if output.json:
        output.record({"type": "simulator", "service": provider.name, "environment": settings})
        return
    output.note(f"# {provider.title}, simulated. Set these where the client runs, or put them into a file for --env:")
    for name, value in settings.items():
        output.data(f"export {name}={shlex.quote(value)}")
    output.note(f"# Then: {example(provider, simulator)} --to out")
    output.note("# Ctrl-C ends it.")
