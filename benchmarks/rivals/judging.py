"""What a row is, and how an outcome is judged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

import attrs

from benchmarks.rivals.stage import Ended, File, Stage, body

__all__ = [
    "CONTENT",
    "EVERYBODY",
    "NAME",
    "Mark",
    "Row",
    "VerificationResult",
    "claim",
    "judge",
    "judge_all",
    "state",
    "the_file",
    "worst",
]

EVERYBODY = frozenset({"parfive", "pypdl", "pooch", "loop"})

#: The file of the rows that need only one.
NAME, CONTENT = "day.csv.gz", body(400_000, "day")


class Mark(StrEnum):
    """What became of what is owed."""

    #: Everything that is owed.
    YES = "yes"
    #: No harm: it says that it has failed, and nothing wrong is there. But what could be had is not there either.
    GIVES_UP = "gives up"
    #: Harm, or the user is not told.
    NO = "NO"
    #: It cannot be asked.
    UNASKED = "-"


@attrs.frozen
class VerificationResult:
    """A mark, and what was seen."""

    mark: Mark
    seen: str


@attrs.frozen(kw_only=True)
class Row:
    """
    One row.

    Args:
        id: Its name in the fault matrix.
        short: It in some words.
        world: What the world does.
        owed: What a user may expect.
        said: Who was said to fail it when it was written down: names of contenders.
        play: Plays it to one contender.
        unasked: Who cannot be asked, with the reason.
        notice: What has to be known to judge fairly, in whole sentences.
    """

    id: str
    short: str
    world: str
    owed: str
    said: frozenset[str] = attrs.field(converter=frozenset[str])
    play: Callable[[Stage], Awaitable[VerificationResult]]
    unasked: dict[str, str] = attrs.field(factory=dict)
    notice: str = ""


# ------------------------------------------------------------------------------------------------------------ judgement


def state(found: bytes | None, content: bytes) -> str:
    """Return what lies under a final name."""
    if found is None:
        return "nothing"
    if found == content:
        return "the complete file"
    kind = "the first" if content.startswith(found) else "wrong bytes:"
    return f"{kind} {len(found):,} of {len(content):,} bytes"


def claim(ended: Ended) -> str:
    """Return what it says of itself."""
    if ended.code is None:
        return f"still running after {ended.seconds:.0f} s"
    if ended.done is None:
        return f"ended with {ended.code}"
    return "reported as downloaded" if 0 in ended.done else "reported as failed"


def judge(stage: Stage, ended: Ended, *, refusing: bool = False) -> VerificationResult:
    """
    Judge the one file of a row.

    Args:
        stage: Where it was played.
        ended: How it ended.
        refusing: Whether a refusal is what is owed, and not the file.
    """
    found = stage.found(NAME)
    seen = f"{state(found, CONTENT)} under the final name, {claim(ended)}"
    if ended.code is None:
        return VerificationResult(Mark.NO, seen)
    downloaded = ended.done is not None and 0 in ended.done
    right = found == CONTENT
    if downloaded:
        return VerificationResult(Mark.YES if right and not refusing else Mark.NO, seen)
    if found is not None:
        return VerificationResult(Mark.GIVES_UP if right else Mark.NO, seen)
    return VerificationResult(Mark.YES if refusing else Mark.GIVES_UP, seen)


def the_file(stage: Stage, path: str = "/day.csv.gz") -> list[File]:
    """Return the file of the rows that need only one."""
    return [File(url=stage.server.base_url + path, content=CONTENT, name=NAME)]


def judge_all(stage: Stage, ended: Ended, files: Sequence[File]) -> VerificationResult:
    """Judge the named files of a row, which come first among those that were asked for."""
    found = [stage.found(str(file.name)) for file in files]
    whole = {number for number, file in enumerate(files) if found[number] == file.content}
    wrong = [number for number, one in enumerate(found) if one is not None and number not in whole]
    done = (ended.done or frozenset()) & set(range(len(files)))
    seen = f"{len(whole)} of {len(files)} files complete, {len(done)} reported as downloaded"
    if wrong:
        seen += f", {len(wrong)} with wrong bytes under the final name"
    if ended.done is None:
        seen += f", {claim(ended)}"
    if wrong or done - whole or ended.code is None:
        return VerificationResult(Mark.NO, seen)
    return VerificationResult(Mark.YES if len(done) == len(files) else Mark.GIVES_UP, seen)


def worst(results: Sequence[VerificationResult]) -> VerificationResult:
    """Put the results of the cases of a row together."""
    mark = max((result.mark for result in results), key=list(Mark).index)
    return VerificationResult(mark, "; ".join(result.seen for result in results))
