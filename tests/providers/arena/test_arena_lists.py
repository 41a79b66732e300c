"""Any list of the service: the same session and pages as everything else, and nothing but lists."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from arena_scripts import QUOTA, arena_client, page_reply
from scripted import RawServer, json_reply

from arena_async.errors import ApiError, ConfigurationError, QuotaExhaustedError
from arena_async.providers.arena import ArenaClient
from arena_async.testing import ArenaSimulator

REFUSED = json_reply({"status": 400, "errors": [{"code": 3200, "message": "No query parameters."}]}, 400, headers=QUOTA)


async def test_any_list_is_read_page_by_page_as_it_comes(server: RawServer, arena: ArenaClient) -> None:
    """With the session, the reason and the pages of every other list, and with the vendor's own words."""
    first, second = [{"guid": f"C{n}", "odd": {"x": n}} for n in range(400)], [{"guid": "C400", "odd": None}]
    server.on("GET", "/v1/changes", page_reply(*first), page_reply(first[-1], *second))

    since = datetime(2026, 5, 1, tzinfo=UTC)
    found = await arena.list(
        "/changes", creationDateTimeFrom=since, includeChildCategories=True, **{"owner.fullName": "O", "number": None}
    ).collect()

    assert found == first + second
    query = "creationDateTimeFrom=2026-05-01T00%3A00%3A00Z&includeChildCategories=true&owner.fullName=O"
    assert server.lines("GET *") == [
        f"GET /v1/changes?{query}&offset=0&limit=400",
        f"GET /v1/changes?{query}&offset=399&limit=400",
    ]
    assert server.requests[-1].header("arena_session_id") == "ML4nT3dS3ss10n1dOfAnArenaUser"
    assert arena.session.requests_sent == 2


@pytest.mark.parametrize(
    "path",
    [
        "/items/I/files",
        "/items/I/bom",
        "/files/F/editions",
        "/settings/recentactivities/apiusages",
        "/settings/recentactivities/apiusages/",
    ],
)
async def test_lists_that_are_known_to_come_whole_are_asked_for_without_pages(
    server: RawServer, arena: ArenaClient, path: str
) -> None:
    """Some of them refuse any query."""
    server.on("GET", f"/v1{path}", page_reply(*({"guid": str(number)} for number in range(20))))

    assert len(await arena.list(path).collect()) == 20
    assert server.lines("GET *") == [f"GET /v1{path}"]


async def test_a_list_that_refuses_pages_is_asked_for_whole(server: RawServer, arena: ArenaClient) -> None:
    """3200 costs one request more, and no row."""
    rows = [{"guid": str(number)} for number in range(420)]
    server.on("GET", "/v1/settings/users", REFUSED, page_reply(*rows))

    assert await arena.list("/settings/users").collect() == rows
    assert server.lines("GET *") == ["GET /v1/settings/users?offset=0&limit=400", "GET /v1/settings/users"]


async def test_a_whole_list_is_given_from_the_offset_that_was_asked_for(server: RawServer, arena: ArenaClient) -> None:
    """What lies before it is left out here."""
    server.on("GET", "/v1/settings/users", REFUSED, page_reply(*({"guid": str(number)} for number in range(20))))

    assert await arena.list("/settings/users", offset=18).collect() == [{"guid": "18"}, {"guid": "19"}]


async def test_a_list_that_refuses_everything_is_an_error(server: RawServer, arena: ArenaClient) -> None:
    """Asked twice, and no more."""
    server.on("GET", "/v1/settings/users", REFUSED)

    with pytest.raises(ApiError, match="takes no query at all"):
        await arena.list("/settings/users", name="x").collect()
    assert len(server.lines("GET *")) == 2


async def test_whether_a_list_has_pages_can_be_said(server: RawServer, arena: ArenaClient) -> None:
    """For those that nobody has described."""
    server.on("GET", "/v1/*", page_reply({"guid": "1"}))

    await arena.list("/odd", paged=False).collect()
    await arena.list("/items/I/bom", paged=True, limit=5).collect()

    assert server.lines("GET *") == ["GET /v1/odd", "GET /v1/items/I/bom?offset=0&limit=5"]


async def test_rows_without_a_guid_pass_through(server: RawServer, arena: ArenaClient) -> None:
    """PG12: nothing is taken for a repetition."""
    rows = [{"name": "same"}, {"name": "same"}, {"name": "other"}]
    server.on("GET", "/v1/settings/odd", page_reply(*rows))

    assert await arena.list("/settings/odd").collect() == rows


async def test_the_reserve_is_kept_for_any_list(server: RawServer) -> None:
    """QU03: the allowance is that of the client."""
    async with arena_client(server, quota_reserve=9000) as arena:
        server.on("GET", "/v1/changes", page_reply({"guid": "1"}))
        await arena.list("/changes").collect()
        with pytest.raises(QuotaExhaustedError):
            await arena.list("/changes").collect()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("changes", "no path below the base URL"),
        ("", "no path below the base URL"),
        ("https://evil.example.com/changes", "no path below the base URL"),
        ("//evil.example.com/changes", "a component that no list"),
        ("/", "a component that no list"),
        ("/changes/../login", "a component that no list"),
        ("/changes/./x", "a component that no list"),
        ("/changes?limit=1", "a component that no list"),
        ("/changes#x", "a component that no list"),
        ("/changes%2Fx", "a component that no list"),
        ("/changes\\x", "a component that no list"),
        ("/changes\r\nx", "a component that no list"),
        ("/changes//x", "a component that no list"),
        ("/changes/ x", "a component that no list"),
        ("/ch\u00e4nges", "a component that no list"),
        ("/files/F/content", "names content and no list"),
        ("/files/F/Content/", "names content and no list"),
        ("/files/F/watermarkcontent", "names content and no list"),
        ("/imports/I/runs/R/errorContent", "names content and no list"),
        ("/items/I/image/content", "names content and no list"),
        ("/login", "that of a session"),
        ("/Logout", "that of a session"),
    ],
)
async def test_a_path_that_leaves_the_api_or_names_content_is_refused(
    server: RawServer, arena: ArenaClient, path: str, said: str
) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match=said):
        arena.list(path)

    assert server.requests == []


@pytest.mark.parametrize("options", [{"since": datetime(2026, 5, 1)}, {"offset": -1}, {"limit": 401}])  # noqa: DTZ001
async def test_a_query_that_cannot_be_meant_is_refused(arena: ArenaClient, options: dict[str, Any]) -> None:
    """A date-time without a zone could be any hour; pages have their limits."""
    with pytest.raises(ConfigurationError):
        arena.list("/changes", **options)


async def test_who_spent_the_requests_can_be_asked() -> None:
    """Reference 3: by day, user and endpoint, in one request."""
    async with ArenaSimulator(files=1) as service, service.client() as arena:
        for _ in range(3):
            await arena.extracts.get(service.extract)
        rows = await arena.usages(date_from=datetime(2020, 1, 1, tzinfo=UTC)).collect()
        none = await arena.usages(date_to=datetime(2020, 1, 1, tzinfo=UTC)).collect()

    spent = {(row.method, row.endpoint): (row.count, row.who) for row in rows}
    assert spent["GET", "/extracts/<GUID>"] == (3, "Ida Integration")
    assert rows[0].user is not None
    assert (rows[0].resource, rows[0].user.email, rows[0].date is not None) == ("extracts", service.email, True)
    assert none == []
    assert str(service.seen("GET */apiusages")[0].query["dateTimeFrom"]) == "2020-01-01T00:00:00Z"
