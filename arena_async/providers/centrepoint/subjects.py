"""
The subjects of a study, by their numbers and by their identifiers.

Every endpoint takes the number, and none the identifier; one list of the study has both. It is read once and kept,
without anything else about the subjects.
"""

from __future__ import annotations

import asyncio
import difflib
import itertools
import re
from collections.abc import AsyncIterable, Callable, Iterable, Mapping

import attrs

from arena_async.errors import ClosedError, ConfigurationError, NotFoundError
from arena_async.http.session import Session
from arena_async.protocol.messages import printable
from arena_async.providers.centrepoint.identifiers import named_subject, number
from arena_async.providers.centrepoint.models import Subject

__all__ = ["KnownSubjects", "SubjectDirectory", "choose_subject", "near_matches"]

#: Seconds after which an identifier that is not in the list is searched in a new one: it may have been added since.
_MISSES_AFTER = 60.0

#: Identifiers that are compared letter by letter for a near match, and near matches that are named.
_MAX_COMPARED, _MAX_NAMED = 2000, 3


@attrs.frozen
class KnownSubjects:
    """
    The subjects of one study.

    Args:
        by_identifier: The number, or the numbers, of each identifier.
        numbers: All numbers.
    """

    by_identifier: Mapping[str, tuple[int, ...]]
    numbers: frozenset[int]

    @classmethod
    def of(cls, subjects: Iterable[tuple[str, int]]) -> KnownSubjects:
        """Return the subjects of pairs of identifier and number."""
        found: dict[str, tuple[int, ...]] = {}
        for identifier, subject in subjects:
            if subject not in found.get(identifier, ()):
                found[identifier] = (*found.get(identifier, ()), subject)
        return cls(found, frozenset(itertools.chain.from_iterable(found.values())))


def choose_subject(wanted: str, known: KnownSubjects, *, study: int) -> int:
    """
    Return the number of the subject that a text means.

    It is an identifier, written as the study writes it. Digits that are no identifier are a number, if a subject has
    that number. Where the same digits are the identifier of one subject and the number of another, it is an error,
    since it is ambiguous.

    Args:
        wanted: The text.
        known: The subjects of the study.
        study: The number of the study, for messages.

    Raises:
        ConfigurationError: It means more than one subject.
        NotFoundError: It means none; the message names similar identifiers.
    """
    by_identifier = known.by_identifier.get(wanted, ())
    by_number: tuple[int, ...] = (int(wanted),) if _is_number(wanted) and int(wanted) in known.numbers else ()
    meant = sorted({*by_identifier, *by_number})
    if len(meant) == 1:
        return meant[0]
    name = printable(repr(wanted))
    if not meant:
        near = near_matches(wanted, known.by_identifier)
        alike = f" Similar: {', '.join(map(printable, near))}." if near else ""
        raise NotFoundError(
            f"study {study}: no subject has the identifier {name}.{alike} Identifiers must match exactly; "
            "list the subjects of the study to see them."
        )
    if len(by_identifier) > 1:
        raise ConfigurationError(
            f"study {study}: {name} is the identifier of {len(by_identifier)} subjects, with the numbers "
            f"{', '.join(map(str, by_identifier))}. Use the number of the subject, as an int."
        )
    raise ConfigurationError(
        f"study {study}: {name} is the identifier of subject {by_identifier[0]}, and the number of another one. Use "
        f"the number of the subject, as an int: {by_identifier[0]} or {by_number[0]}."
    )


def near_matches(wanted: str, identifiers: Iterable[str]) -> list[str]:
    """Return a few identifiers that are almost like this one: case, blanks, signs and leading zeros first."""
    known = list(identifiers)
    bare = _bare(wanted)
    alike = [identifier for identifier in known if _bare(identifier) == bare]
    if len(known) <= _MAX_COMPARED:
        alike += difflib.get_close_matches(wanted, known, n=_MAX_NAMED)
    return list(dict.fromkeys(alike))[:_MAX_NAMED]


def _bare(identifier: str) -> str:
    """Return an identifier without case, blanks, signs and leading zeros."""
    letters = re.sub(r"[\W_]+", "", identifier.casefold())
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", letters)


def _is_number(text: str) -> bool:
    """Return whether text is a number as the service writes it, without leading zeros."""
    return text.isascii() and text.isdigit() and len(text) <= 18 and str(int(text)) == text


@attrs.define
class _SubjectList:
    """The list of one study, as it was at some time."""

    task: asyncio.Task[KnownSubjects]
    began: float


class SubjectDirectory:
    """
    The numbers of subjects by their identifiers, from one list for each study, however many tasks need it.

    Args:
        session: Owns the tasks that list.
        search: Returns the list of the subjects of a study.
    """

    def __init__(self, session: Session, search: Callable[[int], AsyncIterable[Subject]]) -> None:
        self._session = session
        self._search = search
        self._listed: dict[int, _SubjectList] = {}

    async def resolve(self, study: int | str, subject: int | str) -> int:
        """
        Return the number of a subject. An ``int`` is returned as it is, without any request.

        Raises:
            ConfigurationError: It is nothing that names a subject, or it names more than one.
            NotFoundError: There is no such subject; the message names similar identifiers.
        """
        wanted, of = named_subject(subject), number(study)
        if isinstance(wanted, int):
            return wanted
        listed = self._listed.get(of)
        known = await self._known(of)
        try:
            return choose_subject(wanted, known, study=of)
        except NotFoundError:
            # The subject may have been enrolled since.
            if listed is None or self._session.clock() - listed.began < _MISSES_AFTER:
                raise
        if self._listed.get(of) is listed:
            del self._listed[of]
        return choose_subject(wanted, await self._known(of), study=of)

    async def _known(self, study: int) -> KnownSubjects:
        """Return the subjects of a study, from the list that is known, or being read, or read now."""
        listed = self._listed.get(study)
        if listed is None or (listed.task.done() and (listed.task.cancelled() or listed.task.exception())):
            task = self._session.spawn(lambda: self._list(study), name="list of subjects")
            listed = self._listed[study] = _SubjectList(task, self._session.clock())
        await asyncio.wait([listed.task])
        if listed.task.cancelled():
            raise ClosedError("The client was closed while the subjects of a study were listed.")
        return listed.task.result()

    async def _list(self, study: int) -> KnownSubjects:
        return KnownSubjects.of([(row.subject_identifier, row.id) async for row in self._search(study)])
