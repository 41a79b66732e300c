"""What a sync would cost in requests, beside what is left."""

from __future__ import annotations

from datetime import datetime

import attrs

from arena_async.cli.output import show_count, show_size, show_when
from arena_async.transfer.planning import Plan

__all__ = ["Bill", "describe"]


@attrs.frozen(kw_only=True)
class Bill:
    """
    What a sync costs in metered requests, beside what is left.

    Args:
        requests: All of them: the listing and the content.
        listing: Those for the listing, as many as it took to plan.
        content: Those for the content of all files to fetch.
        remaining: What the service last said is left, or None where it counts none or has not said.
        reserve: What is to be left untouched.
        resets_at: When the allowance starts anew, or None.
        fits: Whether it fits into what is left, or None where that is not known.
    """

    requests: int
    listing: int
    content: int
    remaining: int | None
    reserve: int
    resets_at: datetime | None
    fits: bool | None

    @classmethod
    def of(cls, planned: Plan) -> Bill:
        """Add up a plan for a sync that lists once more."""
        needed = planned.listing + planned.content
        return cls(
            requests=needed,
            listing=planned.listing,
            content=planned.content,
            remaining=planned.remaining,
            reserve=planned.reserve,
            resets_at=planned.resets_at,
            fits=planned.price.fits(needed),
        )


def describe(planned: Plan, bill: Bill) -> list[str]:
    """Say in a few lines what a plan would do and what it costs."""
    counts = ", ".join(f"{action.value} {number:,}" for action, number in planned.counts.items() if number)
    size = "size not listed" if planned.bytes_to_fetch is None else show_size(planned.bytes_to_fetch)
    lines = [
        f"{counts or 'nothing is offered'}  ({size})",
        f"costs {show_count(bill.requests, 'request')}: {bill.listing:,} to list, {bill.content:,} for content",
    ]
    if bill.remaining is None:
        return lines
    verdict = "fits" if bill.fits else "does not fit"
    reserve = f", {bill.reserve:,} of them in reserve" if bill.reserve else ""
    reset = f" until {show_when(bill.resets_at)}" if bill.resets_at else ""
    return [*lines, f"{verdict}: {bill.remaining:,} left{reserve}{reset}"]
