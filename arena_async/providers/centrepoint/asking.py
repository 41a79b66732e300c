"""
One object, or a list of them: the two ways in which everything of the service is asked for.

Every row of a list is checked against what was asked for, since a service that overlooks a filter answers with all it
has, which looks like success. "Not found" in answer to a list is taken as an empty list, with a warning, where the
study or subject that the list belongs to is there; that costs one request. Where it is not there, or nobody can tell,
it stays an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import attrs

from arena_async.errors import ApiError, ConfigurationError, ListingError, NotFoundError
from arena_async.net.asking import ask
from arena_async.net.pager import Pager, Question
from arena_async.net.session import Session
from arena_async.providers.centrepoint.auth import CENTREPOINT
from arena_async.providers.centrepoint.dialect import list_shape
from arena_async.providers.centrepoint.entries import named_subject, number
from arena_async.wire.decoding import decode
from arena_async.wire.messages import Request, join_path, printable

__all__ = ["Asking", "Demand", "Match", "ask", "during", "exists", "is_one_of", "is_same", "read_rows", "written"]

T = TypeVar("T")

#: How far outside of the days asked for a row may lie. The pages say neither in which timezone the days begin nor
#: whether the last one is whole; a service that overlooks them gives weeks.
_SLACK = timedelta(days=1)


@attrs.frozen(kw_only=True)
class Match:
    """
    What every row of a list must show because it was asked for.

    Args:
        asked: What was asked for, for messages: ``"subjectId 10821"``.
        holds: Whether a row shows it.
        shown: What a row shows instead.
    """

    asked: str
    holds: Callable[[Any], bool]
    shown: Callable[[Any], object]


@attrs.frozen(kw_only=True)
class Demand(Generic[T]):
    """
    What a list is asked for.

    Args:
        template: Its path, with ``{study}``, ``{subject}`` and the names of ``parts``.
        scope: What the token must open.
        model: What a row becomes.
        key: The fields that name a row together.
        study: The number of the study, or None for a list that belongs to none.
        subject: The number or the identifier of the subject, or None for a list that belongs to none.
        parts: Other identifiers in the path, by their names in the template.
        params: The query, page aside.
        matches: What every row must show besides its study and subject.
    """

    template: str
    scope: str
    model: type[T]
    key: tuple[str, ...] = ("id",)
    study: int | None = attrs.field(default=None, converter=attrs.converters.optional(number))
    subject: int | str | None = None
    parts: Mapping[str, object] = attrs.field(factory=dict)
    params: Sequence[tuple[str, str]] = ()
    matches: Sequence[Match] = ()

    def __attrs_post_init__(self) -> None:
        """Refuse at once what names no subject."""
        if self.subject is not None:
            named_subject(self.subject)

    def question(self, subject: int | None) -> Question[T]:
        """Give what is asked once the number of the subject is known."""
        named = {name: value for name, value in (("study", self.study), ("subject", subject)) if value is not None}
        path = join_path(self.template, **named, **self.parts)
        request = Request(method="GET", path=path, params=self.params, scope=self.scope)
        whose = [is_same(f"{name}Id", value, partial(_field, f"{name}_id")) for name, value in named.items()]
        return Question(request=request, read=read_rows(self.model, request.line, [*whose, *self.matches]))

    @property
    def shown(self) -> Question[T]:
        """What can be shown before the number of the subject is known."""
        path = self.template.replace("{subject}", quote(str(self.subject), safe="")).replace("{study}", str(self.study))
        request = Request(method="GET", path=path)
        return Question(request=request, read=read_rows(self.model, request.line, self.matches))


class Asking:
    """
    Asks for lists and objects on behalf of a client.

    Args:
        session: What sends the requests.
        resolve: Gives the number of a subject, by study and number or identifier.
    """

    def __init__(self, session: Session, resolve: Callable[[int | str, int | str], Awaitable[int]]) -> None:
        self.session = session
        self.resolve = resolve

    def walk(self, demand: Demand[T]) -> Pager[T]:
        """Give a list, page by page as it is read."""
        subject = demand.subject
        by_name = isinstance(subject, str)

        async def settle() -> Question[T]:
            return demand.question(await self._number(demand))

        question = demand.shown if isinstance(subject, str) else demand.question(subject)
        return Pager(
            self.session,
            question.request,
            list_shape(*demand.key),
            question.read,
            settle=settle if by_name else None,
            # A list below something else than a study or subject would hide a mistake in the name of that.
            empty_if=None if demand.parts else self.belongs_to(demand.study, subject),
        )

    async def one(self, demand: Demand[T]) -> T:
        """
        Give one object.

        Raises:
            NotFoundError: There is no such object, or it is in a study this client does not see.
        """
        return await ask(self.session, demand.question(await self._number(demand)).request, demand.model)

    async def _number(self, demand: Demand[T]) -> int | None:
        """Give the number of the subject that a list belongs to."""
        if demand.study is None or demand.subject is None:
            return None
        return await self.resolve(demand.study, demand.subject)

    def belongs_to(
        self, study: int | None, subject: int | str | None = None
    ) -> Callable[[NotFoundError], Awaitable[bool]] | None:
        """Give what says, after a 404, whether the owner of a list is there; None for a list without an owner."""
        if study is None:
            return None

        async def is_there(error: NotFoundError) -> bool:
            del error
            return await exists(self.session, study, None if subject is None else await self.resolve(study, subject))

        return is_there


async def exists(session: Session, study: int, subject: int | None = None) -> bool:
    """Say whether a study, or a subject of it, is there. One request; False where the service does not tell."""
    template = "/centrepoint/v3/Studies/{study}" + ("" if subject is None else "/Subjects/{subject}")
    named = {"study": study} if subject is None else {"study": study, "subject": subject}
    try:
        await session.send(Request(method="GET", path=join_path(template, **named), scope=CENTREPOINT))
    except ApiError as error:
        if error.transient:
            raise
        return False
    return True


def read_rows(model: type[T], line: str, matches: Sequence[Match]) -> Callable[[Any], T]:
    """Give what makes a model of a row, and an error of a row that was not asked for."""

    def read(item: Any) -> T:
        row = decode(item, model, request=line)
        for match in matches:
            if not match.holds(row):
                raise ListingError(
                    f"{line}: asked for {printable(match.asked)}, got a row of {printable(str(match.shown(row)))}. The "
                    "service overlooks what it is asked for, and its answer was not used. List without that filter.",
                    request=line,
                )
        return row

    return read


def _field(name: str, row: Any) -> object:
    """Give a field of a row, or None where rows have no such field."""
    return getattr(row, name, None)


def is_same(name: str, wanted: object, of: Callable[[Any], object]) -> Match:
    """Give the match of an identifier; the service does not tell cases apart. A row that does not say passes."""

    def holds(row: Any) -> bool:
        value = of(row)
        return value in (None, "") or str(value).casefold() == str(wanted).casefold()

    return Match(asked=f"{name} {wanted}", holds=holds, shown=of)


def is_one_of(name: str, wanted: Iterable[object], of: Callable[[Any], object]) -> Match:
    """Give the match of one of several identifiers."""
    known = {str(value).casefold() for value in wanted}
    return Match(
        asked=f"{name} {', '.join(sorted(known))}", holds=lambda row: str(of(row)).casefold() in known, shown=of
    )


def during(first: date | None, last: date | None, of: Callable[[Any], Sequence[datetime | None]]) -> Iterable[Match]:
    """
    Give the match of a span of days, both ends included.

    Args:
        first: The first day or moment, or None.
        last: The last day or moment, or None.
        of: Gives the moments that a row is about, from its first to its last.
    """
    if first is None and last is None:
        return ()
    begin = None if first is None else _moment(first, time.min) - _SLACK
    end = None if last is None else _moment(last, time.max) + _SLACK

    def holds(row: Any) -> bool:
        moments = [_moment(moment, time.min) for moment in of(row) if moment is not None]
        if not moments:
            return True
        return (begin is None or max(moments) >= begin) and (end is None or min(moments) <= end)

    def shown(row: Any) -> str:
        return " to ".join(dict.fromkeys(moment.isoformat() for moment in of(row) if moment is not None))

    asked = f"{'the beginning' if first is None else first} to {'now' if last is None else last}"
    return (Match(asked=asked, holds=holds, shown=shown),)


def written(value: date | str | None, *, name: str) -> str | None:
    """
    Write a day or a moment as the service takes it: a day as it is, a moment with a timezone in UTC.

    Raises:
        ConfigurationError: It is neither.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return value.isoformat()
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    raise ConfigurationError(
        f"{name} is {printable(repr(value))}; it takes a date, or a datetime (without a timezone it is in the "
        "subject's own)."
    )


def _moment(value: date, at: time) -> datetime:
    """Make a moment of a day, for comparisons that allow for any timezone."""
    if not isinstance(value, datetime):
        return datetime.combine(value, at, tzinfo=UTC)
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
