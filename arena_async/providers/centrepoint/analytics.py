"""What the service computes of a subject's data, and with which settings. All of it needs the scope ``Analytics``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Generic, TypeVar

import attrs

from arena_async.errors import ConfigurationError
from arena_async.net.pager import Pager
from arena_async.providers.centrepoint.analytics_models import (
    AlgorithmSetting,
    DailyStatistics,
    EventMarker,
    MinuteSummary,
    SleepPeriod,
    SleepPeriodSetting,
    SummarySetting,
)
from arena_async.providers.centrepoint.asking import Asking, Demand, during, is_one_of, is_same, written
from arena_async.providers.centrepoint.auth import ANALYTICS
from arena_async.providers.centrepoint.dialect import LARGEST_PAGE
from arena_async.wire.contracts import Price

__all__ = ["AlgorithmSettings", "Computed", "DailySummaries", "EventMarkers", "MinuteSummaries", "SleepPeriods"]

R = TypeVar("R")
S = TypeVar("S")

_STUDY = "/analytics/v3/Studies/{study}"
_MINUTE = timedelta(minutes=1)


@attrs.frozen(kw_only=True)
class _Facts(Generic[R, S]):
    """
    What is particular about one kind of result.

    Args:
        path: Its place below the subject.
        model: What a row becomes.
        key: The fields that name a row together.
        filtered_by: What the query calls the setting.
        setting_of: The setting of a row.
        moments: The moments that a row is about.
        settings: The place of its settings below the study.
        setting_model: What one of them becomes.
    """

    path: str
    model: type[R]
    key: tuple[str, ...] = ("id",)
    filtered_by: str = "algorithmSettingId"
    setting_of: Callable[[Any], object] = lambda row: row.algorithm_setting_id
    moments: Callable[[Any], Sequence[datetime | None]] = lambda row: (row.timestamp,)
    settings: str
    setting_model: type[S]


class Computed(Generic[R, S]):
    """
    Results of one kind, and the settings they are computed with.

    Args:
        asking: Asks for lists.
        facts: What is particular about this kind.
    """

    def __init__(self, asking: Asking, facts: _Facts[R, S]) -> None:
        self._asking = asking
        self._facts = facts

    def search(
        self,
        study: int | str,
        subject: int | str,
        *,
        setting: str | None = None,
        from_date: date | None = None,
        to_date: date | None = None,
    ) -> Pager[R]:
        """
        List the results of a subject.

        Every row is checked against what was asked for. A date-time without a timezone is in the subject's own, and so
        are days; the service does not say whether it takes the last day as a whole, so that rows up to a day outside
        are let through.

        Args:
            study: The number of the study.
            subject: The subject, by number or identifier.
            setting: Only those computed with this setting, by its GUID.
            from_date: From this day or moment on.
            to_date: Up to this day or moment, itself included.

        Raises:
            ConfigurationError: An argument cannot be what it should be; raised at once.
            ListingError: While walking: the list contradicts itself, or holds what was not asked for.
            NotFoundError: While walking: there is no such study or subject.
        """
        facts = self._facts
        params = _span(from_date, to_date)
        matches = [*during(from_date, to_date, facts.moments)]
        if setting is not None:
            params = [(facts.filtered_by, setting), *params]
            matches.append(is_same(facts.filtered_by, setting, facts.setting_of))
        return self._asking.walk(
            Demand(
                template=f"{_STUDY}/Subjects/{{subject}}/{facts.path}",
                scope=ANALYTICS,
                model=facts.model,
                key=facts.key,
                study=study,
                subject=subject,
                params=params,
                matches=matches,
            )
        )

    def settings(self, study: int | str, *, ids: Iterable[str] = ()) -> Pager[S]:
        """List the settings that these results of a study are computed with, all or those of some GUIDs."""
        wanted = list(ids)
        return self._asking.walk(
            Demand(
                template=f"{_STUDY}/{self._facts.settings}",
                scope=ANALYTICS,
                model=self._facts.setting_model,
                study=study,
                # How the service wants several is not shown; the key is repeated, once for each.
                params=[("ids", one) for one in wanted],
                matches=[is_one_of("ids", wanted, lambda row: row.id)] if wanted else [],
            )
        )

    async def setting(self, study: int | str, setting: str) -> S:
        """
        Give one setting, by its GUID.

        Raises:
            NotFoundError: There is no such setting.
        """
        return await self._asking.one(
            Demand(
                template=f"{_STUDY}/{self._facts.settings}/{{setting}}",
                scope=ANALYTICS,
                model=self._facts.setting_model,
                study=study,
                parts={"setting": setting},
            )
        )


class MinuteSummaries(Computed[MinuteSummary, SummarySetting]):
    """
    Minute summaries; reached as ``client.minute_summaries``. Needs the scope ``Analytics``.

    They are dear: a day of one subject has 1440 rows, and the service gives 100 in a request. :meth:`price` says it
    beforehand. Dataset files have the same kind of data, a whole study's in a few requests.
    """

    def __init__(self, asking: Asking) -> None:
        super().__init__(
            asking,
            _Facts(
                path="MinuteSummaries",
                model=MinuteSummary,
                key=("activityMonitorSerial", "timestampUtc", "minuteSummarySettingsId"),
                filtered_by="minuteSummarySettingId",
                setting_of=lambda row: row.minute_summary_setting_id,
                settings="MinuteSummarySettings",
                setting_model=SummarySetting,
            ),
        )

    def price(self, from_date: date, to_date: date, *, subjects: int = 1) -> Price:
        """
        Say what :meth:`search` costs, before anything is sent: 15 requests for one subject and day.

        Days in a row share their pages, so that 30 of them take 432 requests and not 450.

        Args:
            from_date: The first day or moment.
            to_date: The last day or moment, itself included.
            subjects: For how many subjects.

        Raises:
            ConfigurationError: The last day lies before the first, or the number of subjects is below 0.
        """
        _span(from_date, to_date)
        if subjects < 0:
            raise ConfigurationError(f"subjects is {subjects}; it takes a number of subjects.")
        pages = math.ceil(_minutes(from_date, to_date) / LARGEST_PAGE)
        return Price(listing=pages * subjects, per_file=0)


class DailySummaries(Computed[DailyStatistics, SummarySetting]):
    """
    Daily statistics; reached as ``client.daily_statistics``. Needs the scope ``Analytics``.

    Values of a past day can change when a late upload is processed.
    """

    def __init__(self, asking: Asking) -> None:
        super().__init__(
            asking,
            _Facts(
                path="DailyStatistics",
                model=DailyStatistics,
                filtered_by="dailyStatisticsSettingId",
                setting_of=lambda row: row.daily_statistics_setting_id,
                moments=lambda row: (row.date,),
                settings="DailyStatisticsSettings",
                setting_model=SummarySetting,
            ),
        )


class SleepPeriods(Computed[SleepPeriod, SleepPeriodSetting]):
    """Sleep periods by Dustin Tracy; reached as ``client.sleep_periods``. Needs the scope ``Analytics``."""

    def __init__(self, asking: Asking) -> None:
        super().__init__(
            asking,
            _Facts(
                path="DustinTracySleepPeriods",
                model=SleepPeriod,
                moments=lambda row: (row.in_bed_time, row.out_bed_time),
                settings="DustinTracySleepPeriodSettings",
                setting_model=SleepPeriodSetting,
            ),
        )


class EventMarkers(Computed[EventMarker, AlgorithmSetting]):
    """Presses of the button of a monitor; reached as ``client.event_markers``. Needs the scope ``Analytics``."""

    def __init__(self, asking: Asking) -> None:
        super().__init__(
            asking,
            _Facts(
                path="EventMarkers",
                model=EventMarker,
                settings="EventMarkerSettings",
                setting_model=AlgorithmSetting,
            ),
        )


class AlgorithmSettings:
    """The algorithms that a study uses; reached as ``client.algorithm_settings``. Needs the scope ``Analytics``."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def search(self, study: int | str, *, algorithm_type: str | None = None) -> Pager[AlgorithmSetting]:
        """
        List them.

        Args:
            study: The number of the study.
            algorithm_type: Only those of this type, for instance ``"Choi Wear Periods"``.
        """
        wanted = [] if algorithm_type is None else [algorithm_type]
        return self._asking.walk(
            Demand(
                template=f"{_STUDY}/AlgorithmSettings",
                scope=ANALYTICS,
                model=AlgorithmSetting,
                study=study,
                params=[("algorithmType", one) for one in wanted],
                matches=[is_same("algorithmType", one, lambda row: row.algorithm_type) for one in wanted],
            )
        )


def _span(from_date: date | None, to_date: date | None) -> list[tuple[str, str]]:
    """Give the query of a span of days."""
    named = (("fromDate", written(from_date, name="from_date")), ("toDate", written(to_date, name="to_date")))
    if from_date is not None and to_date is not None and _day(to_date) < _day(from_date):
        raise ConfigurationError(f"to_date, {to_date}, lies before from_date, {from_date}.")
    return [(name, value) for name, value in named if value is not None]


def _day(value: date) -> date:
    """Give the day of a moment."""
    return value.date() if isinstance(value, datetime) else value


def _minutes(first: date, last: date) -> int:
    """Count the minutes from a day or moment to another, that one included."""
    midnight = datetime.min.time()
    begin = first if isinstance(first, datetime) else datetime.combine(first, midnight)
    end = last if isinstance(last, datetime) else datetime.combine(last, midnight) + timedelta(hours=24)
    if begin.tzinfo is None or end.tzinfo is None:
        begin, end = begin.replace(tzinfo=None), end.replace(tzinfo=None)
    # The minute that a moment names is one of them; the midnight after a day is not.
    return max(0, math.ceil((end - begin) / _MINUTE)) + (1 if isinstance(last, datetime) else 0)
