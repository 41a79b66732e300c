"""Where the state of a user lies, by system and environment."""

from __future__ import annotations

import pytest

from arena_async.protocol.state_directory import user_state_directory


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {"HOME": "/home/ada"}, "/home/ada/.local/state/arena_async"),
        ("linux", {"HOME": "/home/ada/"}, "/home/ada/.local/state/arena_async"),
        ("linux", {"HOME": "/home/ada", "XDG_STATE_HOME": "/data/state/"}, "/data/state/arena_async"),
        ("linux", {"HOME": "/home/ada", "XDG_STATE_HOME": "state"}, "/home/ada/.local/state/arena_async"),
        ("linux", {"XDG_STATE_HOME": "/data/state"}, "/data/state/arena_async"),
        ("linux", {"HOME": "/home/ada", "ARENA_ASYNC_STATE": "/srv/sync"}, "/srv/sync"),
        ("linux", {"HOME": "/home/ada", "ARENA_ASYNC_STATE": "sync"}, "/home/ada/.local/state/arena_async"),
        ("linux", {}, None),
        ("linux", {"HOME": "ada"}, None),
        ("linux", {"HOME": "", "XDG_STATE_HOME": ""}, None),
        ("darwin", {"HOME": "/Users/ada"}, "/Users/ada/Library/Application Support/arena_async"),
        (
            "darwin",
            {"HOME": "/Users/ada", "XDG_STATE_HOME": "/x"},
            "/Users/ada/Library/Application Support/arena_async",
        ),
        ("darwin", {}, None),
        ("win32", {"LOCALAPPDATA": "C:\\Users\\ada\\AppData\\Local"}, "C:\\Users\\ada\\AppData\\Local\\arena_async"),
        ("win32", {"LOCALAPPDATA": "C:\\x", "ARENA_ASYNC_STATE": "D:\\state"}, "D:\\state"),
        ("win32", {"HOME": "/home/ada"}, None),
    ],
)
def test_the_state_of_a_user_lies_where_the_system_keeps_such_things(
    platform: str, environ: dict[str, str], expected: str | None
) -> None:
    """The path is that of the system's convention, and None where nothing absolute is known."""
    assert user_state_directory(environ, platform) == expected
