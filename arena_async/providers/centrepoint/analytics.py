"""What the service computes from a subject's data, and with which settings. All of it needs the scope ``Analytics``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Generic, TypeVar

import attrs

from arena_async.errors import ConfigurationError
from arena_async.http.paginator import Paginator
from arena_async.protocol.decoding import read_datetime
from arena_async.protocol.files import Cost
from arena_async.protocol.messages import printable
from arena_async.providers.centrepoint import analytics_models as models
from arena_async.providers.centrepoint.adapter import MAX_PAGE_SIZE
from arena_async.providers.centrepoint.api import Api, ApiService, Endpoint, Match, is_one_of

__all__ = ["DAILY_STATISTICS", "EVENT_MARKERS", "SLEEP_PERIODS", "AlgorithmSettings", "Computed", "MinuteSummaries"]

R = TypeVar("R")
S = TypeVar("S")

_STUDY = "/analytics/v3/Studies/{study}"
_SUBJECT = f"{_STUDY}/Subjects/{{subject}}"
_MINUTE = timedelta(minutes=1)
#: How far outside of the requested days a row may be. The documents state neither in which timezone the days begin nor
#: whether the last one is included completely; a service that ignores them returns weeks.
_SLACK = timedelta(days=1)


@attrs.frozen(kw_only=True)
class _Computation(Generic[R, S]):
    """
    One kind of results.

    Args:
        results: The list of results.
        settings: The list of the settings that they are computed with.
        filtered_by: The parameter that filters on a setting.
        setting_of: Returns the setting of a row.
        times_of: Returns the times that a row is about.
    """

    results: Endpoint[R]
    settings: Endpoint[S]
    filtered_by: str = "algorithmSettingId"
    setting_of: Callable[[Any], object] = lambda row: row.algorithm_setting_id
    times_of: Callable[[Any], Sequence[datetime | None]] = lambda row: (row.timestamp,)


_MINUTE_SUMMARIES = _Computation(
    results=Endpoint(
        f"{_SUBJECT}/MinuteSummaries",
        models.MinuteSummary,
        key=("activityMonitorSerial", "timestampUtc", "minuteSummarySettingsId"),
    ),
    settings=Endpoint(f"{_STUDY}/MinuteSummarySettings", models.SummarySetting),
    filtered_by="minuteSummarySettingId",
    setting_of=lambda row: row.minute_summary_setting_id,
)
#: Values of a past day can change when a late upload is processed.
DAILY_STATISTICS = _Computation(
    results=Endpoint(f"{_SUBJECT}/DailyStatistics", models.DailyStatistics),
    settings=Endpoint(f"{_STUDY}/DailyStatisticsSettings", models.SummarySetting),
    filtered_by="dailyStatisticsSettingId",
    setting_of=lambda row: row.daily_statistics_setting_id,
    times_of=lambda row: (row.date,),
)
#: By the algorithm of Dustin Tracy.
SLEEP_PERIODS = _Computation(
    results=Endpoint(f"{_SUBJECT}/DustinTracySleepPeriods", models.SleepPeriod),
    settings=Endpoint(f"{_STUDY}/DustinTracySleepPeriodSettings", models.SleepPeriodSetting),
    times_of=lambda row: (row.in_bed_time, row.out_bed_time),
)
#: Presses of the button of a monitor.
EVENT_MARKERS = _Computation(
    results=Endpoint(f"{_SUBJECT}/EventMarkers", models.EventMarker),
    settings=Endpoint(f"{_STUDY}/EventMarkerSettings", models.AlgorithmSetting),
)
_ALGORITHMS = Endpoint(f"{_STUDY}/AlgorithmSettings", models.AlgorithmSetting)


class Computed(Generic[R, S]):
    """
    Results of one kind, and the settings they are computed with. Needs the scope ``Analytics``.

    Args:
        api: Sends the requests.
        kind: The kind of results.
    """

    def __init__(self, api: Api, kind: _Computation[R, S]) -> None:
        self._api = api
        self._kind = kind

    def search(
        self,
        study: int | str,
        subject: int | str,
        *,
        setting: str | None = None,
        day_from: date | str | None = None,
        day_to: date | str | None = None,
    ) -> Paginator[R]:
        """
        Return the paginator of the results of a subject.

        Every row is compared with the filters. A date-time without a timezone is in the subject's own, and so are days;
        the service does not document whether the last day is included, so rows up to a day outside are let through.

        Args:
            study: The number of the study.
            subject: The subject, by number or identifier.
            setting: Only those computed with this setting, by its GUID.
            day_from: From this day or time on: a date, a datetime, or text like ``2021-01-01``.
            day_to: Up to this day or time, itself included.

        Raises:
            ConfigurationError: An argument cannot be what it should be; raised at once.
            ListingError: While iterating: the list contradicts itself, or has rows that were not requested.
            NotFoundError: While iterating: there is no such study or subject.
        """
        kind = self._kind
        first = None if day_from is None else read_day(day_from, name="day_from")
        last = None if day_to is None else read_day(day_to, name="day_to")
        params, matches = days_query(first, last), [*during(first, last, kind.times_of)]
        if setting is not None:
            params = [(kind.filtered_by, setting), *params]
            matches.append(is_one_of(kind.filtered_by, kind.setting_of, setting))
        return self._api.list(kind.results, study=study, subject=subject, params=params, matches=matches)

    def settings(self, study: int | str, *, ids: Iterable[str] = ()) -> Paginator[S]:
        """Return the paginator of the settings of these results in a study, all or those of some GUIDs."""
        wanted = list(ids)
        return self._api.list(
            self._kind.settings,
            study=study,
            # How the service takes several is not documented; the key is repeated, once for each.
            params=[("ids", one) for one in wanted],
            matches=[is_one_of("ids", lambda row: row.id, *wanted)] if wanted else [],
        )

    async def setting(self, study: int | str, setting: str) -> S:
        """
        Return one setting, by its GUID.

        Raises:
            NotFoundError: There is no such setting.
        """
        return await self._api.get(self._kind.settings, setting, study=study)


class MinuteSummaries(Computed[models.MinuteSummary, models.SummarySetting]):
    """
    Minute summaries; reached as ``client.minute_summaries``. Needs the scope ``Analytics``.

    They are expensive: a day of one subject has 1440 rows, and the service returns 100 in a response. :meth:`cost`
    computes it beforehand. Dataset files have the same kind of data, a complete study's in a few requests.
    """

    def __init__(self, api: Api) -> None:
        super().__init__(api, _MINUTE_SUMMARIES)

    def cost(self, day_from: date | str, day_to: date | str, *, subjects: int = 1) -> Cost:
        """
        Return what :meth:`search` costs, before anything is sent: 15 requests for one subject and day.

        Consecutive days share pages, so that 30 of them take 432 requests and not 450.

        Args:
            day_from: The first day or time: a date, a datetime, or text like ``2021-01-01``.
            day_to: The last day or time, itself included.
            subjects: For how many subjects.

        Raises:
            ConfigurationError: The last day is before the first, or the number of subjects is below 0.
        """
        first, last = read_day(day_from, name="day_from"), read_day(day_to, name="day_to")
        days_query(first, last)
        if subjects < 0:
            raise ConfigurationError(f"subjects is {subjects}; it takes a number of subjects.")
        pages = math.ceil(_minutes(first, last) / MAX_PAGE_SIZE)
        return Cost(listing=pages * subjects, per_file=0)


class AlgorithmSettings(ApiService):
    """The algorithms that a study uses; reached as ``client.algorithm_settings``. Needs the scope ``Analytics``."""

    def search(self, study: int | str, *, algorithm_type: str | None = None) -> Paginator[models.AlgorithmSetting]:
        """
        Return the paginator of the algorithms.

        Args:
            study: The number of the study.
            algorithm_type: Only those of this type, for instance ``"Choi Wear Periods"``.
        """
        if algorithm_type is None:
            return self._api.list(_ALGORITHMS, study=study)
        match = is_one_of("algorithmType", lambda row: row.algorithm_type, algorithm_type)
        return self._api.list(_ALGORITHMS, study=study, params=[("algorithmType", algorithm_type)], matches=[match])


def during(first: date | None, last: date | None, of: Callable[[Any], Sequence[datetime | None]]) -> Sequence[Match]:
    """
    Return the match of a range of days, both ends included.

    Args:
        first: The first day or time, or None.
        last: The last day or time, or None.
        of: Returns the times that a row is about, from its first to its last.
    """
    if first is None and last is None:
        return ()
    begin = None if first is None else _timestamp(first, time.min) - _SLACK
    end = None if last is None else _timestamp(last, time.max) + _SLACK

    def holds(row: Any) -> bool:
        stamps = [_timestamp(stamp, time.min) for stamp in of(row) if stamp is not None]
        if not stamps:
            return True
        return (begin is None or max(stamps) >= begin) and (end is None or min(stamps) <= end)

    def shown(row: Any) -> str:
        return " to ".join(dict.fromkeys(stamp.isoformat() for stamp in of(row) if stamp is not None))

    requested = f"{'the beginning' if first is None else first} to {'now' if last is None else last}"
    return (Match(requested=requested, holds=holds, shown=shown),)


def read_day(value: date | str, *, name: str) -> date:
    """
    Return a day or a time, which may be text like ``2021-01-01`` or ``2021-01-01T10:00:00Z``.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            return date.fromisoformat(value.strip())
    found = read_datetime(value) if isinstance(value, str) else value
    if isinstance(found, date):
        return found
    raise ConfigurationError(
        f"{name} is {printable(repr(value))}; it takes a date, or a datetime (without a timezone it is in the "
        "subject's own), or the text of one."
    )


def days_query(first: date | None, last: date | None) -> list[tuple[str, str]]:
    """
    Return the query of a range of days.

    Raises:
        ConfigurationError: The last one is before the first.
    """
    if first is not None and last is not None and _day(last) < _day(first):
        raise ConfigurationError(f"day_to, {last}, is before day_from, {first}.")
    named = {"fromDate": wire_date(first), "toDate": wire_date(last)}
    return [(name, value) for name, value in named.items() if value is not None]


def _day(value: date) -> date:
    return value.date() if isinstance(value, datetime) else value


def wire_date(value: date | None) -> str | None:
    """Return a day as it is sent, or a time: in UTC if it has a timezone."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return None if value is None else value.isoformat()


def _timestamp(value: date, at: time) -> datetime:
    """Return the time of a day, for comparisons that allow for any timezone."""
    if not isinstance(value, datetime):
        return datetime.combine(value, at, tzinfo=UTC)
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _minutes(first: date, last: date) -> int:
    """Count the minutes from a day or time to another, that one included."""
    begin = first if isinstance(first, datetime) else datetime.combine(first, time.min)
    end = last if isinstance(last, datetime) else datetime.combine(last, time.min) + timedelta(hours=24)
    if begin.tzinfo is None or end.tzinfo is None:
        begin, end = begin.replace(tzinfo=None), end.replace(tzinfo=None)
    # The minute that a time names is one of them; the midnight after a day is not.
    return max(0, math.ceil((end - begin) / _MINUTE)) + (1 if isinstance(last, datetime) else 0)
