"""How the protections of the transfer rows are taken away."""

from __future__ import annotations

import pytest
from sabotage import protection

from arena_async.wire import ranges


@protection("a cut body is taken up where it broke")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ranges.Held, "resumable", property(lambda _: False))
