"""What a torture is told, what it tells, and what its grounds share."""

from __future__ import annotations

import contextlib
import itertools
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs

__all__ = ["Ground", "Torture"]

#: Schedules that are played at the most.
_MAXIMUM = 10_000


class Ground:
    """
    Where schedules are played, and what was seen of them.

    Attributes:
        schedules: Schedules that were begun.
        ends: Lives that were lived, by how they ended.
        broken: What was seen where a promise did not hold, the first time first. Hypothesis plays such a schedule once
            more, and where it goes well then, tells nothing but that.
    """

    def __init__(self) -> None:
        self.schedules = 0
        self.ends: Counter[str] = Counter()
        self.broken: list[str] = []

    @contextlib.contextmanager
    def witnessed(self) -> Iterator[None]:
        """Keep what is raised."""
        try:
            yield
        except Exception as error:
            self.broken.append("".join(traceback.format_exception(error)))
            raise


G = TypeVar("G", bound=Ground)


@attrs.frozen(kw_only=True)
class Torture:
    """
    What was asked for.

    Args:
        minutes: For everything together.
        seed: What all chance is made from.
        replayed: Whether the seed was given: then it is the only one, and a shorter schedule is looked for.
        lines: What is said at the end.
    """

    minutes: float
    seed: int
    replayed: bool
    lines: list[str]

    def say(self, line: str) -> None:
        """Add a line to what is said at the end."""
        self.lines.append(line)

    def play_many(self, name: str, ground: G, play: Callable[..., None], *, share: float) -> None:
        """Play the schedules of one seed after the other, for a share of the time."""
        ends = time.monotonic() + self.minutes * 60 * share
        for number in itertools.count(self.seed):
            try:
                play(ground, number, shrink=self.replayed)
            except BaseException:
                self.say(f"{name}: seed {number} BREAKS A PROMISE, see above; first of all:")
                self.say(ground.broken[0] if ground.broken else "nothing was seen")
                raise
            if self.replayed or ground.schedules >= _MAXIMUM or time.monotonic() >= ends:
                break
        lived = ", ".join(f"{end} {count}" for end, count in ground.ends.most_common())
        self.say(f"{name}: {ground.schedules:,} from the seeds {self.seed} to {number}; lives that ended {lived}")
