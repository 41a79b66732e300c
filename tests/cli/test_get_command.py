# ruff: noqa: ASYNC240 - a test may look at the disk; nothing else runs meanwhile.
"""``arena-async get`` as a child process: any addresses, from the command, a file or stdin."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from pathlib import Path

import pytest
from command_line import environment, run, start
from scripted import RawServer, reply
from session_files import ranged

pytestmark = pytest.mark.process

BODY = b"day,steps\n1,9000\n" * 1000
HERE = ("--allow-http", "--allow-private")


def files_below(directory: Path) -> dict[str, bytes]:
    """Return the final files of a folder by their path."""
    found = (path for path in directory.rglob("*") if path.is_file() and ".arena-async" not in path.parts)
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


async def test_addresses_come_home_and_a_second_run_asks_for_nothing(tmp_path: Path) -> None:
    """Exit code 0, a summary of two lines; the second run says that nothing is new."""
    out = tmp_path / "out"
    async with RawServer() as server:
        server.on("GET", "/*", ranged(BODY))
        words = ("get", f"{server.base_url}/Day-1.csv?sig=canary", f"{server.base_url}/Day-2.csv", "--to", str(out))
        first = await run(*words, *HERE, env=environment())
        second = await run(*words, *HERE, env=environment())

    assert (first.code, second.code) == (0, 0)
    assert first.out == f"2 fetched  (34.0 kB, 2 requests)\n2 files in {out}\n"
    assert second.out == f"nothing new  (0 B, 0 requests)\n2 files in {out}\n"
    assert "canary" not in first.out + first.err
    assert files_below(out) == {"Day-1.csv": BODY, "Day-2.csv": BODY}
    assert len(server.requests) == 2


async def test_a_list_comes_from_a_file_or_from_stdin(tmp_path: Path) -> None:
    """With names and digests where it says so."""
    async with RawServer() as server:
        server.on("GET", "/*", ranged(BODY))
        row = {"url": f"{server.base_url}/x?id=1", "name": "a/b.csv", "sha256": hashlib.sha256(BODY).hexdigest()}
        text = f"# mine\r\n{server.base_url}/c.csv\r\n{json.dumps(row)}\r\n".encode()
        (tmp_path / "list.txt").write_bytes(text)
        read = await run("get", "-i", str(tmp_path / "list.txt"), "--to", "one", *HERE, env=environment(), cwd=tmp_path)
        piped = await run("get", "-i", "-", "--to", "two", "--json", *HERE, env=environment(), cwd=tmp_path, typed=text)

    assert (read.code, piped.code) == (0, 0)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two") == {"c.csv": BODY, "a/b.csv": BODY}
    assert {record["path"]: record["verified_by"] for record in piped.records[:-1]} == {
        "c.csv": "length",
        "a/b.csv": "sha256",
    }
    assert (piped.records[-1]["type"], piped.records[-1]["exit_code"]) == ("summary", 0)


async def test_a_dry_run_says_what_would_be_done(tmp_path: Path) -> None:
    """Nothing is asked for."""
    async with RawServer() as server:
        words = (f"{server.base_url}/s1/d.csv", f"{server.base_url}/s2/d.csv", "--folders", "--dry-run")
        done = await run("get", *words, "--to", str(tmp_path / "out"), *HERE, env=environment())

    host = f"127.0.0.1_{server.port}"
    assert done.out.splitlines() == [
        f"fetch          -  {host}/s1/d.csv",
        f"fetch          -  {host}/s2/d.csv",
        "fetch 2  (size not listed)",
        "costs 2 requests: 0 to list, 2 for content",
    ]
    assert (done.code, done.err, server.requests) == (0, "", [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "get takes either URLs or a file of URLs after -i."),
        (("https://a.example/x", "-i", "list.txt"), "takes either URLs or a file"),
        (("-i", "none.txt"), "none.txt: there is no such file"),
        (("-i", "-"), "The list names no address; it takes one a line."),
        (("https://a.example/x?sig=canary", "http://a.example/y?sig=canary"), "address 2: http://a.example/y is plain"),
        (("https://a.example/x?sig=canary", "https://a.example/x?sig=canary2"), "address 2: its path would be x, as"),
    ],
)
async def test_a_list_that_cannot_be_meant_is_a_wrong_use(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """Exit code 2, one sentence without a secret, and not even a folder is left behind."""
    done = await run("get", *words, "--to", "out", env=environment(), cwd=tmp_path, typed=b"")

    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert "canary" not in done.err
    assert list(tmp_path.iterdir()) == []


async def test_some_that_fail_are_told_and_counted(tmp_path: Path) -> None:
    """Exit code 3; the others are here."""
    async with RawServer() as server:
        server.on("GET", "/good", ranged(BODY))
        row = {"url": f"{server.base_url}/good", "name": "bad", "md5": "0" * 32}
        rows = f"{server.base_url}/gone\n{server.base_url}/good\n{json.dumps(row)}\n".encode()
        done = await run("get", "-i", "-", "--to", str(tmp_path / "out"), *HERE, env=environment(), typed=rows)

    assert done.code == 3
    assert done.out.startswith("1 fetched, 2 failed  (")
    assert "404. There is nothing at this address." in done.err
    assert "its MD5 is" in done.err
    assert files_below(tmp_path / "out") == {"good": BODY}


async def test_what_was_stopped_is_taken_up_and_no_address_is_shown(tmp_path: Path) -> None:
    """Ctrl-C ends with 130 and says to run it again, without the addresses that may bear signatures."""
    async with RawServer() as server:
        server.on("GET", "/a.csv", reply(body=BODY, stall=True, length=2 * len(BODY)))
        words = ("get", f"{server.base_url}/a.csv?sig=canary", "--to", str(tmp_path / "out"), *HERE)
        child = await start(*words, env=environment())
        await server.arrived(1)
        child.send_signal(signal.SIGINT)
        async with asyncio.timeout(100):
            _, err = await child.communicate()

    assert child.returncode == 130
    assert err.decode().splitlines()[-1] == (
        "Stopped: 0 files done, 1 starts anew: its server gives no ETag. Run the same command again to continue."
    )
    assert b"canary" not in err
