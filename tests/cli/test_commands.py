"""The commands as child processes against the simulators: what they write, and how they end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shlex
import signal
import socket
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from command_line import environment, run, start

from arena_async import ArenaClient
from arena_async.cli import running
from arena_async.testing import ArenaSimulator, CentrePointSimulator, faults

pytestmark = pytest.mark.process

PASSWORD = "pa55-never-shown"


def offered(arena: ArenaSimulator) -> set[bytes]:
    """Return the zips that the simulator offers as files of extract runs."""
    return {maker.read() for path, maker in arena.files.items() if path.startswith("arena/extracts/")}


async def read_lines(child: asyncio.subprocess.Process, count: int) -> None:
    """Wait until a child has written some lines of data."""
    assert child.stdout is not None
    async with asyncio.timeout(100):
        for _ in range(count):
            await child.stdout.readline()


def entries(directory: Path) -> list[str]:
    """Return the names in a folder."""
    return sorted(path.name for path in directory.iterdir())


def files_below(directory: Path) -> dict[str, bytes]:
    """Return the final files of a folder by their path."""
    found = (path for path in directory.rglob("*") if path.is_file() and ".arena-async" not in path.parts)
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


async def test_a_sync_brings_the_bytes_of_the_service_and_a_second_one_fetches_nothing(tmp_path: Path) -> None:
    """Digests equal the simulator's; the second run spends the listing only, by the service's own log."""
    async with ArenaSimulator(files=5) as arena:
        env = environment(arena)
        first = await run("sync", "arena", "extracts", "--to", str(tmp_path / "out"), env=env)
        contents = len(arena.seen("GET */content"))
        wanted = {hashlib.sha256(content).hexdigest() for content in offered(arena)}
        second = await run("sync", "arena", "extracts", "--to", str(tmp_path / "out"), env=env)
        again = len(arena.seen("GET */content"))

    assert (first.code, second.code) == (0, 0)
    assert (contents, again) == (5, 5)
    assert first.out.splitlines()[0].startswith("5 fetched  (")
    assert second.out.splitlines()[0].startswith("nothing new  (0 B, ")
    assert first.out.splitlines()[1] == second.out.splitlines()[1] == f"5 files in {tmp_path / 'out'}"
    downloaded = files_below(tmp_path / "out")
    assert {hashlib.sha256(content).hexdigest() for content in downloaded.values()} == wanted
    assert len(downloaded) == len(wanted) == 5
    assert all(path.startswith(f"arena/extracts/{arena.extract}/") and path.endswith(".zip") for path in downloaded)


async def test_both_services_share_a_folder_and_verify_notices_what_changed(tmp_path: Path) -> None:
    """A byte that is not as it was brought home is found offline, told on stdout, and mended by the next sync."""
    out = tmp_path / "out"
    async with ArenaSimulator() as arena, CentrePointSimulator(subjects=1) as centrepoint:
        env = environment(arena, centrepoint)
        await run("sync", "arena", "extracts", "--to", str(out), env=env)
        synced = await run("sync", "centrepoint", "datasets", str(centrepoint.study), "--to", str(out), env=env)
        good = await run("verify", str(out), env=environment())
        victim = next(path for path in sorted(files_below(out)) if path.startswith("centrepoint/"))
        (out / victim).write_bytes(b"x" + (out / victim).read_bytes()[1:])
        bad = await run("verify", str(out), env=environment())
        mended = await run("sync", "centrepoint", "datasets", str(centrepoint.study), "--to", str(out), env=env)

    assert synced.code == 0
    assert (good.code, good.out, good.err) == (0, "7 files verified\n", "")
    assert (bad.code, bad.out) == (3, f"changed  {victim}\n6 files verified, 1 changed\n")
    assert mended.out.startswith("1 refreshed  (")


async def test_every_line_of_json_is_an_object_with_a_type(tmp_path: Path) -> None:
    """One object per file and a summary, for sync, plan, list, verify and quota alike."""
    async with ArenaSimulator(files=2) as arena:
        env, out = environment(arena), str(tmp_path / "out")
        planned = await run("plan", "arena", "extracts", "--to", out, "--json", env=env)
        synced = await run("sync", "arena", "extracts", "--to", out, "--json", "--quiet", env=env)
        listed = await run("list", "arena", "extracts", "--json", env=env)
        verified = await run("verify", out, "--json", env=env)
        left = await run("quota", "--json", env=env)

    assert [done.code for done in (planned, synced, listed, verified, left)] == [0, 0, 0, 0, 0]
    assert [record["type"] for record in planned.records] == ["file", "file", "summary"]
    assert (planned.records[-1]["counts"]["fetch"], planned.records[-1]["fits"]) == (2, True)
    assert [record["type"] for record in synced.records] == ["file", "file", "summary"]
    assert {record["verified_by"] for record in synced.records[:-1]} == {"crc"}
    assert (synced.records[-1]["counts"]["fetch"], synced.records[-1]["exit_code"]) == (2, 0)
    assert synced.err == ""
    assert listed.records[0]["guid"] == arena.extract
    assert verified.records == [{"type": "summary", "ok": 2, "changed": 0, "missing": 0, "unknown": 0, "exit_code": 0}]
    assert left.records[0]["remaining"] < 10_000


async def test_quota_says_on_request_who_spent_it() -> None:
    """By user and endpoint, the most first; it costs the one request that tells."""
    async with ArenaSimulator(files=1) as arena:
        env = environment(arena)
        for _ in range(3):
            await run("list", "arena", "exports", env=env)
        arena.clear()
        reported = await run("quota", "--who", env=env)
        record = await run("quota", "--who", "--json", env=env)

    first, head, maximum = reported.out.splitlines()[:3]
    assert first.startswith("Arena PLM: 9,99")
    assert head.split() == ["count", "who", "method", "endpoint", "date"]
    assert maximum.split()[:5] == ["3", "Ida", "Integration", "GET", "/exports"]
    assert [one["type"] for one in record.records[:2]] == ["quota", "usage"]
    spent = [tuple(map(one.get, ("service", "count", "endpoint"))) for one in record.records]
    assert ("arena", 3, "/exports") in spent
    assert [f"{seen.method} {seen.path}" for seen in arena.log][:3] == [
        "POST /v1/login",
        "GET /v1/settings/recentactivities/apiusages",
        "PUT /v1/logout",
    ]


async def test_what_plan_says_is_what_sync_spends(tmp_path: Path) -> None:
    """The price in requests is the number the service sees."""
    async with ArenaSimulator(files=4) as arena:
        env, out = environment(arena), str(tmp_path / "out")
        planned = await run("plan", "arena", "extracts", "--to", out, "--json", env=env)
        arena.clear()
        await run("sync", "arena", "extracts", "--to", out, env=env)
        seen = [one for one in arena.log if one.path not in ("/v1/login", "/v1/logout")]

    assert planned.records[-1]["requests"] == len(seen)
    assert planned.records[-1]["content"] == 4


async def test_a_plan_that_does_not_fit_says_so(tmp_path: Path) -> None:
    """Remaining, reserve and reset stand beside the price."""
    async with ArenaSimulator(files=30, quota=20) as arena:
        env = environment(arena, ARENA_QUOTA_RESERVE="5")
        planned = await run("plan", "arena", "extracts", "--to", str(tmp_path / "out"), env=env)

    assert planned.code == 0
    assert "does not fit: " in planned.out
    assert " left, 5 of them in reserve until " in planned.out


async def test_list_leads_from_definitions_to_runs_to_files() -> None:
    """Each further word goes one level in; columns are separated by tabs where no terminal is."""
    async with ArenaSimulator(files=1) as arena:
        env = environment(arena)
        extracts = await run("list", "arena", "extracts", env=env)
        runs = await run("list", "arena", "extracts", arena.extract, env=env)
        guid = runs.out.split("\t")[0]
        files = await run("list", "arena", "extracts", arena.extract, guid, env=env)
        exports = await run("list", "arena", "exports", env=env)
        export_runs = await run("list", "arena", "exports", arena.export, env=env)
        imports = await run("list", "arena", "imports", env=env)
        import_runs = await run("list", "arena", "imports", arena.import_, env=env)

    assert extracts.out.startswith(f"{arena.extract}\t")
    assert files.out.count("\n") == 1
    assert guid in files.out
    for done in (extracts, runs, files, exports, export_runs, imports, import_runs):
        assert (done.code, done.err) == (0, "")
        assert done.out.strip()


async def test_a_listing_shows_no_signed_link() -> None:
    """Neither the table nor the JSON has what opens a file."""
    async with CentrePointSimulator(subjects=1) as centrepoint:
        env = environment(centrepoint)
        table = await run("list", "centrepoint", "datasets", str(centrepoint.study), env=env)
        records = await run("list", "centrepoint", "datasets", str(centrepoint.study), "--json", env=env)

    assert len(records.records) == 4
    assert records.records[0]["subject_id"] == centrepoint.subjects[0]
    for text in (table.out, records.out):
        assert "sig=" not in text
        assert "file_url" not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sync", "arena", "extracts"), "--to"),
        (("sync", "arena", "exports", "--to", "out"), "GUID"),
        (("sync", "nowhere"), "nowhere"),
        (("sync", "arena", "extracts", "--to", "out", "--bogus"), "--bogus"),
        (("sync", "arena", "extracts", "--to", "out", "--workers", "many"), "many"),
        (("sync", "arena", "extracts", "--to", "out", "--workers", "0"), "workers"),
        (("plan", "arena", "extracts", "--to", "out", "--workers", "0"), "workers"),
        (("sync", "arena", "extracts", "--to", "out", "--max-rate", "fast"), "--max-rate"),
        (("sync", "arena", "extracts", "--to", "out", "--max-rate", "1"), "max_rate"),
        (("sync", "arena", "extracts", "--to", "out", "--env", "missing.env"), "missing.env"),
        (("sync", "arena", "extracts", "G", "--run", "R", "--latest", "--to", "out"), "latest"),
        (("sync", "arena", "extracts", "--to", "out", "--completed-since", "soon"), "soon"),
        (("list", "centrepoint", "datasets"), "STUDY"),
        (("verify", "never-synced"), "never-synced"),
        (("simulate", "arena", "--port", "99999"), "99999"),
        (("simulate", "centrepoint", "--size", "1"), "size"),
    ],
)
async def test_wrong_usage_ends_with_2_and_says_what_is_wrong(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    """Nothing on stdout, no traceback, nothing written."""
    env = environment(ARENA_EMAIL="a@example.com", ARENA_PASSWORD=PASSWORD, ARENA_BASE_URL="http://127.0.0.1:9/v1")

    done = await run(*arguments, env=env, cwd=tmp_path)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "Traceback" not in done.err
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("service", "missing"),
    [("arena", "ARENA_EMAIL"), ("arena", "ARENA_PASSWORD"), ("centrepoint", "CENTREPOINT_CLIENT_SECRET")],
)
async def test_a_missing_variable_is_named_before_anything_is_sent(service: str, missing: str, tmp_path: Path) -> None:
    """The exit code is that of wrong usage."""
    words = {"arena": ("arena", "extracts"), "centrepoint": ("centrepoint", "datasets", "234")}[service]
    async with ArenaSimulator() as arena, CentrePointSimulator() as centrepoint:
        env = environment(arena, centrepoint)
        del env[missing]
        done = await run("sync", *words, "--to", str(tmp_path / "out"), env=env)
        requests = [*arena.log, *centrepoint.log]

    assert (done.code, requests) == (2, [])
    assert missing in done.err


async def test_a_wrong_password_costs_one_login_and_ends_with_4(tmp_path: Path) -> None:
    """It is never tried again, and never shown."""
    async with ArenaSimulator() as arena:
        done = await run(
            "sync", "arena", "extracts", "--to", str(tmp_path / "out"), env=environment(arena, ARENA_PASSWORD=PASSWORD)
        )
        logins = len(arena.seen("POST */login"))

    assert (done.code, done.out, logins) == (4, "", 1)
    assert done.err.count("\n") == 1
    assert PASSWORD not in done.err


async def test_a_wrong_client_secret_ends_with_4(tmp_path: Path) -> None:
    """CentrePoint's tokens are asked for elsewhere, and the answer means the same."""
    async with CentrePointSimulator() as centrepoint:
        env = environment(centrepoint, CENTREPOINT_CLIENT_SECRET=PASSWORD)
        done = await run("sync", "centrepoint", "datasets", "234", "--to", str(tmp_path / "out"), env=env)

    assert (done.code, done.out) == (4, "")
    assert PASSWORD not in done.err


async def test_an_unreachable_host_ends_with_1(tmp_path: Path) -> None:
    """After its tries, with a sentence that names the host."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = str(nobody.getsockname()[1])
        base_url = f"http://127.0.0.1:{port}/v1"
        env = environment(ARENA_EMAIL="a@example.com", ARENA_PASSWORD=PASSWORD, ARENA_BASE_URL=base_url)
        done = await run("quota", env=env)

    assert (done.code, done.out) == (1, "")
    assert port in done.err
    assert "Traceback" not in done.err


async def test_an_exhausted_quota_ends_with_5_and_keeps_what_came(tmp_path: Path) -> None:
    """What fits into the allowance comes home; the rest is not started, and the reserve is left."""
    async with ArenaSimulator(files=20, quota=12) as arena:
        env = environment(arena, ARENA_QUOTA_RESERVE="2")
        done = await run("sync", "arena", "extracts", "--to", str(tmp_path / "out"), "--json", env=env)
        contents = len(arena.seen("GET */content"))
        spent = [one for one in arena.log if one.path not in ("/v1/login", "/v1/logout")]

    assert done.code == 5
    assert len(spent) == 10
    assert len(files_below(tmp_path / "out")) == contents > 0
    summary = done.records[-1]
    assert (summary["type"], summary["exit_code"], summary["error"]["error"]) == ("summary", 5, "QuotaExhaustedError")
    assert summary["not_started"] + summary["failed"] == 20 - contents
    assert "2026" in done.err or "reset" in done.err


async def test_some_failed_files_end_with_3(tmp_path: Path) -> None:
    """The others are here, and stderr names the one that is not."""
    async with ArenaSimulator(files=4) as arena:
        arena.inject(faults.status(404, body='{"status": 404, "errors": []}'), on="GET */content")
        done = await run("sync", "arena", "extracts", "--to", str(tmp_path / "out"), "--json", env=environment(arena))

    assert done.code == 3
    assert len(files_below(tmp_path / "out")) == 3
    assert [bool(record["error"]) for record in done.records].count(True) == 1
    assert done.err.startswith("arena-async: ")


async def test_what_is_refused_is_said_once_for_each_reason_and_requested_on_request(tmp_path: Path) -> None:
    """The run that meets it ends with 3, later ones with 0; no line for each file."""
    async with ArenaSimulator() as arena:
        other = arena.add_user("other@example.com", "other-Passw0rd")
        run_of_other = arena.add_export_run(creator=other, files=5)
        env = environment(arena)
        command = ("sync", "arena", "exports", arena.export, "--to", str(tmp_path / "out"))
        first = await run(*command, env=env)
        second = await run(*command, env=env)
        written = await run(*command, "--json", env=env)
        before = len(arena.seen("GET */content"))
        planned = await run("plan", *command[1:], "--ask-again", env=env)
        run_of_other.creator = arena.user
        third = await run(*command, "--ask-again", env=env)
        requested = len(arena.seen("GET */content")) - before

    (reason,) = [line for line in second.err.splitlines() if line.startswith("skipped")]
    assert (first.code, second.code, written.code, third.code, requested) == (3, 0, 0, 0, 5)
    assert reason.startswith("skipped 5 files: status 403, code 3024")
    assert reason.count(".zip") == 3
    assert reason.endswith(", and 2 more)")
    assert "5 skipped" in second.out
    assert {record["reason"].split(",")[0] for record in written.records if record["type"] == "file"} == {"status 403"}
    assert "fetch 5" in planned.out


async def test_what_fails_for_long_is_said_in_one_sentence(tmp_path: Path) -> None:
    """It is still a failure, although it was not requested in this run."""
    out = tmp_path / "out"
    async with ArenaSimulator(files=4) as arena:
        env = environment(arena)
        arena.inject(faults.status(404), on="GET */content", times=None)
        await run("sync", "arena", "extracts", "--to", str(out), env=env)
        with closing(sqlite3.connect(out / ".arena-async" / "ledger.sqlite")) as ledger:
            # They have failed for 20 days; the next try is three days away.
            ledger.execute("UPDATE refusals SET since = since - 1728000000000, again = since + 259200000000, tries = 9")
            ledger.commit()
        before = len(arena.seen("GET */content"))
        second = await run("sync", "arena", "extracts", "--to", str(out), env=env)
        requested = len(arena.seen("GET */content")) - before

    assert (second.code, requested) == (1, 0)
    (line,) = [line for line in second.err.splitlines() if "--ask-again" in line]
    assert "4 files failed in earlier runs and not requested now: the next is due 20" in line
    assert line.endswith(", and 1 more).")


async def test_the_latest_run_of_a_delta_extract_comes_with_a_warning(tmp_path: Path) -> None:
    """It holds changes only, and whoever asks for it alone is told so; quiet means quiet."""
    async with ArenaSimulator(files=0) as arena:
        run_guid = arena.add_extract_run(kind="Delta").guid
        words = ("sync", "arena", "extracts", arena.extract, "--latest", "--to", str(tmp_path / "out"))
        reported = await run(*words, env=environment(arena))
        quiet = await run(*words, "--quiet", env=environment(arena))

    assert (reported.code, quiet.code) == (0, 0)
    assert f"its latest run {run_guid} is a delta run" in reported.err
    assert (quiet.out, quiet.err) == ("", "")


async def test_files_that_all_failed_end_with_1(tmp_path: Path) -> None:
    """Nothing came and nothing was here: that is not partial success."""
    async with ArenaSimulator(files=2) as arena:
        arena.inject(faults.html_page(), on="GET */content", times=None)
        done = await run("sync", "arena", "extracts", "--to", str(tmp_path / "out"), env=environment(arena))

    assert done.code == 1
    assert "2 failed" in done.out


async def test_settings_may_come_from_a_file(tmp_path: Path) -> None:
    """What simulate prints is what --env reads, and it wins over the environment."""
    async with ArenaSimulator() as arena:
        settings = arena.describe()["environment"]
        file = tmp_path / "arena.env"
        file.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()))
        done = await run(
            "list", "arena", "extracts", "--env", str(file), env=environment(ARENA_EMAIL="else@example.com")
        )

    assert (done.code, done.err) == (0, "")
    assert arena.extract in done.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_sync_is_out_within_two_seconds_and_goes_on_later(
    number: signal.Signals, tmp_path: Path
) -> None:
    """It ends with 130 and a hint, leaves no half file under a final name, and the next run completes the folder."""
    out = tmp_path / "out"
    async with ArenaSimulator(files=6) as arena:
        arena.inject(faults.stall(after_bytes=5000), on="GET */content", times=3, after=2)
        env = environment(arena)
        child = await start("sync", "arena", "extracts", "--to", str(out), "--json", env=env)
        await read_lines(child, 3)
        before = time.monotonic()
        child.send_signal(number)
        _, err = await child.communicate()
        took = time.monotonic() - before
        wanted = offered(arena)
        half = set(files_below(out).values())
        arena.clear()
        again = await run("sync", "arena", "extracts", "--to", str(out), env=env)
        contents = len(arena.seen("GET */content"))

    assert child.returncode == 130
    # What a busy machine adds to that is not ours; the service is silent for good.
    assert running._GRACE_SECONDS < 2.0
    assert took < 20
    assert err.decode().splitlines()[-2:] == [
        f"Stopped: {len(half)} files done, 3 start anew: the server of 3 gives no ETag. Run it again to continue:",
        f"  arena-async sync arena extracts --to {out} --json",
    ]
    assert "Traceback" not in err.decode()
    assert half < wanted
    assert (again.code, contents) == (0, 6 - len(half))
    assert set(files_below(out).values()) == wanted


async def test_a_killed_sync_goes_on_later(tmp_path: Path) -> None:
    """After kill -9 nothing half is under a final name, and the same command ends with the whole folder."""
    out = tmp_path / "out"
    async with ArenaSimulator(files=6) as arena:
        arena.inject(faults.stall(after_bytes=5000), on="GET */content", times=3, after=2)
        env = environment(arena)
        child = await start("sync", "arena", "extracts", "--to", str(out), "--json", env=env)
        await read_lines(child, 3)
        child.kill()
        await child.communicate()
        wanted = offered(arena)
        half = set(files_below(out).values())
        arena.clear()
        again = await run("sync", "arena", "extracts", "--to", str(out), env=env)
        contents = len(arena.seen("GET */content"))

    assert half < wanted
    assert (again.code, contents) == (0, 6 - len(half))
    assert set(files_below(out).values()) == wanted


async def test_a_reader_that_leaves_ends_a_listing_quietly() -> None:
    """As in ``list ... | head -1``."""
    async with CentrePointSimulator(files=3000) as centrepoint:
        child = await start("list", "centrepoint", "datasets", "234", "--json", env=environment(centrepoint))
        assert child.stdout is not None
        await child.stdout.readline()
        child.stdout._transport.close()  # type: ignore[attr-defined]
        assert child.stderr is not None
        err = await child.stderr.read()
        code = await child.wait()
        pages = len(centrepoint.seen("GET */datasetfiles"))

    assert (code, err) == (1, b"")
    assert pages < 30


async def test_simulate_prints_the_settings_and_ends_well_with_a_signal(tmp_path: Path) -> None:
    """Its stdout is what a shell or --env reads; Ctrl-C is how it is meant to end."""
    child = await start("simulate", "arena", "--files", "2", "--json", env=environment())
    try:
        assert child.stdout is not None
        settings = json.loads(await child.stdout.readline())["environment"]
        done = await run("sync", "arena", "extracts", "--to", str(tmp_path / "out"), env=environment(**settings))
    finally:
        child.send_signal(signal.SIGINT)
        _, err = await child.communicate()

    assert done.code == 0
    assert done.out.startswith("2 fetched  (")
    assert (child.returncode, err.decode()) == (0, "")


async def test_a_client_that_leaves_is_no_matter_for_the_simulator() -> None:
    """A client that goes away in the middle of a body leaves no traceback in the terminal of the service."""
    child = await start("simulate", "arena", "--files", "1", "--size", "90000000", "--json", env=environment())
    try:
        assert child.stdout is not None
        settings = json.loads(await child.stdout.readline())["environment"]
        async with ArenaClient.from_env(environ=settings) as arena:
            files = arena.extracts.files()
            (file,) = [file async for file in files]
            opened = await files.open(file)
            await opened.stream.readinto(memoryview(bytearray(1000)))
            await opened.stream.aclose()
        done = await run("list", "arena", "extracts", env=environment(**settings))
    finally:
        child.send_signal(signal.SIGINT)
        _, err = await child.communicate()

    assert done.code == 0
    assert (child.returncode, err.decode()) == (0, "")


async def test_the_demo_does_the_whole_job_in_ten_seconds(tmp_path: Path) -> None:
    """It lists, plans, syncs, syncs again without fetching, verifies and shows the folder."""
    out = tmp_path / "demo"
    done = await run("demo", "--to", str(out), env=environment())

    assert done.code == 0, done.err
    # Of the processor, so that it does not matter what else the machine has to do.
    assert done.worked < 10
    assert done.out.count("  sync    12 fetched  (") == 2
    assert done.out.count("  again   nothing new  (0 B, ") == 2
    assert "  verify  24 files verified\n" in done.out
    assert f"  folder  {out}\n" in done.out
    assert len(files_below(out)) == 24
    assert all(len(line) <= 130 for line in done.out.splitlines())


async def test_the_demo_refuses_a_folder_that_is_in_use(tmp_path: Path) -> None:
    """It never mixes its made-up files with yours."""
    (tmp_path / "mine.txt").write_text("mine")

    done = await run("demo", "--to", str(tmp_path), env=environment())

    assert (done.code, done.out) == (2, "")
    assert entries(tmp_path) == ["mine.txt"]


async def test_help_needs_no_network_library(tmp_path: Path) -> None:
    """The words of the command line are known without aiohttp and cattrs."""
    script = (
        "import sys\nfrom arena_async.__main__ import main\n"
        "sys.argv = 'arena-async sync arena extracts --help'.split()\n"
        "code = main()\nassert code == 0\nassert not {'aiohttp', 'cattrs', 'sqlite3', 'aiofiles'} & set(sys.modules)"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment()
    )
    out, err = await child.communicate()

    assert (child.returncode, err) == (0, b"")
    assert b"--completed-since" in out
