"""What can be chosen for a command, in the groups in which commands share it."""

from __future__ import annotations

import os
from collections import ChainMap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from arena_async.options import PollPolicy, TransferOptions
    from arena_async.providers.registry import Provider

__all__ = ["Compare", "Get", "Online", "Talk", "Transfer", "Wait", "flag"]

#: An option without a value.
flag = partial(Parameter, negative="", show_default=False)

_TALK = Group("Output", sort_key=9)

#: Files open at a time, at the most, where nobody says how many.
_MOST_WORKERS = 32

_Workers = Annotated[
    int | None, Parameter(help="Files open at a time, 1 to 256; without it 8, and up to 32 while that brings more.")
]
_Rate = Annotated[str | None, Parameter(help="Bytes a second in all, for instance 500K or 10M.")]


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Talk:
    """How a command talks."""

    json: Annotated[bool, flag(group=_TALK, help="Write data as one JSON object a line.")] = False
    quiet: Annotated[bool, flag(group=_TALK, help="Show nothing but errors (and JSON, if asked for).")] = False


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Online(Talk):
    """How a command that talks to a service does so."""

    env: Annotated[Path | None, Parameter(help="Read settings from a file of NAME=value lines.")] = None

    def connect(self, provider: Provider) -> Any:
        """
        Make the client of a service from the environment and the file.

        Raises:
            ConfigurationError: A setting is missing or malformed.
        """
        from arena_async.cli.settings import read_settings

        environ = None if self.env is None else ChainMap(read_settings(self.env), os.environ)
        return provider.load_client().from_env(environ=environ)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Compare(Online):
    """The folder that is compared with the service."""

    to: Annotated[Path, Parameter(help="The folder that holds the files, or will.")]


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Transfer(Compare):
    """How files come into a folder."""

    workers: _Workers = None
    max_rate: _Rate = None

    def options(self) -> TransferOptions:
        """
        Make the options.

        Raises:
            ConfigurationError: One of them cannot be meant.
        """
        return _options(self.workers, self.max_rate)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Get(Talk):
    """What is brought home from where, and how."""

    to: Annotated[Path, Parameter(help="The folder for the files.")]
    input: Annotated[
        Path | None,
        Parameter(
            name=("--input", "-i"),
            allow_leading_hyphen=True,
            help="A file of addresses, one a line, or of JSON lines with url, name, size, sha256, md5; - is stdin.",
        ),
    ] = None
    folders: Annotated[bool, flag(help="Keep host and folders of each address below the folder.")] = False
    dry_run: Annotated[bool, flag(help="Only say what would be done; no file is asked for.")] = False
    allow_http: Annotated[bool, flag(help="Take addresses with http: too, which anybody on the way can read.")] = False
    allow_private: Annotated[bool, flag(help="Take addresses in this machine or a private network too.")] = False
    workers: _Workers = None
    max_rate: _Rate = None

    def options(self) -> TransferOptions:
        """
        Make the options.

        Raises:
            ConfigurationError: One of them cannot be meant.
        """
        return _options(self.workers, self.max_rate)


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Wait:
    """How long a run is waited for."""

    timeout: Annotated[float, Parameter(help="Seconds to wait for the run.")] = 21_600.0
    every: Annotated[float, Parameter(help="Seconds to the first question; each costs a request.")] = 5.0

    def poll(self) -> PollPolicy:
        """
        Make the policy.

        Raises:
            ConfigurationError: One of the two cannot be meant.
        """
        from arena_async.options import PollPolicy

        return PollPolicy(timeout=self.timeout, every=self.every, slowest=max(300.0, self.every))


def _options(workers: int | None, max_rate: str | None) -> TransferOptions:
    """Make the options of a transfer, or raise what is wrong with them."""
    from arena_async.cli.settings import read_size
    from arena_async.options import TransferOptions

    rate = None if max_rate is None else read_size(max_rate, option="--max-rate")
    if workers is None:
        return TransferOptions(most_workers=_MOST_WORKERS, max_rate=rate)
    return TransferOptions(workers=workers, max_rate=rate)
