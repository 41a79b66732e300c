"""What is made of the runs of a benchmark: medians, ranges and ratios within a round. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Self

import attrs

__all__ = ["Spread", "ratios", "ratios_to_fastest"]


@attrs.frozen
class Spread:
    """
    Some values, as their median and their range.

    Args:
        middle: The median.
        minimum: The least of them.
        maximum: The greatest of them.
    """

    middle: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """
        Sum values up.

        Raises:
            ValueError: There are none.
        """
        if not values:
            raise ValueError("There is no median of nothing.")
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.minimum:.2f}-{self.maximum:.2f})"


def ratios(values: Sequence[float], others: Sequence[float]) -> Spread:
    """
    Compare two contenders round by round: only what ran in one round ran on the same machine.

    Args:
        values: Of the one, a value for each round.
        others: Of the other, in the same order.

    Raises:
        ValueError: They did not run in the same rounds, or in none.
    """
    return Spread.of([value / other for value, other in zip(values, others, strict=True)])


def ratios_to_fastest(values: Sequence[float], peers: Mapping[str, Sequence[float]]) -> tuple[str, Spread]:
    """
    Compare a contender with the peer whose median is the least, and say which one that is.

    It is one peer for all rounds: the fastest of each round would be a peer that does not exist.

    Raises:
        ValueError: There is no peer.
    """
    if not peers:
        raise ValueError("There is no peer to compare with.")
    fastest = min(peers, key=lambda name: (median(peers[name]), name))
    return fastest, ratios(values, peers[fastest])
