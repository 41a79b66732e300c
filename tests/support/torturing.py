"""What a torture is told, and what it tells."""

from __future__ import annotations

import attrs

__all__ = ["Torture"]


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
