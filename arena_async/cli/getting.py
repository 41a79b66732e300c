"""The command that brings any addresses home."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from arena_async.cli.jobs import Options, Teller, bring, conclude, tell_plan
from arena_async.cli.output import Output
from arena_async.cli.render import View
from arena_async.errors import ConfigurationError
from arena_async.providers.urls import UrlSet
from arena_async.transfer.mirror import Mirror

__all__ = ["get", "listed"]


def listed(urls: Sequence[str], file: Path | None, *, folders: bool, allow_http: bool, allow_private: bool) -> UrlSet:
    """
    Make the set of files: addresses as they were typed, those in a file, or those that come over stdin.

    Raises:
        ConfigurationError: There are no addresses, or two kinds of them.
    """
    if bool(urls) == (file is not None):
        raise ConfigurationError("Give addresses, or a file with addresses after -i, and not both. Nothing was sent.")
    if file is None:
        return UrlSet(urls, folders=folders, allow_http=allow_http, allow_private=allow_private)
    if file == Path("-"):
        text = sys.stdin.buffer.read()
        return UrlSet.parse(text, name="stdin", folders=folders, allow_http=allow_http, allow_private=allow_private)
    return UrlSet.read(file, folders=folders, allow_http=allow_http, allow_private=allow_private)


async def get(listed: Callable[[], UrlSet], output: Output, *, to: Path, options: Options, dry_run: bool) -> int:
    """Bring the files of a list of addresses home, or say what that would do."""
    chosen = options()
    async with listed() as files:
        # Before the folder is made: what cannot be meant is no reason to leave anything behind.
        await files.check()
        if dry_run:
            async with Mirror(to) as mirror:
                planned = await mirror.plan(files)
            return tell_plan(planned, output)
        async with View(output) as view:
            teller = Teller(output, view, to)
            report, here = await bring(files, teller, to=to, options=chosen)
    teller.say_rest()
    return conclude(report, output, here=here, to=to, told=teller.told)
