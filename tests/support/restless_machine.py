"""
A client and a restless service, in any order that hypothesis can think of.

The rules are what may happen; what is checked after each of them are the promises:

1. Under a final name lies nothing or a whole version, whenever the service is asked for something and after each end.
2. What is here and the same is not fetched again; at the end the folder is what the service lists, and nothing else.
3. The requests the service counts are those that the client booked, and never more than it may spend; where nothing
   goes wrong, there is one for each page of the listing, one for the login and one for each file that is missing.
4. One login for a life, and one more for each session that ended.
5. No secret is in a line or a file of the client, and none is sent to another origin.
6. One partial file and one record for a file at the most, and none when everything is done.
7. What is told to be verified is verified; what was damaged on the way has no name.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import signal
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from lives import Life, Lives
from offered_files import age
from restless import CANARY, PAGE, PAGE_TROUBLES, RESERVE, TROUBLES, Service, state_files

__all__ = ["SCENARIOS", "Playground", "RestlessMachine", "machine", "play", "play_to_a_step", "playground"]

T = TypeVar("T")

NAMES = tuple("abcdefg")
SIZES = (0, 10, 70_000, 150_000, 200_000)
#: About so many steps does a life take that finds nothing to do, and so many more for each file that it brings home.
STEPS, STEPS_FOR_A_FILE = 45, 30

_steps = st.integers(0, 1000)
_bytes = st.integers(0, 400_000)
_workers = st.integers(1, 3)
_files = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(SIZES), st.booleans(), st.booleans()), min_size=1, max_size=5
)


class Playground:
    """
    A running service and a process with many lives, on an event loop of their own.

    Attributes:
        schedules: Schedules that were begun.
        ends: Lives that were lived, by how they ended.
        broken: What was seen where a promise did not hold, the first time first. Hypothesis plays such a schedule once
            more, and where it goes well then, tells nothing but that.
    """

    def __init__(self, directory: Path, loop: asyncio.AbstractEventLoop, service: Service, lives: Lives) -> None:
        self.directory = directory
        self.service = service
        self.schedules = 0
        self.ends: Counter[str] = Counter()
        self.broken: list[str] = []
        self._loop = loop
        self._lives = lives

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something on the loop, to its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)

    def live(self, root: Path, **settings: Any) -> Life:
        """Let one life of the client pass, and the service read what it left on the way."""

        async def live() -> Life:
            life = await self._lives.live(to=str(root), base_url=self.service.api.base_url, **settings)
            await self.service.settle()
            return life

        return self.run(live())

    @contextlib.contextmanager
    def witnessed(self) -> Iterator[None]:
        """Keep what is raised."""
        try:
            yield
        except Exception as error:
            self.broken.append("".join(traceback.format_exception(error)))
            raise


@contextlib.contextmanager
def playground(directory: Path) -> Iterator[Playground]:
    """Start everything, and end it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="playground")
    thread.start()

    def run(awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), loop).result(30)

    try:
        with contextlib.ExitStack() as stack:
            service, lives = Service(), Lives("restless")
            for each in (service, lives):
                run(each.__aenter__())
                stack.callback(lambda each=each: run(each.__aexit__(None, None, None)))
            yield Playground(directory, loop, service, lives)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class RestlessMachine(RuleBasedStateMachine):
    """
    What may happen, and what holds whatever happens. A subclass has its ``ground``.

    No rule has a precondition: what a life leaves behind is a matter of luck too, and hypothesis wants to draw the same
    again when it plays a schedule again. A rule that needs something to do sees to it.
    """

    ground: ClassVar[Playground]

    def __init__(self) -> None:
        super().__init__()
        self.ground.schedules += 1
        self.service = self.ground.service
        self.root = Path(tempfile.mkdtemp(dir=self.ground.directory))
        self.service.begin(self.root)
        #: Names whose content may be newer than the listing that the client saw.
        self.muddled: set[str] = set()

    # What may happen

    @initialize(files=_files)
    def list_the_first_files(self, files: list[tuple[str, int, bool, bool]]) -> None:
        self.list_files_or_other_versions(files=files)

    @rule(files=_files)
    def list_files_or_other_versions(self, files: list[tuple[str, int, bool, bool]]) -> None:
        for name, size, linked, declared in files:
            self.service.offer(name, size, linked=linked, declared=declared)

    @rule(number=st.integers(0, 6))
    def withdraw_a_file(self, number: int) -> None:
        offers = list(self.service.offers.values())
        offers[number % len(offers)].listed = False

    @rule(number=st.integers(0, 6))
    def lose_a_file(self, number: int) -> None:
        for name in sorted(self.service.seen_whole)[number : number + 1]:
            (self.root / "files" / f"{name}.bin").unlink()
            self.service.forget(name)

    @rule(
        troubles=st.lists(
            st.tuples(st.sampled_from(TROUBLES), st.sampled_from((0, 1, 65_536, 140_000))), min_size=1, max_size=4
        )
    )
    def prepare_troubles(self, troubles: list[tuple[str, int]]) -> None:
        self._have_something_to_do()
        self.service.troubles.extend(troubles)

    @rule(trouble=st.sampled_from(PAGE_TROUBLES))
    def prepare_trouble_with_a_page(self, trouble: str) -> None:
        self.service.page_troubles.append(trouble)

    @rule(left=st.integers(0, 12))
    def let_others_spend(self, left: int) -> None:
        self.service.remaining = min(left, self.service.remaining)

    @rule()
    def begin_a_new_day(self) -> None:
        self.service.remaining = 100

    @rule(workers=_workers)
    def sync(self, workers: int) -> None:
        self.live(workers=workers)

    @rule(workers=_workers)
    def sync_and_prune(self, workers: int) -> None:
        self.live(workers=workers, prune=True)

    @rule(workers=_workers, step=_steps)
    def sync_and_be_killed_at_a_step(self, workers: int, step: int) -> None:
        self.live(workers=workers, kill_at=self._some(step))

    @rule(workers=_workers, count=_bytes)
    def sync_and_be_killed_at_a_byte(self, workers: int, count: int) -> None:
        self.live(workers=workers, kill_after=1 + self._some_bytes(count))

    @rule(workers=_workers, step=_steps)
    def sync_and_be_cancelled(self, workers: int, step: int) -> None:
        self.live(workers=workers, cancel_at=self._some(step))

    @rule(workers=_workers, room=_bytes)
    def sync_on_a_disk_that_fills_up(self, workers: int, room: int) -> None:
        self.live(workers=workers, room=self._some_bytes(room))

    def _have_something_to_do(self) -> None:
        if not self.service.due():
            offer = next(iter(self.service.offers.values()))
            self.service.offer(offer.name, 70_000, linked=offer.linked, declared=offer.declared)

    def _some(self, step: int) -> int:
        """Return a step that the next life will come to, very likely, and see that it has something to do."""
        self._have_something_to_do()
        return 1 + step % (STEPS + STEPS_FOR_A_FILE * len(self.service.due()))

    def _some_bytes(self, count: int) -> int:
        """Return a number of bytes that the next life will want to write, and see that it has something to do."""
        self._have_something_to_do()
        return count % max(1, sum(offer.size for offer in self.service.due()))

    def live(self, **settings: Any) -> Life:
        """Let the client live once, and check what it did."""
        with self.ground.witnessed():
            return self._live(settings)

    def _live(self, settings: dict[str, Any]) -> Life:
        service = self.service
        age(self.root)
        service.new_life()
        service.vanishing = {offer.name for offer in service.offers.values() if not offer.listed}
        service.vanishing &= set(service.offers if settings.get("prune") else ())
        here, begun, may_spend = self._here(), self._begun(), max(1, service.remaining - RESERVE)
        stalls = any(trouble == "stall" for trouble, _ in service.troubles)
        calm = not (service.troubles or service.page_troubles or settings.keys() & {"cancel_at", "room"})
        life = self.ground.live(self.root, patience=0.2 if stalls else 30, **settings)
        service.look()
        service.vanishing = set()

        self.ground.ends[_end(life)] += 1
        killed = life.code == -signal.SIGKILL and bool(settings.keys() & {"kill_at", "kill_after"})
        assert killed or life.code == 0, (life.code, life.lines)
        assert not any(CANARY in line for line in life.lines), life.lines
        self.muddled |= service.changed
        self._check_requests(here, may_spend)
        if not killed:
            self._check_report(life.report)
            if calm and life.report["error"] == "":
                self._check_thrift(here, begun)
                self._check_pruned(settings)
                self.muddled.clear()
        return life

    def _here(self) -> set[str]:
        """Name what lies here as it is listed; an empty file looks the same in every version."""
        return {
            offer.name
            for offer in self.service.offers.values()
            if offer.listed and offer.size and self.service.seen_whole.get(offer.name) == offer.body
        }

    def _begun(self) -> set[str]:
        """Name what is here in part; it may turn out to be of another version, for a request."""
        parts = {path.name.partition("-")[0] for path in (self.root / ".arena-async" / "partial").glob("*-*.json")}
        return {name for name in NAMES if sha256(f"test/{name}".encode()).hexdigest()[:32] in parts}

    def _check_requests(self, here: set[str], may_spend: int) -> None:
        service = self.service
        fetched_again = {name for name in service.requested if name in here and name not in self.muddled}
        assert not fetched_again, f"{fetched_again} were here and were asked for again"
        assert service.metered <= may_spend, f"{service.metered} requests were sent, {may_spend} were allowed"
        assert service.logins <= 1 + service.expiries

    def _check_report(self, report: dict[str, Any]) -> None:
        assert report["requests"] == self.service.metered, (report, self.service.metered)
        for name, action, error, verified_by, _ in report["outcomes"]:
            if action in ("fetch", "resume", "refresh") and not error:
                assert verified_by == ("md5" if self.service.offers[name].declared else "length")

    def _check_thrift(self, here: set[str], begun: set[str]) -> None:
        """Check what it cost where nothing went wrong."""
        listed = [offer for offer in self.service.offers.values() if offer.listed]
        requested = self.service.requested
        assert all(count <= 1 + (name in begun) for name, count in requested.items()), requested
        metered = sum(count for name, count in requested.items() if not self.service.offers[name].linked)
        pages = max(1, math.ceil(len(listed) / PAGE))
        assert (self.service.metered, self.service.logins) == (pages + metered, 1)
        assert not here & requested.keys()

    def _check_pruned(self, settings: dict[str, Any]) -> None:
        listed = {offer.name for offer in self.service.offers.values() if offer.listed}
        if settings.get("prune") and listed:
            assert self.service.seen_whole.keys() <= listed

    # What holds, whatever happens

    @invariant()
    def final_names_are_whole(self) -> None:
        self.service.look()
        with self.ground.witnessed():
            assert self.service.wrong == []

    @invariant()
    def nothing_secret_is_kept(self) -> None:
        with self.ground.witnessed():
            for name, content in state_files(self.root).items():
                assert CANARY.encode() not in content, name

    @invariant()
    def each_file_has_one_partial_file_at_the_most(self) -> None:
        names = [path.name for path in (self.root / ".arena-async" / "partial").glob("*-*.*")]
        kinds = Counter((name.partition("-")[0], name.rpartition(".")[2]) for name in names)
        with self.ground.witnessed():
            assert all(count == 1 for count in kinds.values()), names

    def teardown(self) -> None:
        """Let everything be well again: two lives more, and the folder is what the service lists."""
        with self.ground.witnessed():
            self._recover()
        shutil.rmtree(self.root)

    def _recover(self) -> None:
        service = self.service
        service.troubles.clear()
        service.page_troubles.clear()
        service.remaining = 100
        first = self.live(workers=2).report
        self.final_names_are_whole()
        second = self.live(workers=2).report
        assert [row for row in first["outcomes"] if row[2]] == []
        assert not service.requested, service.requested
        refused = {row[0] for row in second["outcomes"] if row[1] == "skip"}
        expected = {
            each.name: each.body for each in service.offers.values() if each.listed and each.name not in refused
        }
        found = {path.stem: path.read_bytes() for path in (self.root / "files").glob("*")}
        assert {name: found.get(name) for name in expected} == expected
        assert found.keys() <= service.offers.keys()
        assert self._begun().isdisjoint(expected)


def _end(life: Life) -> str:
    """Return in a word or two how a life ended."""
    if life.code:
        return "killed"
    report = life.report
    failed = sorted({row[2] for row in report["outcomes"] if row[2]})
    if report["error"] == "CancelledError":
        return "cancelled"
    return report["error"] or (f"with {failed[0]}" if failed else "well")


# --- two ways to play -------------------------------------------------------------------------------------------------


def machine(ground: Playground) -> type[RestlessMachine]:
    """Return the machine that plays on some ground."""
    return type("Machine", (RestlessMachine,), {"ground": ground})


def play(ground: Playground, number: int, *, schedules: int, shrink: bool = False) -> None:
    """
    Play schedules; the same number gives the same ones.

    Args:
        ground: Where.
        number: What they are made from.
        schedules: How many.
        shrink: Whether a broken promise is followed by a search for a shorter schedule that breaks it.
    """
    phases = (Phase.generate, *((Phase.shrink,) if shrink else ()))
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    how = settings(
        max_examples=schedules,
        stateful_step_count=12,
        deadline=None,
        database=None,
        derandomize=False,
        phases=phases,
        suppress_health_check=checks,
        print_blob=False,
    )
    run_state_machine_as_test(seed(number)(machine(ground)), settings=how)


def _fresh(player: RestlessMachine) -> None:
    player.list_files_or_other_versions(
        files=[("a", 150_000, True, True), ("b", 70_000, False, False), ("c", 0, False, True)]
    )


def _begun(player: RestlessMachine) -> None:
    _fresh(player)
    player.live(workers=1, kill_after=100_000)


def _replaced(player: RestlessMachine) -> None:
    _fresh(player)
    player.live(workers=2)
    player.list_files_or_other_versions(files=[("a", 70_000, True, True), ("d", 150_000, False, True)])
    player.withdraw_a_file(number=1)


#: Small folders to be stopped in, by what they are: each lists some files, and lives before if it has to.
SCENARIOS: dict[str, Callable[[RestlessMachine], None]] = {"fresh": _fresh, "begun": _begun, "replaced": _replaced}


def play_to_a_step(ground: Playground, scenario: str, how: str, step: int) -> bool:
    """
    Play one small folder up to a step, end the life there, and let everything be well again.

    Args:
        ground: Where.
        scenario: One of :data:`SCENARIOS`.
        how: How the life ends: ``kill_at`` or ``cancel_at``.
        step: Before which call to the file system, or statement of the ledger.

    Returns:
        Whether the life came to that step.
    """
    player = machine(ground)()
    SCENARIOS[scenario](player)
    life = player.live(workers=2, **{how: step})
    player.final_names_are_whole()
    player.nothing_secret_is_kept()
    player.each_file_has_one_partial_file_at_the_most()
    player.teardown()
    return bool(life.code) or life.report["steps"] >= step
