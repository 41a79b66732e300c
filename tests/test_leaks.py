from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading

import pytest
from leaks import Holdings, watched_tasks


def test_nothing_is_reported_where_nothing_was_left() -> None:
    """Opening and closing leaves no trace."""
    before = Holdings.now()

    with socket.socket():
        pass

    assert before.leaks(patience=0) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not list its descriptors.")
def test_an_open_socket_is_reported() -> None:
    """A socket that is still open is named as one."""
    before = Holdings.now()

    with socket.socket():
        left = before.leaks(patience=0)

    assert len(left) == 1
    assert left[0].startswith("open: ")


def test_a_running_thread_is_reported_by_its_name() -> None:
    """A thread that runs on is named."""
    before = Holdings.now()
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, name="forgotten")
    thread.start()

    left = before.leaks(patience=0)
    go_on.set()
    thread.join()

    assert left == ["thread: forgotten"]


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux lists the children of a process.")
def test_a_running_child_is_reported() -> None:
    """A child process that runs on is named by its number."""
    before = Holdings.now()

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        left = before.leaks(patience=0)
        child.communicate(b"\n")

    assert f"child process: {child.pid}" in left


def test_a_task_that_outlives_its_loop_is_reported() -> None:
    """The task that the end of the loop would have to cancel is named."""

    async def forget() -> None:
        forgotten.append(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))

    forgotten: list[asyncio.Task[bool]] = []

    with watched_tasks() as unfinished:
        asyncio.run(forget())

    assert len(unfinished) == 1
    assert "name='forgotten'" in unfinished[0]


def test_a_task_that_is_just_ending_is_let_go() -> None:
    """A cancelled task that needs one more turn of the loop is no leak."""

    async def end() -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        task.cancel()

    with watched_tasks() as unfinished:
        asyncio.run(end())

    assert unfinished == []
