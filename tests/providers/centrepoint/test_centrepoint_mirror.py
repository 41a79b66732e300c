"""A study downloaded: listing, links, content and the second run, over real sockets."""

from __future__ import annotations

from pathlib import Path

from studies import is_whole

from arena_async import Action, Mirror
from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials
from arena_async.testing import faults
from arena_async.testing.centrepoint.simulator import CentrePointSimulator


def client_of(simulator: CentrePointSimulator) -> CentrePointClient:
    """Return a client for a simulator."""
    credentials = CentrePointCredentials(simulator.client_id, simulator.client_secret)
    return CentrePointClient(credentials, base_url=simulator.base_url, auth_url=simulator.auth_url)


async def test_a_study_is_brought_home_once_and_kept_equal(tmp_path: Path) -> None:
    """Names that collide are no matter; a second run costs the listing; a third fetches what changed."""
    async with CentrePointSimulator(subjects=30, data_sets=2, file_size=400) as simulator:
        async with client_of(simulator) as client, Mirror(tmp_path) as mirror:
            first = await mirror.sync(client.datasets.files(234))
            assert first.counts[Action.FETCH] == 120
            first.raise_for_failures()
            assert is_whole(simulator, tmp_path)
            assert {outcome.verified_by for outcome in first.outcomes} == {"md5"}
            simulator.clear()
            second = await mirror.sync(client.datasets.files(234))
            assert (second.counts[Action.KEEP], second.requests) == (120, 2)
            assert [seen.listener for seen in simulator.log] == ["api", "api"]
            for key in simulator.files[:3]:
                simulator.change_file(key)
            third = await mirror.sync(client.datasets.files(234))
            assert (third.counts[Action.REFRESH], third.counts[Action.KEEP]) == (3, 117)

        assert is_whole(simulator, tmp_path)
        assert simulator.breaches == []


async def test_links_that_end_in_the_middle_are_renewed(tmp_path: Path) -> None:
    """Every file arrives, and no dead link is requested twice."""
    async with CentrePointSimulator(subjects=5, file_size=400) as simulator:
        simulator.inject(faults.expire_links(), on="GET *datasetexports*", after=7)
        async with client_of(simulator) as client, Mirror(tmp_path) as mirror:
            report = await mirror.sync(client.datasets.files(234))

        report.raise_for_failures()
        assert is_whole(simulator, tmp_path)
        dead = [seen.target for seen in simulator.seen("GET *", listener="files") if seen.status == 403]
        assert len(dead) == len(set(dead)) > 0
