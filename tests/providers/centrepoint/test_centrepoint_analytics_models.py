"""Every key of the samples of what the service computes arrives, odd spellings included."""

from __future__ import annotations

from datetime import UTC, datetime

from studies import naive, sample_rows

from arena_async.protocol.decoding import decode
from arena_async.providers.centrepoint.analytics_models import (
    AlgorithmSetting,
    CutpointBucket,
    Cutpoints,
    DailyStatistics,
    EventMarker,
    MinuteSummary,
    SleepPeriod,
    SleepPeriodAlgorithm,
    SleepPeriodSetting,
    SummarySetting,
)

G = "7d1c5a52-0f0e-4bb1-8a57-2f2f6d1f9a10"
H = "0e9b7c11-5a4d-4c1e-9b5e-3d2a1c0b9f88"


def test_the_sample_of_minute_summaries_is_read_whole() -> None:
    """A setting with one s more, a group of keys with capitals, and a timestamp by either spelling."""
    first, second = decode(sample_rows("minute_summaries"), list[MinuteSummary])

    assert first == MinuteSummary(
        subject_id=10821,
        study_id=234,
        activity_monitor_serial="TAS1H30182785",
        minute_summary_setting_id=G,
        timestamp=datetime(2019, 6, 1, tzinfo=UTC),
        is_wear=True,
        is_sleep=False,
        x=10,
        y=20,
        z=30,
        vector_magnitude=37.4166,
        steps=12,
        long_press_counts=0,
        press_counts=1,
        mets=1.25,
        calories=0.75,
        crouter_cutpoints=Cutpoints(
            algorithm_name="Crouter", cutpoint_buckets=(CutpointBucket(name="Light", number_of_seconds=60),)
        ),
        freedson_cutpoints=Cutpoints(algorithm_name="Freedson"),
        evenson_cutpoints=Cutpoints(algorithm_name="Evenson"),
        staudenmayer_cutpoints=Cutpoints(algorithm_name="Staudenmayer"),
        generic_cutpoints=Cutpoints(
            algorithm_name="Own",
            cutpoint_buckets=(
                CutpointBucket(name="Sedentary", number_of_seconds=45),
                CutpointBucket(name="Light", number_of_seconds=15),
            ),
            aggregate_buckets=(CutpointBucket(name="MVPA", number_of_seconds=0),),
        ),
    )
    assert second.timestamp == datetime(2019, 6, 1, 0, 1, tzinfo=UTC)
    assert (second.is_wear, second.is_sleep, second.x, second.steps) == (False, True, 0, None)
    assert second.generic_cutpoints is None
    assert (first.unknown, second.unknown) == ({}, {"lux": 4})
    assert first.generic_cutpoints is not None
    assert first.generic_cutpoints.unknown == first.generic_cutpoints.cutpoint_buckets[0].unknown == {}


def test_the_sample_of_daily_statistics_is_read_whole() -> None:
    """Numbers by the vendor's names, on two clocks; most groups may be missing."""
    first, second = decode(sample_rows("daily_statistics"), list[DailyStatistics])

    assert first == DailyStatistics(
        id="9a1",
        subject_id=10821,
        study_id=234,
        site_id=77,
        daily_statistics_setting_id=G,
        date=naive(2019, 6, 1),
        activity_monitor_serials=("TAS1H30182785", "TAS1H30182786"),
        first_epoch=datetime(2019, 6, 1, 5, tzinfo=UTC),
        last_epoch=datetime(2019, 6, 2, 4, 59, tzinfo=UTC),
        first_epoch_local=naive(2019, 6, 1),
        last_epoch_local=naive(2019, 6, 1, 23, 59),
        epoch_aggregation={"steps": 8042, "wearMinutes": 1380, "averageXCounts": 312.25},
        event_marker_aggregation={"pressCount": 2},
        crouter_aggregations=[{"name": "Light", "seconds": 5}],
        freedson_aggregations={"a": 1},
        staudenmayer_aggregations={"a": 2},
        evenson_aggregations={"a": 3},
        generic_cutpoint_aggregations={"a": 4},
        mavm_aggregation={"a": 5},
        uwf_aggregation={"a": 6},
        hildebrand_met_calorie_aggregation={"a": 7},
        crouter_youth_met_calorie_aggregation={"a": 8},
    )
    assert (second.id, second.date, second.epoch_aggregation) == ("92", naive(2019, 6, 2), None)
    assert (first.unknown, second.unknown) == ({}, {"quality": "low"})


def test_the_sample_of_sleep_periods_is_read_whole() -> None:
    """To bed by the subject's own clock, and up by another: each as the service wrote it."""
    (period,) = decode(sample_rows("sleep_periods"), list[SleepPeriod])

    assert period == SleepPeriod(
        id="77",
        subject_id=10821,
        activity_monitor_serial="TAS1H30182785",
        study_id=234,
        algorithm_setting_id=H,
        in_bed_time=naive(2019, 6, 1, 22, 30),
        out_bed_time=datetime(2019, 6, 2, 6, 31, tzinfo=UTC),
        duration_minutes=481,
        time_asleep_minutes=441,
        time_awake_minutes=40,
        awakening_count=6,
        average_awakening=6.67,
        total_counts=20181,
        efficiency=91.68,
        wake_after_onset_minutes=31,
        sleep_fragmentation_index=12.5,
        sleep_movement_index=9.79,
        total_sleep_fragmentation_index=22.29,
    )
    assert period.unknown == {"latencyMinutes": 9}


def test_the_sample_of_event_markers_is_read_whole() -> None:
    """A serial number may come as a number, and a count as text."""
    first, second = decode(sample_rows("event_markers"), list[EventMarker])

    assert first == EventMarker(
        id="501",
        subject_id=10821,
        activity_monitor_serial="TAS1H30182785",
        study_id=234,
        algorithm_setting_id=H,
        timestamp=datetime(2019, 6, 1, 12, 0, 0, 70000, UTC),
        long_press_count=0,
        press_count=1,
        release_count=1,
    )
    assert (second.id, second.activity_monitor_serial, second.long_press_count) == ("502", "30182785", 1)
    assert (first.unknown, second.unknown) == ({}, {"note": "x"})


def test_the_samples_of_settings_are_read_whole() -> None:
    """Those of algorithms, of summaries and of sleep periods."""
    sleep, steps = decode(sample_rows("algorithm_settings"), list[AlgorithmSetting])
    full, bare = decode(sample_rows("summary_settings"), list[SummarySetting])
    (period,) = decode(sample_rows("sleep_period_settings"), list[SleepPeriodSetting])

    assert sleep == AlgorithmSetting(id=H, study_id=234, name="Sleep 1", algorithm_type="Dustin Tracy Sleep Periods")
    assert (steps.algorithm_type, steps.unknown) == ("UWF Steps", {"version": 3})
    assert full == SummarySetting(
        id=G,
        study_id=234,
        wear_period_setting_id="w1",
        sleep_period_setting_id=H,
        epoch_summary_setting_id="e1",
        cutpoint_setting_ids=("c1", "c2"),
        steps_setting_id="s1",
        mets_calories_setting_id="m1",
    )
    assert (bare.sleep_period_setting_id, bare.cutpoint_setting_ids, bare.unknown) == (None, (), {"extra": True})
    assert period == SleepPeriodSetting(
        id=H,
        study_id=234,
        name="Sleep 1",
        algorithm_type="Dustin Tracy Sleep Periods",
        settings=SleepPeriodAlgorithm(
            block_length_in_minutes=30,
            threshold_counts_per_minute=22,
            bed_rest_start_trigger_counts_per_minute=1000,
            bed_rest_end_trigger_counts_per_minute=1001,
            minimum_bed_rest_length_in_minutes=160,
            max_sleep_period_length_in_minutes=1440,
            minimum_non_zero_epochs=15,
        ),
    )
    assert period.settings is not None
    assert period.settings.unknown == {"other": 1}
    assert sleep.unknown == full.unknown == period.unknown == {}
