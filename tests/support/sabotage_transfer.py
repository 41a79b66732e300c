"""How the protections of the transfer rows are taken away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sabotage import protection

from arena_async.errors import TransportError
from arena_async.net import bodies
from arena_async.transfer import fetching, integrity, planning
from arena_async.wire import decoding, ranges


def _always(value: object) -> Callable[..., Any]:
    """Make a function that gives one value whatever it is asked."""
    return lambda *_, **__: value


@protection("a cut body is taken up where it broke")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ranges.Held, "resumable", property(_always(False)))


@protection("the length that is known beforehand is compared")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetching._Journey, "check_length", _always(None))
    patch.setattr(integrity.Inspector, "_wrong_length", _always(None))


@protection("the structure of content is followed to its end")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(integrity.Inspector, "_check_structure", _always(True))


@protection("content without any proof is not called verified")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(integrity, "choose_proof", _always("length"))


@protection("a body that breaks is told from one that ends")
def _(patch: pytest.MonkeyPatch) -> None:
    read = bodies._ReaderBody.readinto

    async def readinto(self: bodies._ReaderBody, buffer: memoryview) -> int:
        try:
            return await read(self, buffer)
        except TransportError:
            return 0

    patch.setattr(bodies._ReaderBody, "readinto", readinto)


@protection("an announced length that contradicts the listing is not believed")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ranges, "_differ", _always(False))


@protection("a body is stopped where it has to end")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetching, "min", _always(None), raising=False)
    patch.setattr(integrity.Inspector, "_too_long", _always(False))


@protection("an empty body is a file only where one can be")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(integrity.Inspector, "_wrong_kind", _always(None))


@protection("a byte is no progress")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planning, "LEAST_PROGRESS", 1)
    patch.setattr(planning, "max", _always(1), raising=False)


@protection("a size is a number of bytes or nothing")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoding, "_is_size", _always(True))
