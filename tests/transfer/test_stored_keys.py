"""What is written down keeps its keys, whatever the attributes are called in Python."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from arena_async import Action, Cost, Plan, PlannedFile
from arena_async.options import Clock
from arena_async.protocol.adapter import Credential
from arena_async.protocol.messages import Secret
from arena_async.providers.arena import SessionStore
from arena_async.providers.arena.sessions import SharedSessions
from arena_async.transfer.filesystem import machine

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def test_a_written_plan_has_the_same_keys_as_ever() -> None:
    """Plans that were written by an older version can be read, and the other way round."""
    file = PlannedFile(key="test/a", action=Action.FETCH, path="test/a.bin")
    plan = Plan(scope="s", files=(file,), cost=Cost(listing=1, per_file=1, resets_at=NOON), made_at=NOON)

    written = json.loads(plan.to_json())

    assert list(written) == [
        "arena_async_plan", "scope", "files", "kept", "whole", "price", "listing", "look_up", "made_at",
    ]  # fmt: skip
    assert list(written["price"]) == [
        "listing", "per_file", "exact", "metered", "remaining", "reserve", "resets_at",
    ]  # fmt: skip
    assert list(written["files"][0]) == ["key", "action", "path", "size", "name", "reason", "extension", "change"]
    assert Plan.from_json(plan.to_json()) == plan


async def test_the_session_store_has_the_same_keys_as_ever(tmp_path: Path) -> None:
    """Processes of two versions may share one file."""
    clock = Clock(now=lambda: NOON, monotonic=lambda: 7.0)
    sessions = SharedSessions(SessionStore(tmp_path / "sessions.json"), "a user", clock=clock)
    await sessions.take(rejected=None)
    await sessions.put(Credential(headers=(("arena_session_id", Secret("s")),)), relogin=True)
    path = tmp_path / "sessions-38649849c77ed762909ab95e7a533bd7.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    await sessions.aclose()

    assert list(written) == ["arena_async_sessions", "session", "claim", "refused", "uses", "take_backs"]
    assert list(written["session"]) == ["headers", "workspace", "limit", "idle", "since", "used"]
    assert written["take_backs"] == [{"at": NOON.timestamp(), "up": 7.0, "machine": machine()}]
    (use,) = written["uses"].values()
    assert list(use) == ["machine", "pid", "start"]
