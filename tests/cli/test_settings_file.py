"""Settings from a file of NAME=value lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena_async.cli.settings import read_settings, read_size
from arena_async.errors import ConfigurationError


def test_the_lines_that_simulate_prints_are_read(tmp_path: Path) -> None:
    """Both spellings, quotes, comments and empty lines are taken as a shell takes them."""
    file = tmp_path / "settings.env"
    file.write_text(
        "# made for a test\n\nexport ARENA_EMAIL='integration@example.com'\nARENA_PASSWORD=\"a b # c\"\n"
        "ARENA_WORKSPACE_ID=\nARENA_USAGE_REASON=Vendor/1.0 # trailing\n"
    )

    assert read_settings(file) == {
        "ARENA_EMAIL": "integration@example.com",
        "ARENA_PASSWORD": "a b # c",
        "ARENA_WORKSPACE_ID": "",
        "ARENA_USAGE_REASON": "Vendor/1.0",
    }


@pytest.mark.parametrize("line", ["hunter2", "=hunter2", "A B=hunter2", "A=hunter2 other", "A='hunter2", "1A=hunter2"])
def test_a_line_that_is_no_setting_is_named_but_not_shown(tmp_path: Path, line: str) -> None:
    """The line may hold a secret, so only its number is told."""
    file = tmp_path / "settings.env"
    file.write_text(f"A=1\n{line}\n")

    with pytest.raises(ConfigurationError, match="line 2: not a setting") as caught:
        read_settings(file)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    """A missing or binary file is a wrong setting, not a crash."""
    file = tmp_path / "settings.env"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"settings\.env: the settings cannot be read"):
        read_settings(file)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("500K", 512_000),
        ("500k", 512_000),
        ("1.5M", 1_572_864),
        ("2GiB", 2_147_483_648),
        ("10MB", 10_485_760),
        (" 1B ", 1),
    ],
)
def test_a_size_is_read_with_its_unit(text: str, size: int) -> None:
    """A K is 1,024 bytes, as for other programs that bring files home."""
    assert read_size(text, option="--max-rate") == size


@pytest.mark.parametrize("text", ["", "fast", "-1M", "1T", "1,5M", "1e6", "M", "٣M", "nan", "1 0"])
def test_a_size_that_is_none_is_refused_with_the_option_it_was_given_for(text: str) -> None:
    """Guessing would be worse."""
    with pytest.raises(ConfigurationError, match="--max-rate"):
        read_size(text, option="--max-rate")


def test_a_file_that_never_ends_is_no_file_of_settings() -> None:
    """It is read as far as settings may go, and no further."""
    with pytest.raises(ConfigurationError, match="more than 1048576 bytes"):
        read_settings(Path("/dev/zero"))
