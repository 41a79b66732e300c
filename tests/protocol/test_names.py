"""Names are safe on every system, repeatable, and never the same for two different texts (NM01 to NM14)."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from arena_async.errors import UnsafeNameError
from arena_async.protocol.filenames import collision_suffix, file_name_from_url, is_plain, safe_component, safe_path

RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "0123456789\u00b9\u00b2\u00b3"
}

hostile = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="aA.~-_/\\:%\0\u202e\u0301e\u00e9 1\u017f\u0131\u212aiIsS", max_size=12),
    st.sampled_from(
        ["", ".", "..", "con", "NUL", "Aux.csv", "~deadbeef", "x~deadbeef", "x~DEADBEEF.csv", "\ud800", "-rf"]
    ),
    st.text(alphabet="\U0001f600x\u00e9", min_size=80, max_size=300),
)


def blind(name: str) -> str:
    """Fold a name as the most forgetful file systems together do: case, composition, both ways."""
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
    return unicodedata.normalize("NFC", folded).upper().lower().casefold()


def assert_safe(name: str) -> None:
    """Check everything that any system asks of one component."""
    assert name
    assert name not in (".", "..")
    assert len(name.encode("utf-8")) <= 255 - len("~01234567")
    assert not set(name) & set('<>:"/\\|?*')
    assert all(
        letter == " " or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs") for letter in name
    )
    assert name == name.strip(" ")
    assert not name.endswith(".")
    assert name[0] not in "-~."
    assert name.split(".", maxsplit=1)[0].rstrip(" ").lower() not in RESERVED
    assert unicodedata.normalize("NFC", name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("study-12", "study-12"),
        ("2024-02-29", "2024-02-29"),
        ("raw-accelerometer", "raw-accelerometer"),
        ("VDXGURVX8P8O7QH2PO36", "VDXGURVX8P8O7QH2PO36"),
        ("program-WEYH0DYPCFWFH0JS1PD", "program-WEYH0DYPCFWFH0JS1PD"),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
        ("d41d8cd98f00b204e9800998ecf8427e", "d41d8cd98f00b204e9800998ecf8427e"),
        ("activitydaily8", "activitydaily8"),
        ("temp\u00e9rature", "temp\u00e9rature"),
        ("\u6d4b\u8bd5", "\u6d4b\u8bd5"),
        ("a b", "a b"),
    ],
)
def test_an_ordinary_identifier_is_its_own_name(text: str, name: str) -> None:
    """What is safe and plain everywhere is not touched."""
    assert safe_component(text) == name


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("../../evil", "_.._.._evil", ""),
        ("/etc/x", "_etc_x", ""),
        ("C:\\x", "C__x", ""),
        ("\\\\host\\share\\x", "__host_share_x", ""),
        ("..\\..\\x", "_.._.._x", ""),
        ("a/../../b", "a_.._.._b", ""),
        ("%2e%2e%2F", "%2e%2e%2F", ""),
        ("a\0b", "a_b", ""),
        ("a\nb\x1b[31m\x7f", "a_b_[31m_", ""),
        ("abc\u202egpj.csv", "abc_gpj", ".csv"),
        ("a\u200bb", "a_b", ""),
        ("", "unnamed", ""),
        (".", "unnamed", ""),
        ("..", "unnamed", ""),
        (" . . ", "unnamed", ""),
        ("???", "unnamed", ""),
        ("-rf", "_-rf", ""),
        ("~root", "_~root", ""),
        (".arena-async", "_.arena-async", ""),
        ("nul", "_nul", ""),
        ("COM1.csv", "_COM1", ".csv"),
        ("lpt\u00b2", "_lpt\u00b2", ""),
        ("con .txt", "_con", ".txt"),
        ("report. ", "report", ""),
        ("Weekly.csv.gz", "Weekly", ".csv.gz"),
        ("caf\u0065\u0301", "caf\u00e9", ""),
        ("\ud800x", "_x", ""),
        ("x~deadbeef", "x~deadbeef", ""),
    ],
)
def test_a_hostile_name_is_cleaned_and_marked(text: str, start: str, end: str) -> None:
    """NM01, NM02, NM05, NM10, NM11: what was changed shows what it was, and carries a mark of the whole text."""
    name = safe_component(text)

    assert re.fullmatch(re.escape(start) + "~[0-9a-f]{8}" + re.escape(end), name)
    assert_safe(name)


def test_the_mark_is_always_the_same() -> None:
    """Names are the same in every process and release, or the next run would not find its files."""
    assert safe_component("Weekly") == "Weekly~29751324"
    assert collision_suffix("Extract_1.zip") == "~d4c42508"


@pytest.mark.parametrize(
    ("text", "end"),
    [("a" * 300 + ".csv.gz", ".csv.gz"), ("\U0001f600" * 90, ""), ("x" + "\u00e9" * 200 + ".zip", ".zip")],
)
def test_a_long_name_is_cut_between_characters_and_keeps_its_extension(text: str, end: str) -> None:
    """NM06: valid UTF-8 of at most 240 bytes, with a mark, so that two long names stay two."""
    name = safe_component(text)

    assert len(name.encode("utf-8", "strict")) <= 240
    assert re.search("~[0-9a-f]{8}" + re.escape(end) + r"\Z", name)
    assert name.startswith(text[:50])
    assert safe_component(text[:100] + "y" + text[100:]) != name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A.csv", "a.csv"),
        ("caf\u00e9", "cafe\u0301"),
        ("VDXGURVX8P8O7QH2PO36", "vdxgurvx8p8o7qh2po36"),
        ("a/b", "a\\b"),
        ("a?", "a*"),
        ("stra\u00dfe", "strasse"),
        ("k", "\u212a"),
        ("s", "\u017f"),
        ("i", "\u0131"),
        ("\u03c3", "\u03c2"),
        ("nul", "NUL"),
        ("", "."),
    ],
)
def test_twins_are_told_apart_where_case_and_composition_do_not_count(one: str, other: str) -> None:
    """NM07: two files, whatever the file system takes for the same."""
    assert blind(safe_component(one)) != blind(safe_component(other))


@given(hostile)
@example("_\u0301")
@example("a\u0301\u200b\u0301")
def test_every_text_gives_a_safe_name(text: str) -> None:
    """Whatever comes, the component is safe on every system, and the same each time."""
    name = safe_component(text)

    assert_safe(name)
    assert safe_component(text) == name
    assert (name == text) == is_plain(text)


@given(hostile, hostile)
def test_no_two_texts_give_one_name(one: str, other: str) -> None:
    """Injective even on a file system without case and composition."""
    assume(one != other)

    assert blind(safe_component(one)) != blind(safe_component(other))


@given(hostile)
def test_a_text_and_its_variations_give_different_names(text: str) -> None:
    """The nearest neighbours of a text are exactly those that a file system would mix up with it."""
    near = {
        text,
        text.upper(),
        text.lower(),
        text.swapcase(),
        text.casefold(),
        text + ".",
        text + " ",
        " " + text,
        "_" + text,
    }
    near |= {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")} | {
        safe_component(text),
        text[:-1],
    }

    assert len({blind(safe_component(each)) for each in near}) == len(near)


extensions = st.sampled_from(
    ["", ".zip", ".csv.gz", ".ZIP", ".avro", ".a b", "./../x", ".csv", ".gz", ".", "zip", ".nul"]
)


@given(st.lists(hostile, max_size=4), hostile, extensions)
def test_every_path_stays_below_the_root(parts: list[str], stem: str, extension: str) -> None:
    """NM01, NM14: each field is cleaned on its own, so the path has exactly one component for each."""
    path = safe_path(parts, stem, extension)

    assert not path.is_absolute()
    assert len(path.parts) == len(parts) + 1
    for name in path.parts:
        assert_safe(name)


@given(hostile, extensions, hostile, extensions)
@example("a.csv", ".gz", "a", ".csv.gz")
@example("a.zip", "", "a", ".zip")
@example("a", ".ZIP", "a", ".zip")
def test_no_two_files_of_a_folder_get_one_name(one: str, its: str, other: str, others: str) -> None:
    """NM08: stem and extension together decide, not what they look like when joined."""
    assume((one, its) != (other, others))

    assert blind(safe_path([], one, its).name) != blind(safe_path([], other, others).name)


def test_a_documented_layout_comes_out_as_documented() -> None:
    """The ordinary case has nothing added anywhere."""
    guid, run, file = "N5O7Q9SYH0W5SPPV", "VDXGURVX8P8O7QH2PO36", "WEYH0DYPCFWFH0JS1PD"

    assert safe_path(["arena", "extracts", guid, run], file, ".zip") == PurePosixPath(
        "arena/extracts/N5O7Q9SYH0W5SPPV/VDXGURVX8P8O7QH2PO36/WEYH0DYPCFWFH0JS1PD.zip"
    )
    assert safe_path(["centrepoint", "study-1", "subject-7"], "2024-01-31", ".csv.gz") == PurePosixPath(
        "centrepoint/study-1/subject-7/2024-01-31.csv.gz"
    )


def test_an_endless_path_is_refused() -> None:
    """A hundred folders is more than any layout means."""
    with pytest.raises(UnsafeNameError, match="101 directories"):
        safe_path(["a"] * 101, "b")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/c/day%201.csv.gz?sig=a%2Fb&se=1#x", "day 1.csv.gz"),
        ("https://h/a/%2e%2e%2fevil", "evil"),
        ("https://h/a/b%5cc", "c"),
        ("https://h/x.zip#?y", "x.zip"),
        ("https://h/", ""),
        ("https://h", ""),
        ("https://[::1", ""),
        ("https://h/%ff", "\ufffd"),
    ],
)
def test_a_name_from_a_url_has_no_query_and_no_folder(url: str, name: str) -> None:
    """NM09: the signature never gets into a file name."""
    assert file_name_from_url(url) == name


def test_twins_of_one_key_are_marked_by_their_vendor_names() -> None:
    """Two rows of one key: the same mark for the same name, another for another."""
    assert re.fullmatch("~[0-9a-f]{8}", collision_suffix("a.zip"))
    assert collision_suffix("a.zip") != collision_suffix("A.zip")
