"""``simulate`` and ``demo``: simulators of the services on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from arena_async.cli.exit_codes import ExitCode
from arena_async.cli.options import NO_OPTIONS, InjectedOutput, OutputOptions
from arena_async.errors import ConfigurationError
from arena_async.providers.registry import PROVIDERS, Service

if TYPE_CHECKING:
    from arena_async.cli.output import Output

__all__ = ["demo", "open_simulator", "simulate"]


async def simulate(
    service: Annotated[Service, Parameter(help="The service.")],
    /,
    *,
    port: Annotated[int, Parameter(help="The port; 0 takes a free one.")] = 0,
    files: Annotated[int, Parameter(help="Number of files.")] = 20,
    size: Annotated[int, Parameter(help="Approximate bytes of each file.")] = 100_000,
    options: OutputOptions = NO_OPTIONS,  # noqa: ARG001  read by the caller
    output: InjectedOutput,
) -> int:
    """Run a local simulator until Ctrl-C, and show the settings for a client."""
    import asyncio

    output.hint, output.stopped = "", ExitCode.OK
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


async def demo(
    *,
    to: Annotated[Path | None, Parameter(help="A new or empty directory; by default a temporary one.")] = None,
    options: OutputOptions = NO_OPTIONS,  # noqa: ARG001  read by the caller
    output: InjectedOutput,
) -> int:
    """Run all steps against local simulators, without an account, in a few seconds."""
    from arena_async.cli.demo import run_demo

    return await run_demo(to, output)
