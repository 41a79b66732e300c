"""
What CentrePoint computes: minute summaries, daily statistics, sleep periods, event markers, and their settings.

The rules are those of :mod:`~arena_async.providers.centrepoint.models`. Groups of numbers whose names the vendor's
pages do not list are kept unchanged, by the vendor's names.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs

from arena_async.protocol.decoding import wire
from arena_async.providers.centrepoint.models import CentrePointModel, StudyRecord

__all__ = [
    "AlgorithmSetting",
    "CutpointBucket",
    "Cutpoints",
    "DailyStatistics",
    "EventMarker",
    "MinuteSummary",
    "SleepPeriod",
    "SleepPeriodAlgorithm",
    "SleepPeriodSetting",
    "SummarySetting",
]


def _either(name: str) -> tuple[str, str]:
    """Return the two names of a key: one begins with a capital."""
    return name, name[0].upper() + name[1:]


@attrs.frozen(kw_only=True)
class CutpointBucket(CentrePointModel):
    """
    How long a subject was active at one intensity.

    Args:
        name: The intensity, for instance ``"Sedentary"``.
        number_of_seconds: Seconds at it.
    """

    name: str = wire(*_either("name"), default="")
    number_of_seconds: float | None = wire(*_either("numberOfSeconds"))


@attrs.frozen(kw_only=True)
class Cutpoints(CentrePointModel):
    """
    Intensities by one set of cut points. The vendor's sample writes all its keys with capitals, its table does not.

    Args:
        algorithm_name: Whose cut points they are.
        cutpoint_buckets: Time by intensity.
        aggregate_buckets: Time by groups of intensities, for instance moderate to vigorous.
    """

    algorithm_name: str = wire(*_either("algorithmName"), default="")
    cutpoint_buckets: tuple[CutpointBucket, ...] = wire(*_either("cutpointBuckets"), default=())
    aggregate_buckets: tuple[CutpointBucket, ...] = wire(*_either("aggregateBuckets"), default=())


@attrs.frozen(kw_only=True)
class MinuteSummary(StudyRecord):
    """
    One minute of a subject.

    Args:
        subject_id: The subject, by its number.
        activity_monitor_serial: The monitor.
        minute_summary_setting_id: What it was computed with.
        timestamp: The minute, in UTC.
        is_wear: Whether the monitor was worn.
        is_sleep: Whether the subject slept.
        x: Counts of one axis.
        y: Counts of another.
        z: Counts of the third.
        vector_magnitude: Of all three.
        steps: Steps, if computed.
        long_press_counts: Long presses of the button, if any.
        press_counts: Presses of the button, if any.
        mets: Metabolic equivalents, if computed.
        calories: Calories, if computed.
        crouter_cutpoints: Intensities by Crouter, if computed.
        freedson_cutpoints: By Freedson.
        evenson_cutpoints: By Evenson.
        staudenmayer_cutpoints: By Staudenmayer.
        generic_cutpoints: By cut points of the study's own.
    """

    subject_id: int
    activity_monitor_serial: str | None = None
    # The query calls it minuteSummarySettingId, the response has one s more.
    minute_summary_setting_id: str | None = wire("minuteSummarySettingsId", "minuteSummarySettingId")
    timestamp: datetime | None = wire("timestampUtc", "TimestampUtc", zone=UTC)
    is_wear: bool | None = None
    is_sleep: bool | None = None
    x: float | None = None
    y: float | None = None
    z: float | None = None
    vector_magnitude: float | None = None
    steps: int | None = None
    long_press_counts: int | None = None
    press_counts: int | None = None
    mets: float | None = None
    calories: float | None = None
    crouter_cutpoints: Cutpoints | None = wire(*_either("crouterCutPointsMinuteAggregations"))
    freedson_cutpoints: Cutpoints | None = wire(*_either("freedsonCutPointsMinuteAggregations"))
    evenson_cutpoints: Cutpoints | None = wire(*_either("evensonCutPointsMinuteAggregations"))
    staudenmayer_cutpoints: Cutpoints | None = wire(*_either("staudenmayerCutPointsMinuteAggregations"))
    generic_cutpoints: Cutpoints | None = wire(*_either("genericCutpointMinuteAggregations"))


@attrs.frozen(kw_only=True)
class DailyStatistics(StudyRecord):
    """
    One day of a subject. Values of a past day can change when a late upload is processed.

    Args:
        id: What names it.
        subject_id: The subject, by its number.
        site_id: The site.
        daily_statistics_setting_id: What it was computed with.
        date: The day, as a date-time of the subject's own timezone.
        activity_monitor_serials: The monitors worn on it.
        first_epoch: When its data begins, in UTC.
        last_epoch: When its data ends, in UTC.
        first_epoch_local: When its data begins, in the subject's own timezone (naive).
        last_epoch_local: When its data ends, in the subject's own timezone (naive).
        epoch_aggregation: About thirty numbers by the vendor's names.
        event_marker_aggregation: A group of numbers by the vendor's names, if computed; so are the following.
        crouter_aggregations: As named.
        freedson_aggregations: As named.
        staudenmayer_aggregations: As named.
        evenson_aggregations: As named.
        generic_cutpoint_aggregations: As named.
        mavm_aggregation: As named.
        uwf_aggregation: As named.
        hildebrand_met_calorie_aggregation: As named.
        crouter_youth_met_calorie_aggregation: As named.
    """

    id: str
    subject_id: int
    site_id: int | None = None
    daily_statistics_setting_id: str | None = None
    date: datetime | None = None
    activity_monitor_serials: tuple[str, ...] = ()
    first_epoch: datetime | None = wire("firstEpochDateTimeUtc", zone=UTC)
    last_epoch: datetime | None = wire("lastEpochDateTimeUtc", zone=UTC)
    first_epoch_local: datetime | None = wire("firstEpochDateTimeLocal")
    last_epoch_local: datetime | None = wire("lastEpochDateTimeLocal")
    epoch_aggregation: dict[str, Any] | None = None
    event_marker_aggregation: Any = None
    crouter_aggregations: Any = None
    freedson_aggregations: Any = None
    staudenmayer_aggregations: Any = None
    evenson_aggregations: Any = None
    generic_cutpoint_aggregations: Any = None
    mavm_aggregation: Any = None
    uwf_aggregation: Any = None
    hildebrand_met_calorie_aggregation: Any = None
    crouter_youth_met_calorie_aggregation: Any = None


@attrs.frozen(kw_only=True)
class SleepPeriod(StudyRecord):
    """
    One period in bed, by Dustin Tracy's algorithm.

    Args:
        id: What names it.
        subject_id: The subject, by its number.
        activity_monitor_serial: The monitor.
        algorithm_setting_id: What it was computed with.
        in_bed_time: When the subject went to bed; naive where the service states no zone.
        out_bed_time: When the subject got up.
        duration_minutes: Minutes between.
        time_asleep_minutes: Minutes asleep.
        time_awake_minutes: Minutes awake.
        awakening_count: How often the subject woke up.
        average_awakening: Minutes of an awakening, on average.
        total_counts: Counts of the monitor.
        efficiency: Share of the time asleep.
        wake_after_onset_minutes: Minutes awake after falling asleep.
        sleep_fragmentation_index: As named.
        sleep_movement_index: As named.
        total_sleep_fragmentation_index: As named.
    """

    id: str
    subject_id: int
    activity_monitor_serial: str | None = None
    algorithm_setting_id: str | None = None
    in_bed_time: datetime | None = None
    out_bed_time: datetime | None = None
    duration_minutes: float | None = None
    time_asleep_minutes: float | None = None
    time_awake_minutes: float | None = None
    awakening_count: int | None = None
    average_awakening: float | None = None
    total_counts: float | None = None
    efficiency: float | None = None
    wake_after_onset_minutes: float | None = None
    sleep_fragmentation_index: float | None = None
    sleep_movement_index: float | None = None
    total_sleep_fragmentation_index: float | None = None


@attrs.frozen(kw_only=True)
class EventMarker(StudyRecord):
    """
    Presses of the button of a monitor.

    Args:
        id: What names it.
        subject_id: The subject, by its number.
        activity_monitor_serial: The monitor (one page of the vendor says number).
        algorithm_setting_id: What it was computed with.
        timestamp: When, in UTC.
        long_press_count: Long presses.
        press_count: Presses.
        release_count: Releases.
    """

    id: str
    subject_id: int
    activity_monitor_serial: str | None = None
    algorithm_setting_id: str | None = None
    timestamp: datetime | None = wire("timestampUtc", zone=UTC)
    long_press_count: int | None = None
    press_count: int | None = None
    release_count: int | None = None


@attrs.frozen(kw_only=True)
class AlgorithmSetting(StudyRecord):
    """
    An algorithm that a study uses, with its settings.

    Args:
        id: A GUID; other lists are filtered by it.
        name: Its name.
        algorithm_type: For instance ``"Epoch Summary"`` or ``"Choi Wear Periods"``; other words are let through.
    """

    id: str
    name: str = ""
    algorithm_type: str = ""


@attrs.frozen(kw_only=True)
class SummarySetting(StudyRecord):
    """
    With which algorithms minute summaries or daily statistics are computed.

    Args:
        id: A GUID; minute summaries and daily statistics are filtered by it.
        wear_period_setting_id: The algorithm for wear.
        sleep_period_setting_id: The algorithm for sleep.
        epoch_summary_setting_id: The algorithm for epochs.
        cutpoint_setting_ids: The algorithms for intensities.
        steps_setting_id: The algorithm for steps, if any.
        mets_calories_setting_id: The algorithm for energy, if any.
    """

    id: str
    wear_period_setting_id: str | None = None
    sleep_period_setting_id: str | None = None
    epoch_summary_setting_id: str | None = None
    cutpoint_setting_ids: tuple[str, ...] = ()
    steps_setting_id: str | None = None
    mets_calories_setting_id: str | None = None


@attrs.frozen(kw_only=True)
class SleepPeriodAlgorithm(CentrePointModel):
    """
    The parameters of Dustin Tracy's algorithm, by the vendor's names.

    Args:
        block_length_in_minutes: Minutes of a block.
        threshold_counts_per_minute: Counts a minute.
        bed_rest_start_trigger_counts_per_minute: Counts a minute.
        bed_rest_end_trigger_counts_per_minute: Counts a minute.
        minimum_bed_rest_length_in_minutes: Minutes.
        max_sleep_period_length_in_minutes: Minutes.
        minimum_non_zero_epochs: Epochs.
    """

    block_length_in_minutes: float | None = None
    threshold_counts_per_minute: float | None = None
    bed_rest_start_trigger_counts_per_minute: float | None = None
    bed_rest_end_trigger_counts_per_minute: float | None = None
    minimum_bed_rest_length_in_minutes: float | None = None
    max_sleep_period_length_in_minutes: float | None = None
    minimum_non_zero_epochs: float | None = None


@attrs.frozen(kw_only=True)
class SleepPeriodSetting(AlgorithmSetting):
    """
    With which parameters sleep periods are computed; they are filtered by its GUID.

    Args:
        settings: The parameters.
    """

    settings: SleepPeriodAlgorithm | None = None
