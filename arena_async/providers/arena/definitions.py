"""Definitions of exports and imports: looked for before they are made, because nobody can remove one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Callable
from datetime import datetime
from typing import TypeVar

from arena_async.errors import (
    ArenaAsyncError,
    ConfigurationError,
    DeadlineError,
    DecodeError,
    ServerError,
    TransportError,
)
from arena_async.net.session import Session
from arena_async.providers.arena.asking import ask
from arena_async.providers.arena.models import ExportDefinition, ImportDefinition
from arena_async.providers.arena.runs import SETTLING, SKEW, may_be_done, same_user, with_more
from arena_async.transfer.destination import Timing
from arena_async.wire.messages import Request

__all__ = ["check_texts", "define"]

D = TypeVar("D", ExportDefinition, ImportDefinition)

_log = logging.getLogger("arena_async")

#: Characters that the service takes.
_LONGEST_NAME, _LONGEST_DESCRIPTION = 100, 4000


def check_texts(name: str | None, description: str | None) -> None:
    """
    Check the texts of a definition; None is not checked.

    Raises:
        ConfigurationError: One is empty or too long.
    """
    if name is not None and not 0 < len(name.strip()) <= len(name) <= _LONGEST_NAME:
        raise ConfigurationError(f"The name has {len(name)} characters; it takes 1 to {_LONGEST_NAME}, not all blank.")
    if description is not None and len(description) > _LONGEST_DESCRIPTION:
        raise ConfigurationError(
            f"The description has {len(description):,} characters; it takes {_LONGEST_DESCRIPTION:,} at the most."
        )


async def define(
    session: Session,
    request: Request,
    model: type[D],
    *,
    listed: Callable[[], AsyncIterable[D]],
    same: Callable[[D], bool],
    reuse: bool,
    timing: Timing,
    user: str | None,
) -> D:
    """
    Make a definition, once, or give one that does the same.

    Args:
        session: Where to ask.
        request: The POST that makes it.
        model: What it becomes.
        listed: Lists those of its name.
        same: Whether a listed one does the same.
        reuse: Whether to look for such a one first.
        timing: Where time comes from.
        user: The e-mail address of the user of this client, or None where that is not known.

    Raises:
        ApiError: The service refused.
        TransportError: The answer was lost, and the definition is not in the list.
    """
    if reuse:
        async for found in listed():
            if same(found):
                return found
    earliest = timing.now() - SKEW
    lost: ArenaAsyncError
    try:
        return await ask(session, request, model)
    except (TransportError, DeadlineError, ServerError, DecodeError) as error:
        lost = error
    if may_be_done(lost):
        await timing.sleep(SETTLING)
        async for found in listed():
            if same(found) and same_user(found.creator, user) and _is_new(found.creation_date_time, earliest):
                _log.warning(
                    "%s The answer to %s was lost; the list shows that it made %s.", lost, request.line, found.guid
                )
                return found
        raise with_more(
            lost,
            "The list of definitions does not show it. It was not sent again, since a definition cannot be removed; "
            "look at the list after a while, or define it with reuse=True.",
        )
    raise lost


def _is_new(moment: datetime | None, earliest: datetime) -> bool:
    """Say whether something may have been made just now."""
    return moment is None or moment >= earliest
