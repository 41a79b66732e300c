"""
A client and a restless service, in any order that hypothesis can think of.

The rules are what may happen; what is checked after each of them are the promises:

1. Under a final name lies nothing or a whole version, whenever the service is asked for something and after each end.
2. What is here and the same is not fetched again, in a copy of the folder either, and no file by two runs at once.
   What is listed, and was not removed by a person, is here after each run in which nothing goes wrong: whatever lists
   lacked, whatever hosts did, and whenever a definition became visible before. At the end the folder is what the
   service lists, and nothing else.
3. The requests the service counts are those that the client booked, and never more than it may spend; where nothing
   goes wrong, there is one for each page of the listing, one for the login and one for each file that is missing.
4. One login for a life, and one more for each session that ended. No request during a pause that a host asked for.
5. No secret is in a line or a file of the client, and none is sent to another origin.
6. One partial file and one record for a file at the most, and none when everything is done.
7. What is told to be verified is verified; what was damaged on the way has no name. A response that nobody asked for
   is nowhere when the run has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import signal
import tempfile
import threading
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
from restless import CANARY, DEFINITIONS, PAGE, PAGE_TROUBLES, RESERVE, TROUBLES, Service, state_files
from torturing import Ground

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


class Playground(Ground):
    """A running service and a process with many lives, on an event loop of their own."""

    def __init__(
        self, directory: Path, loop: asyncio.AbstractEventLoop, service: Service, lives: tuple[Lives, Lives]
    ) -> None:
        self.directory = directory
        self.service = service
        super().__init__()
        self._loop = loop
        self._lives = lives

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something on the loop, to its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)

    def live(self, root: Path, *settings: dict[str, Any]) -> list[Life]:
        """Let one life of the client pass, or two at once, and the service read what they left on the way."""
        common = {"to": str(root), "base_url": self.service.api.base_url}

        async def live() -> list[Life]:
            each = [lives.live(**common, **own) for lives, own in zip(self._lives, settings, strict=False)]
            ended = await asyncio.gather(*each)
            await self.service.settle()
            return ended

        return self.run(live())


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
            service, lives = Service(), (Lives("restless"), Lives("restless"))
            for each in (service, *lives):
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
        #: Whether another query has listed some of the files: what its newest listing had is not removed by this one.
        self.queried_otherwise = False

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
        offers[number % len(offers)].withdrawn = True

    @rule()
    def let_a_definition_appear(self) -> None:
        self.service.visible = list(DEFINITIONS)

    @rule(keep_times=st.booleans())
    def go_on_in_a_copy(self, keep_times: bool) -> None:
        copy = Path(tempfile.mkdtemp(dir=self.ground.directory))
        shutil.copytree(self.root, copy, copy_function=shutil.copy2 if keep_times else shutil.copy, dirs_exist_ok=True)
        shutil.rmtree(self.root)
        self.root = self.service.root = copy

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

    @rule(troubles=st.lists(st.sampled_from(PAGE_TROUBLES), min_size=1, max_size=4))
    def prepare_troubles_with_pages(self, troubles: list[str]) -> None:
        self.service.page_troubles.extend(troubles)

    @rule(left=st.integers(0, 12))
    def let_others_spend(self, left: int) -> None:
        self.service.remaining = min(left, self.service.remaining)

    @rule()
    def begin_a_new_day(self) -> None:
        self.service.remaining = 100

    @rule(workers=_workers)
    def sync(self, workers: int) -> None:
        self.live(workers=workers)

    @rule(workers=_workers, prune=st.sampled_from((True, "force")))
    def sync_and_prune(self, workers: int, prune: bool | str) -> None:
        self.live(workers=workers, prune=prune)

    @rule(workers=_workers, at_once=st.lists(st.booleans(), min_size=1, max_size=3))
    def sync_with_responses_too_much(self, workers: int, at_once: list[bool]) -> None:
        self._have_something_to_do()
        self.service.troubles.extendleft(("surplus", each) for each in at_once)
        self.live(workers=workers)

    @rule(workers=_workers, times=st.integers(1, 3))
    def sync_with_hosts_that_are_out_of_order(self, workers: int, times: int) -> None:
        for offer in list(self.service.offers.values()):
            self.service.offer(offer.name, offer.size + 1, linked=offer.linked, declared=offer.declared)
        self.service.troubles.extendleft([("pause", 0)] * times)
        self.live(workers=workers)

    @rule(
        workers=_workers,
        other=st.fixed_dictionaries(
            {"workers": _workers}, optional={"only": st.just(DEFINITIONS[0]), "prune": st.just("force")}
        ),
        step=st.none() | _steps,
        first=st.booleans(),
    )
    def sync_twice_at_once(self, workers: int, other: dict[str, Any], step: int | None, first: bool) -> None:
        both = [{"workers": workers}, other]
        if step is not None:
            both[first]["kill_at"] = self._some(step)
        self.queried_otherwise |= "only" in other
        self.live_at_once(*both)

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
            (life,) = self._live(settings)
            return life

    def live_at_once(self, *both: dict[str, Any]) -> None:
        """Let two clients live at once in the same folder, and check what they did."""
        with self.ground.witnessed():
            self._live(*both)

    def _live(self, *all_settings: dict[str, Any]) -> list[Life]:
        service, alone = self.service, len(all_settings) == 1
        given = {name for settings in all_settings for name in settings}
        age(self.root)
        # Of two processes, none knows of the pause of the other one.
        service.new_life(workers=all_settings[0]["workers"] if alone else 1000, pruning="prune" in given)
        here, begun, may_spend = self._here(), self._begun(), max(1, service.remaining - RESERVE)
        troubles = {trouble for trouble, _ in service.troubles}
        service.out_of_step = "surplus" in troubles
        faults = bool(service.page_troubles or given & {"cancel_at", "room"})
        calm, patient = not (troubles or faults), not (troubles - {"pause"} or faults)
        patience = 0.2 if "stall" in troubles else 30
        lives = self.ground.live(self.root, *[{"patience": patience, **settings} for settings in all_settings])
        service.out_of_step = False
        service.look()
        service.pruning = False

        killed = False
        for life, given_to in zip(lives, all_settings, strict=True):
            self.ground.ends[_end(life)] += 1
            killed |= life.code == -signal.SIGKILL and bool(given_to.keys() & {"kill_at", "kill_after"})
            assert killed or life.code == 0, (life.code, life.lines)
            assert not any(CANARY in line for line in life.lines), life.lines
        # What came over a connection that was out of step is requested again, at the latest by the next life.
        self.muddled |= service.changed | (set(service.requested) if "surplus" in troubles else set())
        self._check_requests(here, may_spend if alone else service.metered, len(lives))
        if not killed:
            reports = [life.report for life in lives]
            self._check_reports(reports)
            went_through = not any(report["error"] for report in reports)
            if patient and went_through:
                self._check_whole(reports)
            if calm and went_through:
                self._check_thrift(here, begun, len(lives))
                if alone:
                    self._check_pruned(all_settings[0])
                self.muddled.clear()
        return lives

    def _here(self) -> set[str]:
        """Name what lies here as it is listed; an empty file looks the same in every version."""
        whole = self.service.seen_whole
        return {offer.name for offer in self.service.listed() if offer.size and whole.get(offer.name) == offer.body}

    def _begun(self) -> set[str]:
        """Name what is here in part; it may turn out to be of another version, for a request."""
        parts = {path.name.partition("-")[0] for path in (self.root / ".arena-async" / "partial").glob("*-*.json")}
        return {name for name in NAMES if sha256(f"test/{name}".encode()).hexdigest()[:32] in parts}

    def _check_requests(self, here: set[str], may_spend: int, lives: int) -> None:
        service = self.service
        fetched_again = {name for name in service.requested if name in here and name not in self.muddled}
        assert not fetched_again, f"{fetched_again} were here and were asked for again"
        assert service.metered <= may_spend, f"{service.metered} requests were sent, {may_spend} were allowed"
        assert service.logins <= lives * (1 + service.expiries)

    def _check_reports(self, reports: list[dict[str, Any]]) -> None:
        requests = sum(report["requests"] for report in reports)
        assert requests == self.service.metered, (reports, self.service.metered)
        for row in (row for report in reports for row in report["outcomes"]):
            name, action, error, verified_by, _ = row
            if action in ("fetch", "resume", "refresh") and not error:
                declared = self.service.offers[name].declared and name not in self.service.at_end
                assert verified_by == ("md5" if declared else "length"), row

    def _check_thrift(self, here: set[str], begun: set[str], lives: int) -> None:
        """Check what it cost where nothing went wrong."""
        service, requested = self.service, self.service.requested
        assert all(count <= 1 + (name in begun) for name, count in requested.items()), requested
        metered = sum(count for name, count in requested.items() if not service.offers[name].linked)
        pages = sum(len(starts) for starts in service.pages.values())
        assert (service.metered, service.logins) == (lives + pages + metered, lives)
        for rows, starts in service.pages.items():
            assert len(starts) <= lives * max(1, math.ceil(int(rows.rpartition(" ")[2]) / PAGE)), service.pages
        assert not here & requested.keys() - self.muddled

    def _check_whole(self, reports: list[dict[str, Any]]) -> None:
        """Check that nothing failed, and everything that is listed is here, unless it was refused for good before."""
        outcomes = [row for report in reports for row in report["outcomes"]]
        assert [row for row in outcomes if row[2]] == []
        refused = {name for name, action, *_ in outcomes if action == "skip"}
        lost = {offer.name for offer in self.service.due()} - refused
        assert not lost, f"{lost} are listed and not here, and no request failed"

    def _check_pruned(self, settings: dict[str, Any]) -> None:
        listed = {offer.name for offer in self.service.listed()}
        if settings.get("prune") and listed and not self.queried_otherwise:
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
        expected = {each.name: each.body for each in service.listed() if each.name not in refused}
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
