"""Lists of addresses: what a row may be, what it is called, and which sentence names the row that cannot be meant."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import attrs
import pytest

from arena_async import Link, RemoteFile, UrlSet
from arena_async.errors import ConfigurationError
from arena_async.protocol.filenames import target_path as place
from arena_async.protocol.messages import Secret

SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
MD5 = "098f6bcd4621d373cade4e832627b4f6"


async def files_of(text: str | bytes, **settings: Any) -> list[RemoteFile]:
    """List a text."""
    async with UrlSet.parse(text, **settings) as files:
        return [file async for file in files]


async def paths_of(text: str, **settings: Any) -> list[str]:
    """Return where the files of a text go."""
    return [str(place(file)) for file in await files_of(text, **settings)]


async def problem_of(text: str | bytes, **settings: Any) -> str:
    """Return the sentence that rejects a text."""
    with pytest.raises(ConfigurationError) as caught:
        await files_of(text, **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://a.example/data.csv", "data.csv"),
        ("https://a.example/x/README.md?v=1#top", "README.md"),
        ("https://a.example/my%20file.csv", "my file.csv"),
        ("https://a.example:8443/data.v2.csv.gz", "data.v2.csv.gz"),
        ("https://a.example/..%2f..%2fetc%2fpasswd", "passwd"),
        ("https://a.example/.bashrc", "_.bashrc~b7cf3e96"),
        ("https://a.example/Caf%C3%A9.CSV", "Café.CSV"),
        ("https://a.example/CON.txt", "_CON~09c8cc7e.txt"),
    ],
)
async def test_the_last_part_of_an_address_is_the_name_where_that_is_safe(url: str, path: str) -> None:
    """As a person would call it, capitals included; what some system rejects or hides carries a mark."""
    assert await paths_of(url) == [path]


async def test_folders_are_kept_when_asked_for_and_never_lead_out() -> None:
    """Host and directories are directories, cleaned one by one; a name that is given stands as it is."""
    text = (
        "https://a.example/s1/data.csv\nhttps://a.example:8443/s1/data.csv\nhttps://b.example/%2e%2e/data.csv\n"
        '{"url": "https://b.example/s1/data.csv", "name": "site-01/day-1.csv"}\n'
    )

    found = await paths_of(text, folders=True)

    assert found[:2] == ["a.example/s1/data.csv", "a.example_8443/s1/data.csv"]
    assert found[2].startswith("b.example/")
    assert ".." not in found[2].split("/")
    assert found[3] == "site-01/day-1.csv"


async def test_a_list_may_have_a_mark_comments_blanks_and_ends_of_lines_of_any_kind() -> None:
    """What editors and spreadsheets leave around the addresses does not matter."""
    text = b"\xef\xbb\xbfhttps://a.example/1\r\n\r\n  # none\r\n\t https://a.example/2 \nhttps://a.example/3"

    assert [file.name for file in await files_of(text)] == ["1", "2", "3"]


async def test_a_row_says_what_is_known_beforehand() -> None:
    """Name, size, digests and headers come from a JSON object, and the digest shows a change."""
    row = {"url": "https://a.example/d?id=7", "name": "x/d.csv", "size": 4, "sha256": SHA256.upper(), "md5": MD5}
    [file] = await files_of(json.dumps(row | {"headers": {"X-Key": "canary"}}))

    assert (str(place(file)), file.size, file.sha256, file.md5) == ("x/d.csv", 4, SHA256, MD5)
    assert file.change == f"sha256:{SHA256}"
    assert "canary" not in repr(file)
    [plain] = await files_of("https://a.example/d")
    assert (plain.change, plain.size, plain.sha256) == ("", None, None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("data.csv", "not an absolute http or https URL"),
        ("/data.csv", "not an absolute http or https URL"),
        ("ftp://a.example/data.csv", "not an absolute http or https URL"),
        (
            "http://a.example/data.csv",
            "only https is contacted. If that is meant, allow it with allow_http",
        ),
        ("https://127.0.0.1/data.csv", "not a public address"),
        ("https://10.0.0.1/data.csv", "allow_private (--allow-private)"),
        ("https://169.254.169.254/latest", "not a public address"),
        ("https://user:canary@a.example/data.csv", "has user information"),
        ("https://a.example/my file.csv", "has a space in it; an address has %20 there"),
        ("https://a.example/ä.csv", "percent-encoded"),
        ("https://a.example/a\tb", "characters that are invalid in a URL"),
        ("https://a.example/a\x00b", "not UTF-8 text"),
        ("https://a.example/a\x1bb", "characters that are invalid in a URL"),
        ("https://a.example/", "ends in no file name"),
        ("https://a.example/files/?sig=canary", "ends in no file name"),
        ("https://a.example/token=canary", "looks like a secret"),
        ("[1, 2]", "one JSON object a line"),
        ("{", "begins as a JSON object and is none"),
        ('{"name": "x"}', 'no "url"'),
        ('{"url": 7}', 'no "url"'),
        ('{"url": "https://a.example/x", "sha-256": "canary"}', "'sha-256' is no column; there are url, name, size"),
        ('{"url": "https://a.example/x", "sha256": "canary"}', "SHA-256 is not one: it takes 64 hexadecimal digits"),
        (f'{{"url": "https://a.example/x", "sha256": "{MD5}"}}', "it takes 64 hexadecimal digits"),
        (f'{{"url": "https://a.example/x", "md5": "{SHA256}"}}', "it takes 32 hexadecimal digits"),
        ('{"url": "https://a.example/x", "size": -1}', "not a number of bytes"),
        ('{"url": "https://a.example/x", "size": true}', "not a number of bytes"),
        ('{"url": "https://a.example/x", "name": 7}', "name is no text"),
        ('{"url": "https://a.example/x", "name": ""}', "leads out of the directory, or has an empty part"),
        ('{"url": "https://a.example/x", "name": "../x"}', "leads out of the directory"),
        ('{"url": "https://a.example/x", "name": "/etc/x"}', "leads out of the directory"),
        ('{"url": "https://a.example/x", "name": "a//x"}', "leads out of the directory"),
        ('{"url": "https://a.example/x", "name": "a\\\\x"}', "characters that no file name has"),
        ('{"url": "https://a.example/x", "name": "a\\nx"}', "characters that no file name has"),
        ('{"url": "https://a.example/x", "headers": {"X": "canary\\r\\nY: 1"}}', "header X has a value that cannot"),
        ('{"url": "https://a.example/x", "headers": {"X: canary\\r\\nY": "1"}}', "name of a header"),
        ('{"url": "https://a.example/x", "headers": {"Range": "bytes=0-canary"}}', "header Range cannot be set"),
        ('{"url": "https://a.example/x", "headers": {"If-None-Match": "canary"}}', "cannot be set"),
        ('{"url": "https://a.example/x", "headers": {"HOST": "canary"}}', "header HOST cannot be set"),
        ('{"url": "https://a.example/x", "headers": {"X": "canary", "x": "b"}}', "header x is given twice"),
        ('{"url": "https://a.example/x", "headers": "canary"}', "not a mapping"),
        ("https://a.example/" + "x" * 70_000, "longer than 65536 bytes"),
    ],
)
async def test_a_row_that_cannot_be_meant_is_named_with_its_line(line: str, said: str) -> None:
    """The sentence has the line, the reason, and nothing that may be a secret."""
    problem = await problem_of(f"https://a.example/good\n# note\n{line}\n")

    assert problem.startswith("the list, line 3: ")
    assert said in problem
    assert "canary" not in problem


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", b"\xef\xbb\xbf"])
async def test_a_list_without_an_address_is_refused(text: str | bytes) -> None:
    """Nothing to do is most likely the wrong file."""
    assert await problem_of(text) == "The list names no address; it takes one a line."


async def test_a_list_in_another_encoding_is_refused() -> None:
    """What Windows calls Unicode is no UTF-8."""
    assert "Save the list as UTF-8" in await problem_of("https://a.example/x\n".encode("utf-16"))


@pytest.mark.parametrize(
    "rows",
    [
        "https://a.example/x?sig=canary1\nhttps://a.example/x?sig=canary2",
        "https://a.example/d.csv\n\n\nhttps://b.example/d.csv",
        "https://a.example/README\nhttps://b.example/readme",
        'https://a.example/x\n{"url": "https://a.example/x", "size": 3}',
        'https://a.example/x\n{"url": "https://a.example/y", "name": "x"}',
    ],
)
async def test_two_rows_of_one_name_are_refused_before_anything_is_sent(rows: str) -> None:
    """The same path with another query, the same name of another host, or one that differs in case only."""
    problem = await problem_of(rows)

    lines = len(rows.split("\n"))
    assert problem.startswith(f"the list, line {lines}: its path would be ")
    assert "as that of the list, line 1. Set names" in problem
    assert "canary" not in problem


async def test_a_row_that_repeats_another_word_for_word_is_no_conflict() -> None:
    """Lists are put together from lists."""
    assert len(await files_of("https://a.example/x\nhttps://a.example/y\nhttps://a.example/x\n")) == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example/x?sig=1", "https://a.example/x?sig=2", True),
        ("https://a.example/x?id=1&X-Amz-Signature=1", "https://a.example/x?id=1&X-Amz-Signature=2", True),
        ("https://a.example/x", "https://a.example/x#part", True),
        ("https://A.example:443/x", "https://a.example/x", True),
        ("https://a.example/x?id=1", "https://a.example/x?id=2", False),
        ("https://a.example/x", "https://b.example/x", False),
        ("https://a.example/x", "https://a.example:8443/x", False),
        ('{"url": "https://a.example/x", "name": "y"}', '{"url": "https://a.example/x", "name": "x"}', False),
    ],
)
async def test_a_key_names_the_file_for_ever_and_no_signature_is_in_it(one: str, other: str, same: bool) -> None:
    """A signature is another one tomorrow; a query without one is another file."""
    [first], [second] = await files_of(one), await files_of(other)

    assert (first.key == second.key) is same
    assert "sig" not in first.key.lower()


async def test_rows_of_the_caller_may_be_text_or_links() -> None:
    """They are named by their number."""
    rows = ["https://a.example/x", Link("https://a.example/y", size=3), Secret("https://a.example/z")]
    async with UrlSet(rows) as files:
        assert [(file.name, file.size) async for file in files] == [("x", None), ("y", 3), ("z", None)]
    async with UrlSet(["https://a.example/x", "nowhere"]) as files:
        with pytest.raises(ConfigurationError, match=r"^address 2: nowhere is not an absolute"):
            await files.check()
    with pytest.raises(ConfigurationError, match=r"UrlSet\.parse"):
        UrlSet("https://a.example/x")


async def test_a_list_in_a_file_is_read_again_for_each_walk(tmp_path: Path) -> None:
    """What was added is seen, and looked at before it is used; a file that is not there is said so."""
    path = tmp_path / "list.txt"
    path.write_text("https://a.example/x\n")
    async with UrlSet.read(path) as files:
        assert [file.name async for file in files] == ["x"]
        path.write_text("https://a.example/x\nhttps://a.example/yy\n")
        assert [file.name async for file in files] == ["x", "yy"]
        path.write_text("https://a.example/x\nhttps://b.example/x\nhttps://b.example/z\n")
        with pytest.raises(ConfigurationError, match=r"list\.txt, line 2: its path would be x"):
            await anext(aiter(files))
    async with UrlSet.read(tmp_path / "none.txt") as files:
        with pytest.raises(ConfigurationError, match="there is no such file"):
            await files.check()


async def test_lines_that_lie_across_blocks_are_whole() -> None:
    """Every line comes once, whatever its length, with the number that it has."""
    lines = [f"https://a.example/{'p' * (number % 700)}/{number}" for number in range(1000)]

    assert [file.name for file in await files_of("\n".join(lines))] == [str(number) for number in range(1000)]
    assert (await problem_of("\n".join([*lines, "nowhere"]))).startswith("the list, line 1001: ")


def test_no_secret_of_a_row_is_shown() -> None:
    """Not by repr, not by a pickle, not as a plain value."""
    link = Link("https://a.example/x?sig=canary", headers={"Authorization": "Bearer canary"})

    assert repr(link) == "<Link https://a.example/x>"
    assert "canary" not in str(attrs.asdict(link))
    assert b"canary" not in pickle.dumps(link.url)


async def test_an_entry_that_lost_its_address_is_found_again() -> None:
    """Addresses are never stored; the list gives them again."""
    async with UrlSet(["https://a.example/x?sig=1", "https://a.example/y"]) as files:
        first = await anext(aiter(files))
        [found] = await files.find([first.key])

        assert found.link is not None
        assert found.link.reveal() == "https://a.example/x?sig=1"
        assert await files.find(["urls nobody"]) == []
        assert files.requests_sent == 0
