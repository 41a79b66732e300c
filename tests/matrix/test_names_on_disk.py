"""Rows NM01 to NM14: what a service calls its files, and what they are called here."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath
from typing import Any

import attrs
import pytest
from filesets import content, remote
from matrix import World, row
from offered_files import bodies_at_home, partials
from scripted import RawServer, reply
from session_files import ETAG, download, ranged, session_files

from arena_async.errors import DestinationBusyError
from arena_async.protocol import filenames
from arena_async.protocol.filenames import target_path as place
from arena_async.protocol.files import RemoteFile
from arena_async.transfer.models import Action
from arena_async.transfer.outcomes import Report

BODY = content(5_000, "a")

EVIL = [
    "../../evil", "/etc/x", "C:\\x", "\\\\host\\share\\x", "..\\..\\x", "a/../../b", "%2e%2e%2f%2e%2e%2fevil",
    "..", ".", "....//....//x", "~root/x", "x/",
]  # fmt: skip


def named(number: int, **fields: Any) -> RemoteFile:
    """Make a listed file of 5,000 bytes under a key of its own."""
    return remote(f"row{number}", size=len(BODY), **fields)


async def bring_rows(
    world: World, rows: list[RemoteFile], *, headers: dict[str, str] | None = None, **how: Any
) -> Report:
    """Bring rows home by mirror; every body is the same, and lies behind the number of its row."""
    numbers = {row.key: number for number, row in enumerate(rows)}
    async with RawServer() as server:
        server.on("GET", "/content/*", ranged(BODY, headers=headers))
        async with session_files(
            world, server, *rows, link=lambda row, _: f"/content/{numbers[row.key]}", signed=False
        ) as files:
            report = await download(world, files, remember=True, **how)
    assert len(server.requests) == sum(outcome.attempts for outcome in report.outcomes)
    return report


def paths(world: World) -> list[str]:
    """Return where everything lies, and see that it is what was sent."""
    found = bodies_at_home(world)
    assert set(found.values()) <= {BODY}
    return sorted(found)


@row("NM01", protection="every component of a path is cleaned")
async def test_a_hostile_name_stays_inside_the_folder(world: World) -> None:
    """NM01: in every field of the listing, and in both forms of Content-Disposition: all stay inside."""
    rows: list[RemoteFile] = []
    for name in EVIL:
        rows.append(named(len(rows), parts=("files", name)))
        rows.append(named(len(rows), stem=name))
        rows.append(named(len(rows), extension=name))
        rows.append(named(len(rows), name=name))
    header = "attachment; filename=\"../../evil\"; filename*=UTF-8''..%2F..%2Fevil"
    report = await bring_rows(world, rows, headers={"Content-Disposition": header})

    assert report.failures == ()
    found = paths(world)
    assert len(found) == 4 * len(EVIL)
    assert sum(path.count("/") == 1 for path in found) == 3 * len(EVIL)
    assert sum(path.count("/") == 2 for path in found) == len(EVIL)
    assert {path.name for path in world.root.iterdir()} == {".arena-async", "files"}
    assert sorted(path.name for path in world.root.parent.iterdir()) == ["outside", "root"]


@row("NM01", protection="every component of a path is cleaned")
async def test_the_path_of_a_link_names_no_file(world: World) -> None:
    """NM01: a link that leads to ../../evil is fetched, and the file is called as the listing's fields say."""
    async with RawServer() as server:
        server.on("GET", "*", ranged(BODY))
        link = "/x/..%2f..%2fevil/%2e%2e/evil"
        evil = remote("a", size=len(BODY), stem="../../evil", name=filenames.file_name_from_url(link))
        async with session_files(world, server, evil, link=lambda *_: link) as files:
            report = await download(world, files)

    assert report.failures == ()
    assert [path.rpartition("~")[0] for path in paths(world)] == ["files/_.._.._evil"]


UNSEEN = {
    "NUL": "a\0b",
    "newline": "a\nb",
    "escape": "a\x1b[31mb",
    "delete": "a\x7fb",
    "bidi": "a\u202egpj.exe",
    "zero width": "a\u200bb",
    "line separator": "a\u2028b",
}


@row("NM02", protection="invisible characters are replaced in names")
async def test_characters_that_nobody_sees_are_in_no_name(world: World) -> None:
    """NM02: each name is printable, and each file is told from the others."""
    rows = [named(number, stem=text) for number, text in enumerate(UNSEEN.values())]
    report = await bring_rows(world, rows)

    assert report.failures == ()
    assert len(paths(world)) == len(UNSEEN)
    assert all(path.isprintable() for path in paths(world))


@row("NM02", protection="text of the service is escaped where it is shown")
async def test_characters_that_nobody_sees_are_escaped_where_they_are_shown(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """NM02: a key with a terminal's commands in it reaches neither an error nor the log as it is."""
    rows = [
        named(number, key=f"test/{text}", parts=("files",), stem="same") for number, text in enumerate(UNSEEN.values())
    ]
    report = await bring_rows(world, rows)

    shown = [str(outcome.error) for outcome in report.failures]
    assert len(shown) == len(UNSEEN) - 1
    assert all(text.isprintable() for text in shown)
    assert all(record.getMessage().replace("\n", "").isprintable() for record in caplog.records)


NOTHING = ["", ".", "..", ". . .", "   ", "...", "/", "\\\\", ":*?", "\0\0"]


@row("NM05", protection="a name of which nothing is left gets another")
async def test_a_name_of_which_nothing_is_left_gets_another(world: World) -> None:
    """NM05: a word and a mark of the whole text, each another one, each the same the next time."""
    rows = [named(number, stem=text) for number, text in enumerate(NOTHING)]
    report = await bring_rows(world, rows)
    again = await bring_rows(world, rows)

    assert report.failures == ()
    assert again.counts[Action.KEEP] == len(NOTHING)
    assert len(paths(world)) == len(NOTHING)
    assert all(path.startswith("files/unnamed~") and path.endswith(".bin") for path in paths(world))


LONG = ["x" * 300, "\U0001f9ec" * 90, "é" * 200, "a" * 241, "日本" * 70 + "b"]


@row("NM06", protection="a long name is cut between characters")
async def test_a_long_name_is_cut_between_characters(world: World) -> None:
    """NM06: at most 255 bytes with what a twin is marked by, valid UTF-8, the extension kept, a mark added."""
    rows = [named(number, stem=text, extension=".tar.bin") for number, text in enumerate(LONG)]
    rows += [named(10 + number, parts=("files", text), stem="s") for number, text in enumerate(LONG)]
    report = await bring_rows(world, rows)

    assert report.failures == ()
    components = [PurePosixPath(path).parts for path in paths(world)]
    assert len(components) == 2 * len(LONG)
    assert max(len(part.encode()) for parts in components for part in parts) <= 255 - len("~0123abcd")
    assert sum(parts[-1].endswith(".tar.bin") for parts in components) == len(LONG)
    assert all("~" in "".join(parts) for parts in components)


DUPLICATES = {
    "case": ("A", "a"),
    "case of folders": ("Weekly", "weekly"),
    "composition": (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")),
    "cleaning": ("a?b", "a*b"),
    "sharp s": ("straße", "strasse"),
    "trailing dot": ("a.", "a"),
}


@row("NM07", protection="names that look alike are told apart")
@pytest.mark.parametrize("kind", DUPLICATES)
async def test_names_that_some_file_system_takes_for_one_are_two(world: World, kind: str) -> None:
    """NM07: two files, whatever the file system; the same two names whichever comes first."""
    rows = [named(number, stem=text) for number, text in enumerate(DUPLICATES[kind])]
    report = await bring_rows(world, rows)
    first = paths(world)
    again = await bring_rows(world, rows[::-1])

    assert report.failures == ()
    assert len({unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold()) for path in first}) == 2
    assert (paths(world), again.counts[Action.KEEP]) == (first, 2)


@row("NM08", protection="two files never go to one place")
async def test_one_name_for_several_days_is_told_apart_by_the_layout(world: World) -> None:
    """NM08: the fields tell them apart where the template names them; else the second is refused before a request."""
    rows = [
        named(number, key=f"test/{day}", stem="raw", parts=("days", day), fields={"day": day, "kind": "raw"})
        for number, day in enumerate(("2024-03-01", "2024-03-02"))
    ]
    refused = await bring_rows(world, rows, layout="{kind}{extension}")
    after_one = paths(world)
    told_apart = await bring_rows(world, rows, layout="{day}/{kind}{extension}")

    (failure,) = refused.failures
    assert isinstance(failure.error, DestinationBusyError)
    assert failure.attempts == 0
    assert after_one == ["raw.bin"]
    assert told_apart.failures == ()
    assert set(paths(world)) >= {"2024-03-01/raw.bin", "2024-03-02/raw.bin"}


@row("NM09", protection="a name from a link has no query")
async def test_a_name_from_a_signed_link_holds_nothing_of_its_query(world: World) -> None:
    """NM09: the last part of the path names the file; signature and fragment are in no name and in no state file."""
    async with RawServer() as server:
        server.on("GET", "*", ranged(BODY))
        link = f"{server.base_url}/v/day%201.bin?sig={world.secrets['sig']}#part"
        name = filenames.file_name_from_url(link)
        stem, _, extension = name.partition(".")
        entry = remote("a", size=len(BODY), stem=stem, extension=f".{extension}", name=name, key=f"test/{name}")
        async with session_files(world, server, entry, link=lambda *_: "/v/day%201.bin") as files:
            report = await download(world, files, remember=True)

    assert report.failures == ()
    assert paths(world) == ["files/day 1.bin"]
    assert [seen.query for seen in server.requests] == [f"sig={world.secrets['sig']}"]


DISPOSITIONS = [
    'attachment; filename="open',
    'attachment; filename*0="a"; filename*1="b.csv"; filename*2*=%E2%82',
    "attachment; filename*=x-unknown''%ff%fe",
    "attachment; filename=\xe9\xff.csv",
]


@row("NM10", protection="text that is no Unicode can be written down")
@pytest.mark.parametrize("header", DISPOSITIONS, ids=["open quote", "segments", "unknown charset", "latin-1"])
async def test_a_name_that_is_no_text_ends_as_a_valid_one(world: World, header: str) -> None:
    """NM10: what the header says is no matter, and a lone surrogate from a listing can be kept, planned and shown."""
    rows = [named(0, name="caf\udce9.csv", stem="caf\udce9"), named(1, key="test/\ud800", stem="b", change="\udfff")]
    report = await bring_rows(world, rows, headers={"Content-Disposition": header})
    again = await bring_rows(world, rows, headers={"Content-Disposition": header})

    assert report.failures == ()
    assert again.counts[Action.KEEP] == 2
    assert len(paths(world)) == 2
    assert all(path.encode() for path in paths(world))


@row("NM11", protection="no name begins as programs read more into")
async def test_no_name_begins_as_an_option_a_home_or_a_hidden_file(world: World) -> None:
    """NM11: such a beginning gets an underscore before it, and a mark."""
    rows = [named(number, stem=text) for number, text in enumerate(("-rf", "~root", ".ssh", "--help", "-"))]
    report = await bring_rows(world, rows)

    assert report.failures == ()
    found = [path.removeprefix("files/").rpartition("~")[0] for path in paths(world)]
    assert found == ["_--help", "_-rf", "_-", "_.ssh", "_~root"]


@row("NM12", protection="every component of a path is cleaned")
async def test_a_file_called_like_our_own_clashes_with_nothing(world: World) -> None:
    """NM12: a file that is called like a partial file, a record, the lock or the ledger is a file like others."""
    stem = "0" * 32 + "-0123456789abcdef"
    rows = [
        named(0, parts=(".arena-async", "partial"), stem=stem, extension=".part"),
        named(1, parts=(".arena-async", "partial"), stem=stem, extension=".json"),
        named(2, parts=(".arena-async",), stem="lock", extension=""),
        named(3, parts=(".ARENA-ASYNC",), stem="ledger", extension=".sqlite"),
        named(4, parts=(), stem=".arena-async", extension=""),
        named(5, parts=("files",), stem=stem, extension=".part"),
        named(6, parts=(), stem="new-0123456789abcdef", extension=""),
    ]
    report = await bring_rows(world, rows)
    again = await bring_rows(world, rows)

    assert report.failures == ()
    assert (again.counts[Action.KEEP], len(paths(world))) == (7, 7)
    assert f"files/{stem}.part" in paths(world)
    assert not any(PurePosixPath(path).parts[0].casefold() == ".arena-async" for path in paths(world))
    assert partials(world) == []


#: The refusal of a signed link that is over.
OVER = reply(403, headers={"x-ms-error-code": "AuthenticationFailed"})


@row("NM13", protection="the place of a file is settled before its first request")
async def test_a_name_that_changes_between_attempts_changes_no_place(world: World) -> None:
    """NM13: the renewed entry and the second answer call the file something else; it goes where it was going."""
    body = content(200_000, "a")
    final = world.allow("files/a.bin", body)
    row = remote("a", size=len(body), name="first.bin")
    other = {**ETAG, "Content-Disposition": 'attachment; filename="second.bin"'}
    async with RawServer() as server:
        server.on("GET", "/a", reply(body=body, headers=ETAG, cut=100_000), OVER, ranged(body, headers=other))
        async with session_files(world, server, row, link=lambda _, looked_up: f"/a?v={looked_up}") as files:
            files.fresh[row.key] = attrs.evolve(row, stem="second", name="second.bin")
            report = await download(world, files, remember=True)

    (outcome,) = report.outcomes
    assert (outcome.error, outcome.path) == (None, final)
    assert len(files.looked_up) == 1
    assert list(bodies_at_home(world)) == ["files/a.bin"]


@row("NM14", protection="each field of a layout is cleaned on its own")
async def test_a_field_of_a_layout_adds_no_folder(world: World) -> None:
    """NM14: a subject that is called ../.. is one component like any other."""
    subjects = ["../..", "a/b", "..", "s-1", "/abs"]
    rows = [named(number, stem="raw", fields={"subject": text}) for number, text in enumerate(subjects)]
    report = await bring_rows(world, rows, layout="subjects/{subject}/{stem}{extension}")

    assert report.failures == ()
    assert len(paths(world)) == len(subjects)
    assert all(path.startswith("subjects/") and path.count("/") == 2 for path in paths(world))
    assert "subjects/s-1/raw.bin" in paths(world)
    assert str(place(rows[3], "{subject}/{stem}")) == "s-1/raw"
