"""
The only place where tests reach into an open engine: settings for which its public classes have no argument.

A test that needs a disk of its own, or records after fewer bytes than a user would want, says so here and sees
everything else from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from arena_async import Downloader, Mirror
from arena_async.transfer.filesystem import FileSystem
from arena_async.transfer.partial_file import owner_of
from arena_async.transfer.rate import Splitting

__all__ = ["Splitting", "rig"]

Engine = TypeVar("Engine", Downloader, Mirror)


def rig(
    engine: Engine,
    *,
    disk: FileSystem | None = None,
    record_every: int | None = None,
    splitting: Splitting | None = None,
    draw_name: Callable[[], str] | None = None,
    disk_clock: Callable[[], float] | None = None,
    disk_sleep: Callable[[float], object] | None = None,
    known_partial: str | None = None,
) -> Engine:
    """
    Return the engine with other settings; it may be open already.

    Args:
        engine: What to change.
        disk: The calls to the system.
        record_every: Bytes after which a partial file is forced to the disk and recorded.
        splitting: When and how one file is fetched over several connections.
        draw_name: Returns the random part of the name of a partial file.
        disk_clock: Seconds by which records become due.
        known_partial: The name of a partial file that counts as found when the directory was opened.
        disk_sleep: Waits, on a thread, before a rename that another program disturbed is tried again.
    """
    context = engine._context
    directory, partials = context.directory, context.partials
    if disk is not None:
        directory.files = partials.files = disk
    if record_every is not None:
        directory.flush_unit = record_every
    if splitting is not None:
        context.splitting = splitting
    if draw_name is not None:
        directory.draw_name = draw_name
    if disk_clock is not None:
        directory.clock = disk_clock
    if disk_sleep is not None:
        directory.sleep = disk_sleep
    if known_partial is not None:
        directory.resumable.add(owner_of(known_partial))
    return engine
