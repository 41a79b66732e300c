"""
A client that changes a service, and a service that loses its responses, in any order that hypothesis can think of.

A person wants something (import a file, check one, commit a run, an export), and repeats the command until it reports
that it is done. The rules are what may happen; what is checked after each of them are the promises:

1. For each thing that was wanted once, one request at most is carried out; a person who starts anew allows one more,
   and so does a run without a commit that the service could not show in time.
2. A dry run never commits.
3. What the client reports as done was done, for this and not for another thing; what it reports as not done was not.
4. No secret is in a line or a file of the client.
5. When the troubles are over, a repeated command ends well, or with the error that leaves it to the person; one that
   starts anew ends well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from lives import Life, Lives
from sending import CANARY, LONG, LOOK_TROUBLES, TROUBLES, USER, Service, SharedTime, sheet
from torturing import Ground

from arena_async.protocol.request_records import load_records

__all__ = ["Sending", "play_sending", "sending"]

#: About so many calls to the file system does a life make for its records.
STEPS = 80

#: Seconds for which a result is not shown; the last is longer than the service may take.
HIDDEN = (10, 120, 480, 3600)

_verbs = st.sampled_from(("import", "import", "start", "check", "commit", "export"))
_names = st.sampled_from("ab")
_rarely = st.sampled_from((False,) * 7 + (True,))


class Sending(Ground):
    """A running service and two processes with many lives, on an event loop of their own."""

    def __init__(self, directory: Path, runner: asyncio.Runner, service: Service, lives: tuple[Lives, ...]) -> None:
        self.directory, self.service = directory, service
        super().__init__()
        self._runner, self._lives = runner, lives

    def live(self, *each: dict[str, Any], **common: Any) -> list[Life]:
        """Let a life pass, or several at once, and the service read what they left on the way."""

        async def live() -> list[Life]:
            self.service.new_life(len(each))
            base_url = f"{self.service.api.base_url}/v1"
            ended = await asyncio.gather(
                *(
                    one.live(**common, **own, base_url=base_url, cell=cell)
                    for cell, (one, own) in enumerate(zip(self._lives, each, strict=False), 1)
                )
            )
            await self.service.api.drained()
            return ended

        return self._runner.run(live())


@contextlib.contextmanager
def sending(directory: Path) -> Iterator[Sending]:
    """Start everything, and end it."""
    time = SharedTime(directory / "time", 0)
    service, lives = Service(time), (Lives("sending"), Lives("sending"))
    try:
        with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
            for each in (service, *lives):
                runner.run(each.__aenter__())
                stack.callback(lambda each=each: runner.run(each.__aexit__(None, None, None)))
            yield Sending(directory, runner, service, lives)
    finally:
        time.close()


class SendingMachine(RuleBasedStateMachine):
    """What may happen, and what holds whatever happens. A subclass has its ``ground``. No rule has a precondition."""

    ground: ClassVar[Sending]

    def __init__(self) -> None:
        super().__init__()
        self.ground.schedules += 1
        self.service = self.ground.service
        self.root = Path(tempfile.mkdtemp(dir=self.ground.directory))
        for name in "abcd":
            (self.root / f"{name}.csv").write_bytes(sheet(name))
        #: What is wanted and not reported to be done, how often it was wanted, and the runs that were reported for it.
        self.open: dict[str, tuple[str, str]] = {}
        self.allowed: Counter[str] = Counter()
        self.reported: dict[str, set[str]] = {}

    # What may happen

    @initialize(
        reads=st.sampled_from(("query", "parts", "both")), dated=st.booleans(), ahead=st.sampled_from((0, 240, -240))
    )
    def begin(self, reads: str, dated: bool, ahead: float) -> None:
        self.service.begin(reads, dated=dated)
        self.ahead = ahead

    @rule(troubles=st.lists(st.tuples(st.sampled_from(TROUBLES), st.booleans()), min_size=1, max_size=3))
    def prepare_troubles(self, troubles: list[tuple[str, bool]]) -> None:
        self.service.troubles.extend(troubles)

    @rule(troubles=st.lists(st.sampled_from(LOOK_TROUBLES), min_size=1, max_size=3))
    def prepare_troubles_with_looks(self, troubles: list[str]) -> None:
        self.service.look_troubles.extend(troubles)

    @rule(seconds=st.sampled_from(HIDDEN))
    def hide_the_next_result(self, seconds: float) -> None:
        self.service.hidden.append(seconds)

    @rule(seconds=st.sampled_from((1, 30, 120, 600, 4000)))
    def let_time_pass(self, seconds: float) -> None:
        self.service.time.pass_by(seconds)

    @rule()
    def lose_the_directory(self) -> None:
        shutil.rmtree(self.root / "0", ignore_errors=True)

    @rule()
    def copy_the_directory(self) -> None:
        if (self.root / "0").exists():
            shutil.copytree(self.root / "0", self.root / "copy", dirs_exist_ok=True)

    @rule()
    def restore_the_copy(self) -> None:
        if (self.root / "copy").exists():
            shutil.rmtree(self.root / "0", ignore_errors=True)
            (self.root / "copy").rename(self.root / "0")

    @rule(verb=_verbs, name=_names, start_anew=_rarely)
    def command(self, verb: str, name: str, start_anew: bool) -> None:
        self.live(verb, name, start_anew=start_anew)

    @rule(
        verb=_verbs,
        name=_names,
        trouble=st.sampled_from(TROUBLES),
        done=st.booleans(),
        hidden=st.sampled_from((0, 0, *HIDDEN)),
    )
    def command_in_trouble(self, verb: str, name: str, trouble: str, done: bool, hidden: float) -> None:
        self.service.troubles.appendleft((trouble, done))
        self.service.hidden.appendleft(hidden)
        self.live(verb, name)

    @rule(verb=_verbs, name=_names, step=st.integers(1, STEPS))
    def command_and_be_killed_at_a_step(self, verb: str, name: str, step: int) -> None:
        self.live(verb, name, kill_at=step)

    @rule(verb=_verbs, name=_names, start_anew=_rarely)
    def command_twice_at_once(self, verb: str, name: str, start_anew: bool) -> None:
        self.live(verb, name, start_anew=start_anew, clients=2)

    def live(
        self, verb: str, name: str, *, start_anew: bool = False, kill_at: int = 0, clients: int = 1
    ) -> list[dict[str, Any]]:
        """Let the client give a command, once or twice at once, check what it did, and return what it reported."""
        if verb == "commit" and len(name) == 1:
            # A dry run that was reported, or that was made in the browser.
            seen = {
                run.guid for run in self.service.runs.values() if run.key == f"check {name}" and run.creator != USER
            }
            seen |= self.reported.get(f"check {name}", set())
            left = [guid for guid in sorted(seen) if not self.reported.get(f"commit {guid}")]
            name = left[0] if left else self.service.add_dry_run(name).guid
        if verb == "start":
            # Of another file than those that are fetched: how each of two calls ends is known to that call alone.
            name = {"a": "c", "b": "d"}.get(name, name)
        key = verb if verb == "export" else f"{verb} {name}".replace("start", "import")
        with self.ground.witnessed():
            self._want(key, verb, name, start_anew=start_anew, clients=clients)
            lives = self.ground.live(
                *({"to": str(self.root / str(number)), "start_anew": start_anew} for number in range(clients)),
                verb=verb,
                name=name,
                file=str(self.root / f"{name}.csv"),
                state=str(self.root / "state"),
                time=str(self.ground.directory / "time"),
                ahead=self.ahead,
                nap=0.002 if clients > 1 else 0,
                patience=0.3 if any(trouble == "stall" for trouble, _ in self.service.troubles) else 30,
                kill_at=kill_at,
            )
            before = set(self.reported.get(key, ()))
            found = [self._read(life) for life in lives]
            for one in found:
                self._check(key, one, before, alone=clients == 1)
                if kill_at and not one and verb in ("check", "start"):
                    # What is not kept for a later call is lost with its process.
                    self.allowed[key] += self.service.answered
            self._check_works()
            return found

    def _want(self, key: str, verb: str, name: str, *, start_anew: bool, clients: int) -> None:
        """Count what is wanted: each start is one more, of a commit there is one ever, of all else one for two."""
        is_open = key in self.open
        self.open[key] = (verb, name)
        if start_anew:
            self.allowed[key] += clients
        elif verb in ("check", "start"):
            self.allowed[key] += clients - is_open
        elif not (is_open or (verb == "commit" and self.allowed[key])):
            self.allowed[key] += 1

    def _read(self, life: Life) -> dict[str, Any]:
        """Return what the client reported; nothing if it was killed before."""
        assert life.code in (0, -signal.SIGKILL), (life.code, life.lines)
        assert not any(CANARY in line for line in life.lines), life.lines
        results = [line.removeprefix("result ") for line in life.lines if line.startswith("result ")]
        assert results or life.code, life.lines
        found: dict[str, Any] = json.loads(results[0]) if results else {}
        self.ground.ends[found.get("error", "well" if found else "killed")] += 1
        return found

    def _check(self, key: str, found: dict[str, Any], before: set[str], *, alone: bool) -> None:
        """Compare what the client reported with what was done."""
        verb = key.partition(" ")[0]
        if "run" in found:
            run = self.service.runs[found["run"]]
            assert key in (run.key, f"commit {run.guid}"), f"{run} is reported for {key}"
            assert run.guid not in before or verb == "commit", f"{run} is reported a second time for {key}"
            assert run.commit in (None, verb != "check"), f"{run} is reported for {key}"
            self._close(key, run.guid)
        elif alone and "Nothing was" in found.get("text", ""):
            assert not self.service.changes[key], found
        elif not found:
            for guid in self._finished() - before:
                if self.service.runs[guid].key == key:
                    self._close(key, guid)

    def _close(self, key: str, guid: str) -> None:
        self.open.pop(key, None)
        self.reported.setdefault(key, set()).add(guid)

    def _finished(self) -> set[str]:
        """Return the runs whose results were all downloaded: a client that is killed then cannot say so any more."""
        files = [load_records(path.read_bytes()) for path in (self.root / "state" / "requests").glob("*.json")]
        records = [record for file in files for record in file.records.values()]
        over = {record.result for record in records if record.state == "over" and record.result}
        here = {path.parent.name.partition("~")[0] for path in self.root.glob("*/arena/*/*/*/*") if path.is_file()}
        return over & here

    def _check_works(self) -> None:
        service = self.service
        for key, works in service.works.items():
            assert works <= self.allowed[key] + service.excused[key], f"{key} was done {works} times"
        assert all(count <= 4 for count in service.changes.values()), service.changes
        for run in service.runs.values():
            assert run.committed <= max(1, self.allowed[f"commit {run.guid}"]), run
        assert service.wrong == []

    # What holds, whatever happens

    @invariant()
    def nothing_secret_is_kept(self) -> None:
        with self.ground.witnessed():
            for path in self.root.rglob("*"):
                assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path

    def teardown(self) -> None:
        """Let everything be well again: each command that is not done is given once more, and then anew."""
        with self.ground.witnessed():
            self._recover()
        shutil.rmtree(self.root)

    def _recover(self) -> None:
        for troubles in (self.service.troubles, self.service.look_troubles, self.service.hidden):
            troubles.clear()
        self.service.time.pass_by(4000)
        for key, (verb, name) in list(self.open.items()):
            (found,) = self.live(verb, name)
            if "error" in found:
                assert found["error"] == "NotAsRequestedError" or "start_anew=True" in found["text"], found
                self.service.time.pass_by(LONG)
                (found,) = self.live(verb, name, start_anew=True)
            assert "run" in found, (key, found)


def play_sending(ground: Sending, number: int, *, schedules: int, shrink: bool = False) -> None:
    """
    Play schedules; the same number gives the same ones.

    Args:
        ground: Where.
        number: What they are made from.
        schedules: How many.
        shrink: Whether a broken promise is followed by a search for a shorter schedule that breaks it.
    """
    machine = type("Machine", (SendingMachine,), {"ground": ground})
    how = settings(
        max_examples=schedules,
        stateful_step_count=12,
        deadline=None,
        database=None,
        derandomize=False,
        phases=(Phase.generate, *((Phase.shrink,) if shrink else ())),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        print_blob=False,
    )
    run_state_machine_as_test(seed(number)(machine), settings=how)
