"""Options that several commands share. Imports nothing that ``--help`` does not need."""

from __future__ import annotations

import os
from collections import ChainMap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
from cyclopts import Group, Parameter

from arena_async.providers.registry import PROVIDERS, Service

if TYPE_CHECKING:
    from arena_async.cli.output import Output
    from arena_async.options import TransferOptions

__all__ = [
    "NO_OPTIONS",
    "NO_SERVICE_OPTIONS",
    "Definition",
    "DownloadOptions",
    "GetOptions",
    "InjectedOutput",
    "OutputOptions",
    "ServiceOptions",
    "SyncOptions",
    "TargetOptions",
    "flag",
]

# The output of a command is no option: ``app.run`` makes it from the ``OutputOptions`` of the command.
if TYPE_CHECKING:
    InjectedOutput = Annotated[Output, Parameter(parse=False)]
else:  # The parser needs no type for it.
    InjectedOutput = Annotated[object, Parameter(parse=False)]

Definition = Annotated[str, Parameter(help="GUID of the definition.")]

#: An option without a value.
flag = partial(Parameter, negative="", show_default=False)

_OUTPUT = Group("Output", sort_key=9)

#: The upper bound of the adaptive number of workers, without ``--workers``.
_MAX_WORKERS = 32


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class OutputOptions:
    """What is written to stdout and stderr."""

    json: Annotated[bool, flag(group=_OUTPUT, help="Write data as one JSON object a line.")] = False
    quiet: Annotated[bool, flag(group=_OUTPUT, help="Show errors only, and JSON if requested.")] = False


#: The options of a command line without any; so is ``NO_SERVICE_OPTIONS``.
NO_OPTIONS = OutputOptions()


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class ServiceOptions(OutputOptions):
    """Options of a command that sends requests to a service."""

    env: Annotated[Path | None, Parameter(help="Read settings from a file of NAME=value lines.")] = None

    def connect(self, service: Service) -> Any:
        """
        Return a client of a service, configured from the environment and the settings file.

        Raises:
            ConfigurationError: A setting is missing or malformed.
        """
        from arena_async.cli.settings import read_settings

        environ = None if self.env is None else ChainMap(read_settings(self.env), os.environ)
        provider = PROVIDERS[service]
        return provider.load_client().from_env(environ=environ, **provider.of_command)


NO_SERVICE_OPTIONS = ServiceOptions()


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class TargetOptions(ServiceOptions):
    """Options of a command that uses a target directory."""

    to: Annotated[Path, Parameter(help="The target directory.")]


@Parameter(name="*")
@attrs.frozen(kw_only=True, slots=False)
class DownloadOptions:
    """Limits of a download."""

    workers: Annotated[
        int | None, Parameter(help="Concurrent downloads, 1 to 256; by default 8, up to 32 while throughput grows.")
    ] = None
    max_rate: Annotated[str | None, Parameter(help="Bytes per second in total, for instance 500K or 10M.")] = None
    if_running: Annotated[
        Literal["wait", "fail"], Parameter(help="While another run of the same command uses the directory.")
    ] = "wait"

    def transfer_options(self) -> TransferOptions:
        """
        Return the options of the transfer.

        Raises:
            ConfigurationError: A value is out of range or malformed.
        """
        from arena_async.cli.settings import read_size
        from arena_async.options import TransferOptions

        rate = None if self.max_rate is None else read_size(self.max_rate, option="--max-rate")
        if self.workers is None:
            return TransferOptions(max_workers=_MAX_WORKERS, max_rate=rate)
        return TransferOptions(workers=self.workers, max_rate=rate)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class SyncOptions(DownloadOptions, TargetOptions):
    """Options of a command that downloads from a service."""


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class GetOptions(DownloadOptions, OutputOptions):
    """Options of ``get``."""

    to: Annotated[Path, Parameter(help="The target directory.")]
    input: Annotated[
        Path | None,
        Parameter(
            name=("--input", "-i"),
            allow_leading_hyphen=True,
            help="A file with one URL a line, or JSON lines with url, name, size, sha256, md5; - is stdin.",
        ),
    ] = None
    folders: Annotated[bool, flag(help="Keep host and directories of each URL below the target directory.")] = False
    dry_run: Annotated[bool, flag(help="Only show what would be done; no file is requested.")] = False
    allow_http: Annotated[bool, flag(help="Allow unencrypted http: URLs.")] = False
    allow_private: Annotated[bool, flag(help="Allow loopback and private network addresses.")] = False
