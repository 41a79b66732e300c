"""
The arithmetic of allowances: what may leave now, what has to wait, and what must not leave at all.
"""

from __future__ import annotations

from datetime import datetime

import attrs

__all__ = ["Quota"]


@attrs.frozen(kw_only=True)
class Quota:
    """
    What an answer said about the allowance.

    Args:
        remaining: Requests left, or None when the answer did not say.
        resets_at: When the allowance starts anew (aware, UTC), or None.
        limit: Requests per window, or None.
    """

    remaining: int | None = None
    resets_at: datetime | None = None
    limit: int | None = None
