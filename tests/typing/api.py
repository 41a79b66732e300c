"""The public names in use, type-checked and never run: a change of a signature shows here first."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, assert_type

import aiohttp

from arena_async import (
    Action,
    ApiError,
    ArenaAsyncError,
    ArenaClient,
    ArenaCredentials,
    ArenaMachineCredentials,
    ByteStream,
    CentrePointClient,
    CentrePointCredentials,
    ClientSettings,
    Clock,
    Cost,
    Downloader,
    Event,
    FileSet,
    Finished,
    IntegrityError,
    LedgerEntry,
    Link,
    Mirror,
    OpenedFile,
    Outcome,
    OutcomeStream,
    Page,
    Paginator,
    Plan,
    PollPolicy,
    Progress,
    Quota,
    QuotaExhaustedError,
    RemoteFile,
    Report,
    Request,
    Response,
    Retrying,
    RetryPolicy,
    Secret,
    Session,
    SessionStore,
    Started,
    Timeouts,
    TransferError,
    TransferOptions,
    TransfersFailedError,
    UrlSet,
    Verification,
    union,
)
from arena_async.providers.arena import (
    ITEM,
    ApiUsage,
    ArenaFile,
    Criteria,
    Criterion,
    EventIntegration,
    EventResource,
    EventResourceQuery,
    EventTrigger,
    ExportDefinition,
    ExportFileContent,
    ExportOptions,
    ExportQuery,
    ExportRun,
    ExportRunQuery,
    Extract,
    ExtractRun,
    ExtractRunQuery,
    Fetched,
    FileAssociation,
    FileQuery,
    ImportDefinition,
    ImportOptions,
    ImportQuery,
    ImportRun,
    ImportRunQuery,
    Item,
    ItemQuery,
    OutboundEvent,
    PendingEvent,
    RunSeen,
    Submission,
    all_of,
    any_of,
    items_by_guid,
)
from arena_async.providers.centrepoint import (
    CATEGORIES,
    ActivityMonitor,
    AlgorithmSetting,
    Assignment,
    DailyStatistics,
    DataFile,
    DataRequest,
    DatasetFile,
    DayFile,
    DayFileSet,
    DayQuery,
    EpochQuery,
    EventMarker,
    Milestone,
    MinuteSummary,
    RawQuery,
    Site,
    SleepPeriod,
    SleepPeriodSetting,
    StaleDataSet,
    Study,
    StudyFileSet,
    StudyProgram,
    Subject,
    SubjectMilestone,
    SummarySetting,
    TimeZoneChange,
    Upload,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
)
from arena_async.testing import ArenaSimulator, CentrePointSimulator, faults

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


def clients(context: ssl.SSLContext, connector: aiohttp.BaseConnector) -> tuple[ArenaClient, CentrePointClient]:
    """Every setting of both clients has a name."""
    arena = ArenaClient(
        ArenaCredentials("a@b.example", "word"),
        base_url="https://api.arenasolutions.com/v1",
        workspace_id=897,
        usage_reason="nightly",
        quota_reserve=100,
        on_exhausted="wait",
        session_store="~/.config/arena-async/sessions.json",
        retry=RetryPolicy(attempts=5, timeout=300, wait_initial=0.5, wait_max=60, wait_jitter=1, wait_exp_base=2),
        timeouts=Timeouts(connect=15, read=60, pool=60, slowest_rate=1024, slowest_over=60),
        ssl=context,
        proxy=None,
        user_agent="nightly/1.0",
        connector=connector,
        clock=Clock(monotonic=time.monotonic, sleep=asyncio.sleep, random=random.random, now=lambda: NOON),
    )
    centrepoint = CentrePointClient(
        CentrePointCredentials("id", "secret"),
        base_url="https://api.actigraphcorp.com",
        auth_url="https://auth.actigraphcorp.com/connect/token",
        rate_limit=400,
        retry=RetryPolicy(),
        timeouts=Timeouts(),
        ssl=context,
        proxy=None,
        user_agent=None,
        connector=connector,
        clock=Clock(),
    )
    ArenaClient(ArenaMachineCredentials("id", "secret", "https://oauth.bom.com/oauth2/token"), region="us")
    ArenaClient(session_id="abc", region="eu", session_store=None)
    ArenaClient(ArenaCredentials("a@b.example", "word"), session_store=SessionStore(Path("sessions.json")))
    ArenaClient(ArenaCredentials("a@b.example", "word"), session_store=SessionStore("sessions.json", log_out=True))
    assert_type(ArenaClient.from_env(session_store="sessions.json", on_exhausted="stop"), ArenaClient)
    assert_type(ArenaClient.from_env(shared=True), ArenaClient)
    settings: ClientSettings = {"retry": RetryPolicy(), "proxy": None, "connector": connector}
    assert_type(ArenaClient.from_env(allow_http=True, **settings), ArenaClient)
    assert_type(CentrePointClient.from_env(rate_limit=100, **settings), CentrePointClient)
    assert_type(ArenaClient.from_env(), ArenaClient)
    assert_type(CentrePointClient.from_env(environ={}), CentrePointClient)
    PollPolicy(every=5, max_interval=300, timeout=6 * 3600)
    return arena, centrepoint


async def sessions(arena: ArenaClient) -> None:
    """Requests of one's own go through the same door."""
    async with arena:
        assert_type(arena.session, Session)
        assert_type((arena.quota, arena.requests_sent), tuple[Quota | None, int])
        assert_type((await arena.session.credential()).headers, tuple[tuple[str, Secret], ...])
        assert_type(arena.session.now(), dt.datetime)
        request = Request(method="GET", path="/settings/items", params={"limit": 1})
        assert_type(await arena.session.send(request), Response)
        opened = await arena.session.stream(request)
        assert_type(opened, OpenedFile)
        async with opened:
            stream: ByteStream = opened.stream
            assert_type(await stream.readinto(memoryview(bytearray(10))), int)
    await arena.aclose()


async def extracts(arena: ArenaClient, guid: str, run: str) -> None:
    """Data extracts."""
    assert_type(arena.extracts.search("Weekly*", enabled=True, creator="Ann"), Paginator[Extract])
    assert_type(await arena.extracts.get(guid), Extract)
    runs = arena.extracts.runs(
        guid, ExtractRunQuery(status="Completed", completed_from=NOON, with_files=True), offset=400, limit=400
    )
    assert_type(runs, Paginator[ExtractRun])
    assert_type(await arena.extracts.run(guid, run), ExtractRun)
    assert_type(await arena.extracts.latest_run(guid), ExtractRun)
    for files in (
        arena.extracts.files(),
        arena.extracts.files(guid),
        arena.extracts.files(guid, run),
        arena.extracts.files(guid, latest=True),
        arena.extracts.files(guid, completed_from=NOON),
    ):
        check: FileSet = files
        assert_type(check.cost(), Cost)


async def exports(arena: ArenaClient, guid: str, run: str) -> None:
    """Exports."""
    assert_type(await arena.exports.search(ExportQuery(name="BOM", number=7)).first(), ExportDefinition | None)
    assert_type(await arena.exports.get(guid), ExportDefinition)
    assert_type(
        await arena.exports.runs(guid, ExportRunQuery(latest=True, status="COMPLETE")).collect(max_items=10),
        list[ExportRun],
    )
    assert_type(await arena.exports.run(guid, run), ExportRun)
    assert_type(await arena.exports.file(guid, run, "file"), ArenaFile)
    files: list[FileSet] = [
        arena.exports.files(guid),
        arena.exports.files(guid, run),
        arena.exports.files(guid, latest=True),
        arena.exports.files(guid, completed_from=NOON),
    ]
    check: FileSet = union(*files)
    assert_type(check.narrowed, bool)


async def imports(arena: ArenaClient, guid: str, run: str) -> None:
    """Imports."""
    async for definition in arena.imports.search(ImportQuery(mode="CREATE")):
        assert_type(definition, ImportDefinition)
    assert_type(await arena.imports.get(guid), ImportDefinition)
    async for page in arena.imports.runs(guid, ImportRunQuery(number=3)).pages():
        assert_type(page, Page)
    assert_type(await arena.imports.run(guid, run), ImportRun)
    check: FileSet = arena.imports.files(guid, run, parts=("result", "error", "submit"))
    assert_type(check.scope, str)


async def export_jobs(arena: ArenaClient, guid: str, mirror: Mirror) -> None:
    """Whole exports, and their single steps."""
    number: Criterion = ITEM.number.starts_with("900-")
    criteria: Criteria = any_of(all_of(number, ITEM.custom_number(guid).is_less_than(5)), number)
    options = ExportOptions(
        export_views=["SPECS", "FILES"], file_content=ExportFileContent(item="PRIMARY"), format="csv", header="name"
    )
    definition = await arena.exports.define("Resistors", criteria=criteria, options=options, reuse=True)
    assert_type(definition, ExportDefinition)
    poll = PollPolicy(every=5, max_interval=300, timeout=3600)
    assert_type(poll.max_polls(600), int)

    def see(seen: RunSeen[ExportRun]) -> None:
        assert_type(seen.run, ExportRun | None)

    run = await arena.exports.start(guid, criteria=items_by_guid([guid]), poll=poll, on_status=see)
    assert_type(await arena.exports.wait(guid, run, poll=poll, earlier=[run], on_status=see), ExportRun)
    assert_type(await arena.exports.wait(definition, run.guid), ExportRun)
    fetched = await arena.exports.fetch(definition, "warehouse", poll=poll, start_anew=True, on_status=see)
    assert_type(fetched, Fetched[ExportRun])
    assert_type(fetched.paths, tuple[Path, ...])
    assert_type((await arena.exports.fetch(guid, mirror, criteria=criteria)).report, Report)


async def other_jobs(arena: ArenaClient, guid: str, to: Path) -> None:
    """Whole extracts and imports, and their single steps."""
    extract = await arena.extracts.start(guid)
    assert_type(await arena.extracts.wait(guid, extract), ExtractRun)
    assert_type(await arena.extracts.fetch(guid, to, poll=PollPolicy()), Fetched[ExtractRun])
    definition = await arena.imports.define(
        "Prices", resource="ITEM_SPECS", mode="EDIT", options=ImportOptions(time_zone="UTC"), reuse=True
    )
    assert_type(await arena.imports.rename(definition.guid, name="New"), ImportDefinition)
    started = await arena.imports.start(guid, Submission(to / "items.xlsx", worksheet="Items", commit=False))
    done = await arena.imports.wait(guid, started)
    assert_type(done.has_errors, bool)
    assert_type(await arena.imports.commit(guid, done.guid, despite_errors=False), ImportRun)
    assert_type(await arena.imports.complete(guid, done.guid), ImportRun)
    costs = Submission(to / "prices.txt", file_type="CSV", parts=("result", "error"))
    checked = await arena.imports.fetch(guid, costs, to)
    assert_type(await arena.imports.fetch(guid, to / "prices.csv", to), Fetched[ImportRun])
    assert_type(checked, Fetched[ImportRun])


async def files_and_items(arena: ArenaClient, guid: str) -> None:
    """Files of the vault and of items, items, and any other list."""
    found = await arena.files.search(FileQuery(format="pdf")).collect()
    sets: list[FileSet] = [
        arena.files.content(guid, *found),
        arena.items.files(guid, primary=True),
        arena.items.files(*await arena.items.search(ItemQuery(in_assembly=True)).collect(max_items=3)),
    ]
    check: FileSet = union(*sets)
    assert_type(check.cost().fits(10), bool | None)
    query = ItemQuery(
        number="900-*",
        view="full",
        criteria=all_of(ITEM.number.contains("9")),
        attributes={guid: "x"},
        effective_from=NOON,
    )
    items = arena.items.search(query)
    assert_type(items, Paginator[Item])
    assert_type(arena.items.associations(guid), Paginator[FileAssociation])
    assert_type(await arena.items.association(guid, guid), FileAssociation)
    assert_type(arena.list("/changes", limit=5, paged=True, number="ECO*"), Paginator[dict[str, Any]])
    async for usage in arena.usages(date_from=NOON):
        assert_type(usage, ApiUsage)
        assert_type(usage.count, int | None)


async def events(arena: ArenaClient, guid: str) -> None:
    """Outbound events of both generations."""
    assert_type(arena.events.search("ERP*", enabled=True), Paginator[EventIntegration])
    assert_type(await arena.events.get(guid), EventIntegration)
    assert_type(arena.events.triggers(guid), Paginator[EventTrigger])
    assert_type(arena.events.every(guid, reconciled=True), Paginator[OutboundEvent])
    for event in await arena.events.pending(guid):
        assert_type(
            arena.events.resources(event, "changes", EventResourceQuery(reconciled=False)), Paginator[EventResource]
        )
        assert_type(await arena.events.reconcile_resource(event, "items", guid), EventResource)
        assert_type(await arena.events.reconcile(event), OutboundEvent)
    async for pending in arena.events.watch(guid, poll=PollPolicy(every=5)):
        assert_type(pending, PendingEvent)
        async with pending as event:
            assert_type(event, OutboundEvent)
    for queued in await arena.event_queue.pending(guid):
        assert_type(await arena.event_queue.item_guids(queued), list[str])
        assert_type(arena.event_queue.items(queued), Paginator[EventResource])


async def datasets(centrepoint: CentrePointClient) -> None:
    """Dataset files."""
    async with centrepoint:
        found = centrepoint.datasets.search(234, subject=10821, program="5b342a11", data_set="ActivityDaily8")
        assert_type(found, Paginator[DatasetFile])
        files: FileSet = centrepoint.datasets.files(234, subject=10821, program="5b342a11", data_set="ActivityDaily8")
        async for file in files:
            assert_type(file, RemoteFile)


async def days(centrepoint: CentrePointClient) -> None:
    """Day files, by range and by year, month and day."""
    found = centrepoint.day_files.search(
        DayQuery(234, "A-017", CATEGORIES[0], day_from="2024-02-01", day_to=dt.date(2024, 2, 2))
    )
    assert_type(found, Paginator[DayFile])
    files = centrepoint.day_files.files(DayQuery(234, 10821, "imu", year=2024, month=2, day=1, file_format="avro"))
    assert_type(files, DayFileSet)
    some: FileSet = files
    assert_type(some.narrowed, bool)
    async for row in found:
        assert_type(row.day, str)


async def data_requests(centrepoint: CentrePointClient, mirror: Mirror) -> None:
    """Raw and epoch data, step by step and in one await."""
    begin, end = dt.datetime(2024, 2, 1, tzinfo=dt.UTC), "2024-02-02T00:00:00Z"
    poll = PollPolicy(every=10, max_interval=60)
    started = await centrepoint.raw_requests.start(
        RawQuery(234, "A-017", time_from=begin, time_to=end, file_format="avro"), poll=poll
    )
    assert_type(started, DataRequest)
    assert_type(await centrepoint.raw_requests.get(started.id), DataRequest)
    done = await centrepoint.raw_requests.wait(started, poll=poll)
    assert_type(done.is_completed, bool)
    assert_type(centrepoint.raw_requests.data_files(done), Paginator[DataFile])
    files: FileSet = centrepoint.raw_requests.files(done)
    assert_type(files.cost().per_file, int)
    fetched = await centrepoint.raw_requests.fetch(RawQuery(234, 10821, time_from=begin, time_to=end), "raw")
    assert_type(fetched, Fetched[DataRequest])
    epochs = await centrepoint.epoch_requests.fetch(
        EpochQuery(234, 10821, time_from=begin, time_to=end, monitor="CPW1A23190055", summary_length=15),
        mirror,
        poll=poll,
    )
    assert_type(epochs.paths, tuple[Path, ...])


async def study(centrepoint: CentrePointClient) -> None:
    """A whole study, and subjects by name."""
    files = centrepoint.study_files(234)
    assert_type(files, StudyFileSet)
    some: FileSet = files.since({"list": dt.datetime.now(dt.UTC)})
    assert_type(await files.stale(), list[StaleDataSet])
    assert_type(some.narrowed, bool)
    async for stale in centrepoint.studies.stale(234):
        assert_type(stale.last_successful_program_execution, dt.datetime | None)
    assert_type(await centrepoint.subjects.resolve(234, "A-017"), int)
    named: FileSet = centrepoint.datasets.files(234, subject="A-017")
    assert_type(named.scope, str)


async def lists(centrepoint: CentrePointClient) -> None:
    """Every list has its rows."""
    assert_type(centrepoint.studies.search(), Paginator[Study])
    assert_type(centrepoint.sites.search(234), Paginator[Site])
    assert_type(centrepoint.subjects.search(234), Paginator[Subject])
    assert_type(centrepoint.subjects.milestones(234, "A-017"), Paginator[SubjectMilestone])
    assert_type(centrepoint.subjects.time_zones(234, 10821), Paginator[TimeZoneChange])
    assert_type(centrepoint.milestones.search(234), Paginator[Milestone])
    assert_type(centrepoint.programs.search(234), Paginator[StudyProgram])
    assert_type(centrepoint.activity_monitors.search(234), Paginator[ActivityMonitor])
    assert_type(centrepoint.assignments.search(234), Paginator[Assignment])
    assert_type(centrepoint.uploads.search(234, "A-017"), Paginator[Upload])
    assert_type(centrepoint.webhooks.search(234), Paginator[Webhook])
    assert_type(centrepoint.webhooks.events(), Paginator[WebhookEvent])
    assert_type(centrepoint.webhooks.history(234, 1), Paginator[WebhookDelivery])
    day, timestamp = dt.date(2024, 3, 1), dt.datetime(2024, 3, 2, tzinfo=dt.UTC)
    minutes = centrepoint.minute_summaries.search(234, "A-017", setting="7d1c", day_from=day, day_to=timestamp)
    assert_type(minutes, Paginator[MinuteSummary])
    assert_type(centrepoint.minute_summaries.cost(day, timestamp, subjects=3), Cost)
    assert_type(centrepoint.daily_statistics.search(234, 10821, day_from=day), Paginator[DailyStatistics])
    assert_type(centrepoint.sleep_periods.search(234, 10821), Paginator[SleepPeriod])
    assert_type(centrepoint.event_markers.search(234, 10821), Paginator[EventMarker])
    assert_type(centrepoint.algorithm_settings.search(234, algorithm_type="UWF Steps"), Paginator[AlgorithmSetting])
    assert_type(centrepoint.minute_summaries.settings(234, ids=["7d1c"]), Paginator[SummarySetting])
    assert_type(await centrepoint.sleep_periods.setting(234, "7d1c"), SleepPeriodSetting)


def watch(event: Event) -> None:
    """An observer is any callable; the events are told apart by their classes."""
    match event:
        case Started(file=file, action=action, total=total):
            assert_type(action, Action)
            assert_type(total, int | None)
            assert_type(file, RemoteFile)
        case Progress(file=file, bytes_done=done):
            assert_type(done, int)
        case Retrying(attempt=attempt, wait=wait, error=error):
            assert_type(attempt, int)
            assert_type(wait, float)
            assert_type(error, Exception)
        case Finished(outcome=outcome):
            assert_type(outcome, Outcome)


async def watch_slowly(event: Event) -> None:
    """A coroutine function is one too."""
    del event


async def downloads(files: FileSet) -> None:
    """A run and a stream of outcomes."""
    options = TransferOptions(
        workers=8,
        max_workers=32,
        chunk_size=1 << 20,
        attempts=5,
        durability="group",
        digest="sha256",
        layout="{study}/{subject}/{data_set}.csv.gz",
        max_file_size=None,
        max_rate=10_000_000.0,
    )
    async with Downloader("exports/", options=options, observer=watch, clock=Clock()) as downloader:
        report = await downloader.run(files)
        assert_type(report, Report)
        assert_type(report.counts, Mapping[Action, int])
        assert_type(report.failures, tuple[Outcome, ...])
        assert_type((report.not_started, report.bytes_written, report.requests), tuple[int, int, int])
        report.raise_for_failures()
        async with downloader.stream(files) as outcomes:
            assert_type(outcomes, OutcomeStream)
            async for outcome in outcomes:
                assert_type(outcome.path, Path | None)
                assert_type(outcome.error, ArenaAsyncError | None)
                assert_type((outcome.attempts, outcome.bytes_written), tuple[int, int])


async def mirrors(files: FileSet) -> None:
    """Plan, sync, verify, entries."""
    async with Mirror(Path("warehouse"), observer=watch_slowly, if_running="fail", clock=Clock()) as mirror:
        plan = await mirror.plan(files)
        assert_type(plan, Plan)
        assert_type(plan.cost, Cost)
        assert_type(plan.steps, Mapping[str, int | None])
        assert_type(plan.fits, bool | None)
        assert_type(plan.resets_at, dt.datetime | None)
        assert_type(await mirror.sync(files, plan=plan), Report)
        assert_type(await mirror.sync(files, prune=True), Report)
        verification = await mirror.verify()
        assert_type(verification, Verification)
        assert_type(verification.ok, int)
        async for entry in mirror.entries():
            assert_type(entry, LedgerEntry)
            assert_type(entry.key, str)


async def errors(files: FileSet, mirror: Mirror) -> None:
    """What a caller would handle differently has a class, and each class its fields."""
    try:
        (await mirror.sync(files)).raise_for_failures()
    except TransfersFailedError as failed:
        assert_type(failed.exceptions, tuple[ArenaAsyncError | ExceptionGroup[ArenaAsyncError], ...])
    except QuotaExhaustedError as error:
        assert_type(error.resets_at, dt.datetime | None)
        assert_type((error.remaining, error.reserve), tuple[int | None, int])
    except ApiError as error:
        assert_type((error.status, error.code), tuple[int | None, int | None])
        assert_type((error.request, error.transient), tuple[str | None, bool])
    except IntegrityError as error:
        assert_type((error.expected, error.actual), tuple[str | int | None, str | int | None])
    except TransferError as error:
        assert_type((error.file, error.attempts), tuple[str | None, int])


async def addresses(downloads: Downloader) -> None:
    """Any addresses are a set of files."""
    rows: list[str | Link] = ["https://a.example/x", Link("https://a.example/y", size=3, headers={"X-Key": "k"})]
    async with UrlSet(rows, folders=True) as files:
        assert_type(files, UrlSet)
        assert_type(await downloads.run(files), Report)
    async with UrlSet.read("list.txt", allow_http=True) as listed:
        assert_type(listed, UrlSet)
        await listed.check()
    of_files: FileSet = UrlSet.parse("https://a.example/x\n")
    assert_type([file.sha256 async for file in of_files], list[str | None])


async def simulators() -> AsyncIterator[FileSet]:
    """The testing room."""
    async with ArenaSimulator(files=3) as simulator:
        simulator.inject(faults.drop(after_bytes=1000), on="GET */content", times=1)
        async with simulator.client(quota_reserve=1) as arena:
            assert_type(arena, ArenaClient)
            yield arena.extracts.files(simulator.extract)
        assert_type(len(simulator.seen("GET */content")), int)
    async with CentrePointSimulator(files=3, rate_limit=None) as other, other.client() as centrepoint:
        assert_type(centrepoint, CentrePointClient)
        yield centrepoint.datasets.files(other.study)
