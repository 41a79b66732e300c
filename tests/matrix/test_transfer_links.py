"""Rows TR26 to TR31: signed links that are over, refused, or lead to something else than before."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import attrs
import pytest
from centrepoint_scripts import LISTING, listed_row, script_rows
from filesets import content
from matrix import World, case, row
from scripted import RawServer, reply
from services import CentrePointScript
from session_files import ETAG, Hours, download, ranged, remote, session_files

from arena_async.errors import PermissionDeniedError
from arena_async.options import Clock
from arena_async.protocol.files import FileSet, RemoteFile
from arena_async.transfer.models import Action

BODY = gzip.compress(content(150_000), mtime=0)
NEW = gzip.compress(content(160_000, "new"), mtime=0)
CUT = 100_000
PLACE = "centrepoint/study-234/program-5b342a11-2fb9-4ad9-a7be-4d410181f51c/subject-10821/activitydaily8.csv.gz"


def refusal(code: str) -> Any:
    """Refuse as the storage does, with a text that may say too much."""
    words = (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Signature did not match: canarySig</Message></Error>"
    )
    return reply(403, body=words.encode(), headers={"x-ms-error-code": code})


OVER = refusal("AuthenticationFailed")


class Listed:
    """A set that was listed a while ago."""

    def __init__(self, files: FileSet, rows: list[RemoteFile]) -> None:
        self.files, self.rows = files, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self.files, name)

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        for file in self.rows:
            yield file


class Links:
    """Links to one blob on a host, a new one each time."""

    def __init__(self, world: World, host: RawServer, place: str = "/blob.csv.gz") -> None:
        self.world, self.host, self.place, self.made = world, host, place, 0

    def row(self, **changes: Any) -> dict[str, Any]:
        """List the file with a new link."""
        self.made += 1
        return listed_row(f"{self.host.base_url}{self.place}?n={self.made}&sig={self.world.secrets['sig']}", **changes)

    def requested(self) -> list[tuple[str, str | None]]:
        """Return the number of the link and the range of each request."""
        return [(seen.query.partition("&")[0], seen.header("Range")) for seen in self.host.requests]


@row("TR26", protection="a link that is over is renewed by listing")
async def test_a_link_that_is_over_already_is_renewed_by_one_listing(world: World) -> None:
    """TR26: the dead link is asked once, the list once more, the new link once."""
    final = world.allow(PLACE, BODY)
    async with RawServer() as api, RawServer() as host:
        links = Links(world, host)
        service = CentrePointScript(world, api)
        script_rows(service, links.row(), then=[lambda: [links.row()]])
        host.on("GET", "/blob.csv.gz", OVER, ranged(BODY))
        async with service.client() as client:
            report = await download(world, client.datasets.files(234))

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert links.requested() == [("n=1", None), ("n=2", None)]
    assert len(api.lines(LISTING)) == 2


@row("TR27", protection="what came outlives its link")
async def test_a_link_that_ends_between_two_resumes_costs_no_byte(world: World) -> None:
    """TR27: the new link leads to the same blob with the same ETag; only the rest is asked for."""
    final = world.allow(PLACE, BODY)
    async with RawServer() as api, RawServer() as host:
        links = Links(world, host)
        service = CentrePointScript(world, api)
        script_rows(service, links.row(), then=[lambda: [links.row()]])
        host.on("GET", "/blob.csv.gz", reply(body=BODY, headers=ETAG, cut=CUT), OVER, ranged(BODY))
        async with service.client() as client:
            report = await download(world, client.datasets.files(234))

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert links.requested() == [("n=1", None), ("n=1", f"bytes={CUT}-"), ("n=2", f"bytes={CUT}-")]
    assert report.bytes_written == len(BODY)
    assert len(api.lines(LISTING)) == 2


@row("TR27", protection="what came outlives its link")
async def test_a_link_that_ends_between_two_runs_costs_no_byte(world: World) -> None:
    """TR27: the first run fails with its link; the second one has a new link and goes on where the first one was."""
    final = world.allow(PLACE, BODY)
    async with RawServer() as api, RawServer() as host:
        links = Links(world, host)
        service = CentrePointScript(world, api)
        script_rows(service, links.row(), then=[lambda: [links.row()]])
        host.on("GET", "/blob.csv.gz", reply(body=BODY, headers=ETAG, cut=CUT), *[OVER] * 4, ranged(BODY))
        async with service.client() as client:
            first = await download(world, client.datasets.files(234), remember=True, flush_unit=1)
            second = await download(world, client.datasets.files(234), remember=True)

    assert len(first.failures) == 1
    assert second.counts[Action.RESUME] == 1
    assert final.read_bytes() == BODY
    assert links.requested()[-1] == ("n=5", f"bytes={CUT}-")


@row("TR28", protection="a refused link is renewed once")
@pytest.mark.parametrize(
    "code", ["AuthorizationPermissionMismatch", "AuthorizationSourceIPMismatch", "AuthorizationServiceMismatch"]
)
async def test_a_link_that_is_refused_for_another_reason_is_renewed_once(world: World, code: str) -> None:
    """TR28: a fresh link is refused too, so that it is no matter of time; nothing goes round in circles."""
    world.allow(PLACE)
    async with RawServer() as api, RawServer() as host:
        links = Links(world, host)
        service = CentrePointScript(world, api)
        script_rows(service, links.row(), then=[lambda: [links.row()]])
        host.on("GET", "/blob.csv.gz", refusal(code))
        async with service.client() as client:
            report = await download(world, client.datasets.files(234))

    assert isinstance(report.outcomes[0].error, PermissionDeniedError)
    assert links.requested() == [("n=1", None), ("n=2", None)]
    assert len(api.lines(LISTING)) == 2


@row("TR77", protection="a link that is withdrawn again is renewed again")
async def test_a_link_that_is_withdrawn_twice_is_renewed_twice(world: World) -> None:
    """TR77: before a byte came between the two; the links of its page are good, as another file shows."""
    finals = [world.allow(PLACE.replace("10821", subject), BODY) for subject in ("1", "2")]
    withdrawn, number = refusal("AuthorizationServiceMismatch"), re.compile(r"n=(\d+)")
    async with RawServer() as api, RawServer() as host:
        links = Links(world, host)
        service = CentrePointScript(world, api)
        page = lambda: [links.row(subjectId=subject) for subject in (1, 2)]  # noqa: E731
        script_rows(service, *page(), then=[page])
        answers = {1: [withdrawn], 3: [reply(503), withdrawn], 5: [ranged(BODY)], 4: [ranged(BODY)]}

        def serve(seen: Any) -> Any:
            found = answers[int(number.findall(seen.query)[0])].pop(0)
            return found(seen) if callable(found) else found

        host.on("GET", "/blob.csv.gz", serve)
        async with service.client() as client:
            report = await download(world, client.datasets.files(234), workers=1)

    assert report.failures == ()
    assert [final.read_bytes() for final in finals] == [BODY] * 2
    assert [name for name, _ in links.requested()] == ["n=1", "n=3", "n=4", "n=3", "n=5"]
    assert len(api.lines(LISTING)) == 3


@row("TR28", protection="the files of a page go by its newest links")
async def test_links_that_are_withdrawn_before_their_end_are_not_tried_one_after_the_other(world: World) -> None:
    """TR28: each worker meets one at the most; the page is listed again once, and the new links serve all its files."""
    subjects = range(1, 41)
    for subject in subjects:
        world.allow(PLACE.replace("10821", str(subject)), BODY)
    async with RawServer() as api, RawServer() as host:
        links = Links(world, host)
        service = CentrePointScript(world, api)
        page = lambda: [links.row(subjectId=subject) for subject in subjects]  # noqa: E731
        script_rows(service, *page(), then=[page])
        withdrawn, good = refusal("AuthorizationServiceMismatch"), ranged(BODY)
        number = re.compile(r"n=(\d+)")
        host.on(
            "GET", "/blob.csv.gz", lambda seen: withdrawn if int(number.findall(seen.query)[0]) <= 40 else good(seen)
        )
        async with service.client() as client:
            report = await download(world, client.datasets.files(234))

    assert report.failures == ()
    requested = links.requested()
    assert len(requested) == len(set(requested)) <= 40 + 2
    assert len(api.lines(LISTING)) == 2


@row("TR29", protection="a fresh entry of another content begins anew")
@pytest.mark.parametrize(
    "changes",
    [{"fileName": "10821_new.csv.gz"}, {"modifiedDate": "2024-06-05T10:00:00.1Z"}],
    ids=["name", "date"],
)
async def test_a_fresh_entry_of_another_version_is_never_spliced(world: World, changes: dict[str, str]) -> None:
    """TR29: the new link is for what a later run of the program has made, though the host gives both one ETag."""
    final = world.allow(PLACE, NEW)
    async with RawServer() as api, RawServer() as host:
        links = Links(world, host)
        service = CentrePointScript(world, api)
        script_rows(service, links.row(), then=[lambda: [links.row(**changes)]])
        host.on("GET", "/blob.csv.gz", reply(body=BODY, headers=ETAG, cut=CUT), OVER, ranged(NEW))
        async with service.client() as client:
            report = await download(world, client.datasets.files(234))

    assert report.failures == ()
    assert final.read_bytes() == NEW
    assert [wanted for _, wanted in links.requested()] == [None, f"bytes={CUT}-", None]
    assert len({link for link, _ in links.requested()}) == 2
    # A version of another name is looked for beyond its old page.
    assert len(api.lines(LISTING)) <= 3


@row("TR29", protection="a fresh entry of another content begins anew")
async def test_a_fresh_entry_of_another_size_is_never_spliced(world: World) -> None:
    """TR29: where the listing knows sizes, another one is another file, whatever its change mark says."""
    final = world.allow("files/a.csv.gz", NEW)
    old = remote("a", extension=".csv.gz", size=len(BODY))
    numbered = lambda row, looked_up: f"/{row.stem}?n={looked_up}"  # noqa: E731
    async with RawServer() as server, session_files(world, server, old, link=numbered) as files:
        files.fresh[old.key] = attrs.evolve(old, size=len(NEW))
        server.on("GET", "/a", reply(body=BODY, headers=ETAG, cut=CUT), OVER, ranged(NEW))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == NEW
    assert [seen.header("Range") for seen in server.requests] == [None, f"bytes={CUT}-", None]


def ends(hours: Hours, *, se: float, announced: float | None) -> dict[str, Any]:
    """Write the two ends of a link, in minutes from now by the clock of the service."""
    at = hours.now() + timedelta(minutes=se)
    reported = (hours.now() + timedelta(minutes=announced)).isoformat() if announced is not None else None
    return {"se": at.strftime("%Y-%m-%dT%H%%3A%M%%3A%SZ"), "downloadUrlExpiresOn": reported}


class Clocked(Links):
    """A service and a file host that go by their own clock, and links that say when they end."""

    def __init__(self, world: World, host: RawServer, hours: Hours, *, se: float, announced: float | None) -> None:
        super().__init__(world, host)
        self.hours, self.se, self.announced = hours, se, announced
        #: When each link ends by the host, in seconds.
        self.end = 0.0

    def row(self, **changes: Any) -> dict[str, Any]:
        """List the file with a link that the host honours until the earlier of its ends."""
        said = ends(self.hours, se=self.se, announced=self.announced)
        self.end = self.hours.passed + 60 * min(self.se, self.announced or self.se)
        made = super().row(downloadUrlExpiresOn=said["downloadUrlExpiresOn"], **changes)
        return made | {"fileUrl": f"{made['fileUrl']}&se={said['se']}"}

    def date(self) -> dict[str, str]:
        """Return what time it is here."""
        return {"Date": format_datetime(self.hours.now(), usegmt=True)}


@row("TR31", protection="the earlier end of a link counts")
@pytest.mark.parametrize(
    ("se", "announced"), [(240, 20), (20, 240), case(20, None, protection="a link is not used in its last minute")]
)
@pytest.mark.parametrize(
    ("minutes", "renewed"),
    [case(18.5, False, protection="a link is used until shortly before its end"), (19.5, True), (21, True)],
)
async def test_the_earlier_end_of_a_link_counts_and_a_margin_before_it(
    world: World, se: float, announced: float | None, minutes: float, renewed: bool
) -> None:
    """TR31: a minute before the earlier of its two ends a link is renewed, and not tried in vain."""
    final = world.allow(PLACE, BODY)
    hours = Hours()
    async with RawServer() as api, RawServer() as host:
        links = Clocked(world, host, hours, se=se, announced=announced)
        service = CentrePointScript(world, api)
        script_rows(service, links.row(), then=[lambda: [links.row()]], headers=links.date)
        host.on("GET", "/blob.csv.gz", lambda seen: ranged(BODY)(seen) if hours.passed < links.end else OVER)
        async with service.client() as client:
            client.session._exchange.clock = Clock(now=hours.now)
            files = client.datasets.files(234)
            listed = [file async for file in files]
            hours.passed += 60 * minutes
            report = await download(world, Listed(files, listed), hours=hours)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert [link for link, _ in links.requested()] == ["n=2" if renewed else "n=1"]
    assert len(api.lines(LISTING)) == 1 + renewed


@row("TR31", protection="the time of the service is told by its answers")
@pytest.mark.parametrize(
    ("off", "minutes", "renewed"),
    [
        case(-10, 18.5, False, protection="a link is used until shortly before its end"),
        (10, 18.5, False),
        case(-600, 18.5, False, protection="a link is used until shortly before its end"),
        (-10, 19.5, True),
        case(10, 19.5, True, protection="a link is not used in its last minute"),
        (-600, 19.5, True),
    ],
)
async def test_a_clock_of_ours_that_is_wrong_costs_no_request(
    world: World, off: float, minutes: float, renewed: bool
) -> None:
    """TR31: our clock is minutes off; by the ``Date`` of answers it is neither renewed early nor tried late."""
    final = world.allow(PLACE, BODY)
    hours = Hours()
    async with RawServer() as api, RawServer() as host:
        links = Clocked(world, host, hours, se=20, announced=20)
        service = CentrePointScript(world, api)
        script_rows(service, links.row(), then=[lambda: [links.row()]], headers=links.date)
        host.on("GET", "/blob.csv.gz", lambda seen: ranged(BODY)(seen) if hours.passed < links.end else OVER)
        async with service.client() as client:
            client.session._exchange.clock = Clock(now=lambda: hours.now() + timedelta(minutes=off))
            files = client.datasets.files(234)
            listed = [file async for file in files]
            hours.passed += 60 * minutes
            report = await download(world, Listed(files, listed), hours=hours)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert [link for link, _ in links.requested()] == ["n=2" if renewed else "n=1"]
    assert len(api.lines(LISTING)) == 1 + renewed
