"""ActiGraph CentrePoint: files behind signed links, the requests that make them, and the lists that lead to them."""

from __future__ import annotations

from arena_async.providers.centrepoint.auth import CentrePointCredentials
from arena_async.providers.centrepoint.client import CentrePointClient
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
    Study,
    StudyDataSet,
    StudyProgram,
    Subject,
)
from arena_async.providers.centrepoint.studies import Programs, Sites, Studies, Subjects

__all__ = [
    "CATEGORIES",
    "CentrePointClient",
    "CentrePointCredentials",
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
    "ProgramExecution",
    "Programs",
    "RawRequests",
    "Site",
    "Sites",
    "Studies",
    "Study",
    "StudyDataSet",
    "StudyProgram",
    "Subject",
    "Subjects",
]
