"""ActiGraph CentrePoint: dataset files behind signed links, and the lists that lead to them."""

from __future__ import annotations

from arena_async.providers.centrepoint.auth import CentrePointCredentials
from arena_async.providers.centrepoint.client import CentrePointClient
from arena_async.providers.centrepoint.datasets import Datasets
from arena_async.providers.centrepoint.files import DatasetFileSet
from arena_async.providers.centrepoint.models import (
    DatasetFile,
    DatasetSubject,
    ProgramExecution,
    Site,
    Study,
    StudyDataSet,
    StudyProgram,
    Subject,
)
from arena_async.providers.centrepoint.studies import Programs, Sites, Studies, Subjects

__all__ = [
    "CentrePointClient",
    "CentrePointCredentials",
    "DatasetFile",
    "DatasetFileSet",
    "DatasetSubject",
    "Datasets",
    "ProgramExecution",
    "Programs",
    "Site",
    "Sites",
    "Studies",
    "Study",
    "StudyDataSet",
    "StudyProgram",
    "Subject",
    "Subjects",
]
