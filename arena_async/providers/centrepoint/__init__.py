"""ActiGraph CentrePoint: files behind signed links, the requests that make them, and the lists that lead to them."""

from __future__ import annotations

from arena_async.providers.centrepoint.analytics import (
    AlgorithmSettings,
    DailySummaries,
    EventMarkers,
    MinuteSummaries,
    SleepPeriods,
)
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
from arena_async.providers.centrepoint.auth import CentrePointCredentials
from arena_async.providers.centrepoint.client import CentrePointClient
from arena_async.providers.centrepoint.collection_models import (
    ActivityMonitor,
    Assignment,
    Milestone,
    SubjectMilestone,
    TimeZoneChange,
    Upload,
    UploadFile,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
    WebhookMessage,
)
from arena_async.providers.centrepoint.data_fetch import FetchedData
from arena_async.providers.centrepoint.data_files import DataFileSet
from arena_async.providers.centrepoint.data_requests import EpochRequests, RawRequests
from arena_async.providers.centrepoint.datasets import Datasets
from arena_async.providers.centrepoint.day_files import DayFiles, DayFileSet
from arena_async.providers.centrepoint.day_query import CATEGORIES
from arena_async.providers.centrepoint.files import DatasetFileSet
from arena_async.providers.centrepoint.models import (
    DataFile,
    DataRequest,
    DatasetFile,
    DatasetSubject,
    DayFile,
    ProgramExecution,
    Site,
    StaleDataSet,
    Study,
    StudyDataSet,
    StudyProgram,
    Subject,
)
from arena_async.providers.centrepoint.monitors import ActivityMonitors, Assignments, Uploads
from arena_async.providers.centrepoint.studies import Milestones, Programs, Sites, Studies, Subjects
from arena_async.providers.centrepoint.study_files import StudyFileSet
from arena_async.providers.centrepoint.webhooks import Webhooks

__all__ = [
    "CATEGORIES",
    "ActivityMonitor",
    "ActivityMonitors",
    "AlgorithmSetting",
    "AlgorithmSettings",
    "Assignment",
    "Assignments",
    "CentrePointClient",
    "CentrePointCredentials",
    "CutpointBucket",
    "Cutpoints",
    "DailyStatistics",
    "DailySummaries",
    "DataFile",
    "DataFileSet",
    "DataRequest",
    "DatasetFile",
    "DatasetFileSet",
    "DatasetSubject",
    "Datasets",
    "DayFile",
    "DayFileSet",
    "DayFiles",
    "EpochRequests",
    "EventMarker",
    "EventMarkers",
    "FetchedData",
    "Milestone",
    "Milestones",
    "MinuteSummaries",
    "MinuteSummary",
    "ProgramExecution",
    "Programs",
    "RawRequests",
    "Site",
    "Sites",
    "SleepPeriod",
    "SleepPeriodAlgorithm",
    "SleepPeriodSetting",
    "SleepPeriods",
    "StaleDataSet",
    "Studies",
    "Study",
    "StudyDataSet",
    "StudyFileSet",
    "StudyProgram",
    "Subject",
    "SubjectMilestone",
    "Subjects",
    "SummarySetting",
    "TimeZoneChange",
    "Upload",
    "UploadFile",
    "Uploads",
    "Webhook",
    "WebhookDelivery",
    "WebhookEvent",
    "WebhookMessage",
    "Webhooks",
]
