"""
Analytics of the simulated CentrePoint: three days of every subject, minute by minute, and the settings for them.

As in the documents, the field of a minute has one s more than its query, some keys begin with capitals,
and an empty list of a subject is "not found": the last subject never pressed the button of its monitor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from uuid import uuid5

from arena_async.testing.centrepoint.lists import StudyState, Table, plain_text, subject_of
from arena_async.testing.centrepoint.storage import NAMESPACE
from arena_async.testing.replies import Call, ErrorReply

__all__ = ["FIRST_DAY", "LAST_DAY", "analytics_tables", "setting_id"]

#: The days that every subject has data of.
FIRST_DAY, LAST_DAY = date(2024, 2, 26), date(2024, 2, 28)
_DAYS = [FIRST_DAY + timedelta(days=number) for number in range((LAST_DAY - FIRST_DAY).days + 1)]
_MINUTES_A_DAY = 1440

_STUDY = "/analytics/v3/studies/{study}"
_SUBJECT = _STUDY + "/subjects/{subject}"
_ALGORITHMS = ("Epoch Summary", "Dustin Tracy Sleep Periods", "Choi Wear Periods", "UWF Steps", "Event Markers")


def setting_id(what: str) -> str:
    """Return the GUID of the setting of this name."""
    return str(uuid5(NAMESPACE, f"setting {what}"))


def analytics_tables(state: StudyState) -> Iterable[Table]:
    """Return the lists."""
    yield Table(
        path=_SUBJECT + "/minutesummaries",
        scope="Analytics",
        rows=lambda call: _rows(state, call, _minutes, "minuteSummarySettingId", "Minute Summaries"),
        show=lambda row: _minute(state, *row),
    )
    yield Table(
        path=_SUBJECT + "/dailystatistics",
        scope="Analytics",
        rows=lambda call: _rows(state, call, _days, "dailyStatisticsSettingId", "Daily Statistics"),
        show=lambda row: _day(state, *row),
    )
    yield Table(
        path=_SUBJECT + "/dustintracysleepperiods",
        scope="Analytics",
        rows=lambda call: _rows(state, call, _nights, "algorithmSettingId", "Dustin Tracy Sleep Periods"),
        show=lambda row: _sleep(state, *row),
    )
    yield Table(
        path=_SUBJECT + "/eventmarkers",
        scope="Analytics",
        rows=lambda call: _presses(state, call),
        show=lambda row: _press(state, *row),
    )
    yield Table(
        path=_STUDY + "/algorithmsettings",
        scope="Analytics",
        rows=lambda call: [name for name in _ALGORITHMS if _matches_filter(state, call, "algorithmType", name)],
        show=lambda name: _algorithm(state, name),
    )
    yield from _settings_tables(state)


def _settings_tables(state: StudyState) -> Iterable[Table]:
    tables: tuple[tuple[str, tuple[str, ...], Callable[[StudyState, str], dict[str, Any]]], ...] = (
        ("minutesummarysettings", ("Minute Summaries", "Other Minute Summaries"), _summary_setting),
        ("dailystatisticssettings", ("Daily Statistics",), _summary_setting),
        ("dustintracysleepperiodsettings", ("Dustin Tracy Sleep Periods",), _sleep_setting),
        ("eventmarkersettings", ("Event Markers",), _algorithm),
    )
    for path, names, show in tables:
        yield Table(
            path=f"{_STUDY}/{path}",
            scope="Analytics",
            rows=partial(_settings, state, names),
            show=partial(show, state),
            named_by=setting_id,
            what="Setting",
        )


# Queries


def _rows(
    state: StudyState, call: Call, make: Callable[[], Sequence[datetime]], setting: str, computed_with: str
) -> list[tuple[int, datetime]]:
    """Return the rows of a subject that match the filters."""
    subject = subject_of(state, call)
    if not _matches_filter(state, call, setting, setting_id(computed_with)):
        return []
    first, last = _span(state, call)
    return [(subject, timestamp) for timestamp in make() if first <= timestamp <= last]


def _presses(state: StudyState, call: Call) -> list[tuple[int, datetime]]:
    found = _rows(state, call, _days, "algorithmSettingId", "Event Markers")
    if call.vars["subject"] == str(state.subjects[-1]):
        raise ErrorReply(plain_text(404, "No event markers were found."))
    return found


def _matches_filter(state: StudyState, call: Call, name: str, value: str) -> bool:
    """Return whether a value matches a filter of the query."""
    return state.filters_ignored or call.query.get(name, value).lower() == value.lower()


def _settings(state: StudyState, names: Sequence[str], call: Call) -> list[str]:
    """Return the settings that match the repeated parameter ``ids``."""
    wanted = [] if state.filters_ignored else [one.lower() for one in call.values("ids")]
    return [name for name in names if not wanted or setting_id(name) in wanted]


def _span(state: StudyState, call: Call) -> tuple[datetime, datetime]:
    """Return the requested range of times; a date stands for the complete day."""
    first = datetime.combine(FIRST_DAY, time.min, UTC) - timedelta(days=1)
    last = datetime.combine(LAST_DAY, time.max, UTC) + timedelta(days=1)
    if state.filters_ignored:
        return first, last
    return (
        _timestamp(call.query["fromDate"], time.min) if "fromDate" in call.query else first,
        _timestamp(call.query["toDate"], time.max) if "toDate" in call.query else last,
    )


def _timestamp(text: str, at: time) -> datetime:
    try:
        if len(text) == len("2024-02-26"):
            return datetime.combine(date.fromisoformat(text), at, UTC)
        timestamp = datetime.fromisoformat(text)
    except ValueError:
        raise ErrorReply(plain_text(400, "A date is no date.")) from None
    return timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)


# Rows


def _minutes() -> list[datetime]:
    begin = datetime.combine(FIRST_DAY, time.min, UTC)
    return [begin + timedelta(minutes=number) for number in range(_MINUTES_A_DAY * len(_DAYS))]


def _days() -> list[datetime]:
    return [datetime.combine(day, time(12), UTC) for day in _DAYS]


def _nights() -> list[datetime]:
    return [datetime.combine(day, time(22, 30), UTC) for day in _DAYS]


def _minute(state: StudyState, subject: int, timestamp: datetime) -> dict[str, Any]:
    number = timestamp.hour * 60 + timestamp.minute
    return {
        "subjectId": subject,
        "studyId": state.study,
        "activityMonitorSerial": f"TAS1H{subject:08d}",
        "minuteSummarySettingsId": setting_id("Minute Summaries"),
        "timestampUtc": f"{timestamp:%Y-%m-%dT%H:%M:%S}Z",
        "isWear": True,
        "isSleep": timestamp.hour < 6,
        "x": number,
        "y": number // 2,
        "z": number // 3,
        "vectorMagnitude": round((number**2 + (number // 2) ** 2 + (number // 3) ** 2) ** 0.5, 4),
        "steps": number % 7,
        "GenericCutpointMinuteAggregations": {
            "AlgorithmName": "Study Cutpoints",
            "CutpointBuckets": [{"Name": "Sedentary", "NumberOfSeconds": 60}],
            "AggregateBuckets": [{"Name": "MVPA", "NumberOfSeconds": 0}],
        },
    }


def _day(state: StudyState, subject: int, timestamp: datetime) -> dict[str, Any]:
    day = timestamp.date()
    return {
        "id": str(uuid5(NAMESPACE, f"day {subject} {day}")),
        "subjectId": subject,
        "studyId": state.study,
        "siteId": 1,
        "dailyStatisticsSettingId": setting_id("Daily Statistics"),
        "date": f"{day}T00:00:00",
        "activityMonitorSerials": [f"TAS1H{subject:08d}"],
        "firstEpochDateTimeUtc": f"{day}T06:00:00",
        "lastEpochDateTimeUtc": f"{day + timedelta(days=1)}T05:59:00",
        "firstEpochDateTimeLocal": f"{day}T00:00:00",
        "lastEpochDateTimeLocal": f"{day}T23:59:00",
        "epochAggregation": {"steps": 8042, "wearMinutes": 1440, "averageXCounts": 312.25},
    }


def _sleep(state: StudyState, subject: int, timestamp: datetime) -> dict[str, Any]:
    return {
        "id": str(uuid5(NAMESPACE, f"night {subject} {timestamp}")),
        "subjectId": subject,
        "activityMonitorSerial": f"TAS1H{subject:08d}",
        "studyId": state.study,
        "algorithmSettingId": setting_id("Dustin Tracy Sleep Periods"),
        "inBedTime": f"{timestamp:%Y-%m-%dT%H:%M:%S}",
        "outBedTime": f"{timestamp + timedelta(hours=8):%Y-%m-%dT%H:%M:%S}",
        "durationMinutes": 480,
        "timeAsleepMinutes": 441,
        "timeAwakeMinutes": 39,
        "awakeningCount": 6,
        "averageAwakening": 6.5,
        "totalCounts": 20_181,
        "efficiency": 91.875,
        "wakeAfterOnsetMinutes": 31,
        "sleepFragmentationIndex": 12.5,
        "sleepMovementIndex": 9.79,
        "totalSleepFragmentationIndex": 22.29,
    }


def _press(state: StudyState, subject: int, timestamp: datetime) -> dict[str, Any]:
    return {
        "id": str(uuid5(NAMESPACE, f"press {subject} {timestamp}")),
        "subjectId": subject,
        "activityMonitorSerial": f"TAS1H{subject:08d}",
        "studyId": state.study,
        "algorithmSettingId": setting_id("Event Markers"),
        "timestampUtc": f"{timestamp:%Y-%m-%dT%H:%M:%S}.07Z",
        "longPressCount": 0,
        "pressCount": 1,
        "releaseCount": 1,
    }


def _algorithm(state: StudyState, name: str) -> dict[str, Any]:
    return {"id": setting_id(name), "studyId": state.study, "name": f"{name} 1", "algorithmType": name}


def _summary_setting(state: StudyState, name: str) -> dict[str, Any]:
    return {
        "id": setting_id(name),
        "studyId": state.study,
        "wearPeriodSettingId": setting_id("Choi Wear Periods"),
        "sleepPeriodSettingId": setting_id("Dustin Tracy Sleep Periods"),
        "epochSummarySettingId": setting_id("Epoch Summary"),
        "cutpointSettingIds": [],
        "stepsSettingId": setting_id("UWF Steps"),
    }


def _sleep_setting(state: StudyState, name: str) -> dict[str, Any]:
    return {
        **_algorithm(state, name),
        "settings": {
            "blockLengthInMinutes": 30,
            "thresholdCountsPerMinute": 22,
            "bedRestStartTriggerCountsPerMinute": 1000,
            "bedRestEndTriggerCountsPerMinute": 1000,
            "minimumBedRestLengthInMinutes": 160,
            "maxSleepPeriodLengthInMinutes": 1440,
            "minimumNonZeroEpochs": 15,
        },
    }
