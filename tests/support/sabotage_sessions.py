"""How the protections of the rows about sessions, allowances and pages are removed."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import types
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import attrs
from sabotage import Always, Patch, protection

from arena_async.errors import DecodeError, TransportError
from arena_async.options import MIB
from arena_async.protocol.adapter import Credential
from arena_async.protocol.decoding import parse_json
from arena_async.protocol.messages import Secret
from arena_async.protocol.pagination import Page, Pagination, PaginationStep
from arena_async.protocol.quota import ClockReading, DailyQuota, Hold, Quota, Reservation, SlidingWindow

# --- logins -----------------------------------------------------------------------------------------------------------


@protection("one login serves everybody who waits")
def _(patch: Patch) -> None:
    patch.add("arena_async.http.login:SharedLogin._outcome", Always(None))


@protection("a rejection counts against the session it was sent with")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.http.login:SharedLogin.rejected")

    def whichever(self: Any, held: Any, error: Any) -> Any:
        return given(self, self._current or held, error)

    patch.replace("arena_async.http.login:SharedLogin.rejected", whichever)


@protection("a session that was rejected is not sent any more")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.login:CachedSession.refused", Always(False))


@protection("a refused login is not tried again for a while")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.login:SharedLogin._refuse_for_a_while", lambda _: None)


@protection("an account that is locked for five minutes is left alone for as long")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.error_codes:_LOCKED_FOR", timedelta(0))


@protection("a session id that cannot be sent is never sent")
def _(patch: Patch) -> None:
    def believing(_: Any, response: Any) -> Credential:
        value = str(parse_json(response.body).get("arenaSessionId"))
        return Credential(headers=(("arena_session_id", Secret(value)),))

    patch.replace("arena_async.providers.arena.auth:PasswordAuth.read_login", believing)
    patch.replace("arena_async.http.login:check_credential", lambda credential, **_: credential)


@protection("the workspace a login lands in is compared with the one asked for")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.providers.arena.auth:decode")

    def of_no_workspace(*args: Any, **kwargs: Any) -> Any:
        answer = given(*args, **kwargs)
        object.__setattr__(answer, "workspace_id", None)
        return answer

    patch.replace("arena_async.providers.arena.auth:decode", of_no_workspace)


@protection("a login has a budget of its own")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.login:_LOGIN_ATTEMPTS", 100)


@protection("a new session that is rejected at once is the end of it")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.login:_GRACE_SECONDS", -1.0)


@protection("a refusal for lack of permission has nothing to do with the session")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.providers.arena.adapter:ArenaAdapter.read_error")

    def suspicious(self: Any, request: Any, response: Any) -> Any:
        error = given(self, request, response)
        error.stale_login = error.stale_login or response.status == 403
        return error

    patch.replace("arena_async.providers.arena.adapter:ArenaAdapter.read_error", suspicious)


@protection("a login is waited for as long as its process lives")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.local_files:PrivateFile.hold", lambda self: True)


@protection("ages in the session store are not those of the date")
def _(patch: Patch) -> None:
    def by_date(self: Any, moment: Any) -> float:
        passed = self._clock.now().timestamp() - moment["at"]
        return float(passed) if passed >= 0 else 1e9

    patch.replace("arena_async.providers.arena.sessions:SharedSessions._since", by_date)


@protection("each user of a session store has a file")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.providers.arena.sessions:SharedSessions.__init__")

    def together(self: Any, store: Any, identity: str, **how: Any) -> None:
        given(self, store, identity, **how)
        self._file = self._before

    patch.replace("arena_async.providers.arena.sessions:SharedSessions.__init__", together)


@protection("only the last one logs out")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.sessions:has_ended", lambda *_, **__: True)


@protection("commands share the session of a user")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.client:store_of_user", lambda environ: None)


@protection("a login that counts goes on, also without locks")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.sessions:SharedSessions._goes_on", lambda self, claim: False)


@protection("what goes wrong with a logout stays there")
def _(patch: Patch) -> None:
    class NeverRaisedError(Exception):
        pass

    given = patch.current("arena_async.http.login:_log_out")
    read = patch.current("arena_async.http.connections:Connections.read")

    async def judging(self: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        body, whole = await read(self, response, *args, **kwargs)
        if body or response.status != 200:
            raise TransportError(f"The logout failed with {response.status}.")
        return body, whole

    async def loud(*args: Any) -> None:
        with Patch(patch.report) as within:
            within.replace("arena_async.http.login:ArenaAsyncError", NeverRaisedError)
            within.replace("arena_async.http.connections:Connections.read", judging)
            await given(*args)

    patch.replace("arena_async.http.login:_log_out", loud)


@protection("closing takes a few seconds at the most")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.session:_CLOSING_SECONDS", 1e6)
    patch.replace("arena_async.http.login:_LOGOUT_SECONDS", 1e6)


@protection("a session that was taken away is not logged out")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.http.login:SharedLogin.rejected")
    log_out = patch.current("arena_async.http.login:_log_out")

    def keeping(self: Any, held: Any, error: Any) -> Any:
        found = given(self, held, error)
        self._last, held.refused = held, False
        return found

    async def finish(self: Any) -> None:
        await log_out(self._exchange, self._auth, self._last)

    patch.replace("arena_async.http.login:SharedLogin.rejected", keeping)
    patch.replace("arena_async.http.login:SharedLogin.finish", finish)


@protection("closing waits for a login that is under way")
def _(patch: Patch) -> None:
    async def impatient(self: Any) -> None:
        self.abandon()

    patch.replace("arena_async.http.login:SharedLogin.finish", impatient)


@protection("a login belongs to none of those who wait for it")
def _(patch: Patch) -> None:
    unshielded = types.ModuleType("asyncio")
    vars(unshielded).update(vars(asyncio), shield=lambda future: future)
    patch.replace("arena_async.http.login:asyncio", unshielded)


@protection("a redirect of a login is not followed")
def _(patch: Patch) -> None:
    given = aiohttp.ClientSession._request

    @functools.wraps(given)
    async def following(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await given(self, *args, **{**kwargs, "allow_redirects": True})

    patch.replace("aiohttp:ClientSession._request", following)


@protection("a session is renewed before it has idled away")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.login:SharedLogin._is_over", lambda _, __: False)


@protection("lifetimes are measured on a clock that never jumps")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.http.exchange:Exchange.__init__")

    def dated(self: Any, *args: Any, options: Any, **kwargs: Any) -> None:
        now = options.clock.now
        clock = attrs.evolve(options.clock, monotonic=lambda: now().timestamp())
        given(self, *args, options=attrs.evolve(options, clock=clock), **kwargs)

    patch.replace("arena_async.http.exchange:Exchange.__init__", dated)


@protection("a client belongs to one event loop of one process")
def _(patch: Patch) -> None:
    def bind(self: Any) -> None:
        self._loop = self._loop or asyncio.get_running_loop()

    patch.replace("arena_async.http.session:Session._check_usable", bind)
    patch.replace("arena_async.http.session:Session._is_foreign", lambda _: False)


@protection("credentials go to the own origin only")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.exchange:origin", lambda _: "everywhere")


@protection("a signed link needs no token")
def _(patch: Patch) -> None:
    opened = patch.current("arena_async.http.session:Session._open_body")

    async def generous(self: Any, sent: Any, *args: Any) -> Any:
        if sent.request.scope is None:
            sent.request = attrs.evolve(sent.request, scope="any")
        return await opened(self, sent, *args)

    patch.replace("arena_async.http.exchange:origin", lambda _: "everywhere")
    patch.replace("arena_async.http.session:Session._open_body", generous)


# --- tokens -----------------------------------------------------------------------------------------------------------


@protection("a token is used until shortly before its end")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.login:_LIFE_MARGIN", 0.0)


@protection("the lifetime of a token is taken within bounds")
def _(patch: Patch) -> None:
    def believing(response: Any, **how: Any) -> Credential:
        seconds = parse_json(response.body).get("expires_in")
        return attrs.evolve(given(response, **how), lifetime=0.0 if seconds is None else float(seconds))

    given = patch.replace("arena_async.protocol.oauth:read_token", believing)


@protection("the lifetime of a token is a number")
def _(patch: Patch) -> None:
    def believing(response: Any, **how: Any) -> Credential:
        try:
            return given(response, **how)  # type: ignore[no-any-return]
        except DecodeError:
            return Credential(headers=(("Authorization", Secret("Bearer x")),), lifetime=600.0)

    given = patch.replace("arena_async.protocol.oauth:read_token", believing)


@protection("a token that cannot be sent is never sent")
def _(patch: Patch) -> None:
    def believing(_: Any, response: Any) -> Credential:
        token = parse_json(response.body).get("access_token")
        return Credential(headers=(("Authorization", Secret(f"Bearer {token}")),))

    patch.replace("arena_async.providers.centrepoint.auth:CentrePointAuth.read_login", believing)
    patch.replace("arena_async.http.login:check_credential", lambda credential, **_: credential)


@protection("a rejected token is replaced once")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.exchange:_MAX_REPLAYS", 0)


# --- the allowance of a day -------------------------------------------------------------------------------------------


@protection("what the service says is left is believed")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.quota:DailyQuota.observe", lambda *_: None)


@protection("a request is booked before it leaves")
def _(patch: Patch) -> None:
    patch.add("arena_async.protocol.quota:DailyQuota._in_flight", Always(0))


@protection("a request without an answer stays subtracted")
def _(patch: Patch) -> None:
    def forgetful(self: DailyQuota, reservation: Reservation, quota: Quota | None, now: ClockReading) -> None:
        given(self, reservation, quota, now)
        self._remaining = self._left
        self._uncounted.clear()

    given = patch.replace("arena_async.protocol.quota:DailyQuota.settle", forgetful)


@protection("a silent refusal of runs and files passes")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.providers.arena.adapter:ArenaAdapter.read_error")

    def of_content_only(self: Any, request: Any, response: Any) -> Any:
        error = given(self, request, response)
        error.transient = error.transient and (response.status != 400 or request.path.endswith("ontent"))
        return error

    patch.replace("arena_async.providers.arena.adapter:ArenaAdapter.read_error", of_content_only)


@protection("a view that was refused is not asked for again")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.transfer:Context.keep")

    async def forgetful(self: Any, facts: Any) -> None:
        await given(self, {key: fact for key, fact in facts.items() if fact != "refused"})

    patch.replace("arena_async.transfer:Context.keep", forgetful)


@protection("the reset is read in the vendor's own shape")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.adapter:read_reset", parsedate_to_datetime)


@protection("the reset is read whatever its shape")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.adapter:read_reset", lambda _: None)


@protection("without a date the day ends at midnight on the Pacific coast")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.adapter:next_reset", lambda now: now + timedelta(hours=12))


@protection("a number that is none is not believed")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.providers.arena.adapter:ArenaAdapter.read_quota")

    def believing(self: Any, headers: Any) -> Quota | None:
        values, quota = headers.get_all("X-Arena-Requests-Remaining"), given(self, headers)
        return attrs.evolve(quota or Quota(), remaining=int(values[0])) if values else quota

    patch.replace("arena_async.providers.arena.adapter:ArenaAdapter.read_quota", believing)


@protection("within one day the number never rises")
def _(patch: Patch) -> None:
    def believing(self: DailyQuota, quota: Quota, now: ClockReading) -> None:
        self._remaining, self._resets_at = quota.remaining, quota.resets_at

    patch.replace("arena_async.protocol.quota:DailyQuota.observe", believing)


@protection("the number from before the renumbering is known")
def _(patch: Patch) -> None:
    rules = patch.current("arena_async.providers.arena.error_codes:_RULES")
    without = tuple(attrs.evolve(rule, old=frozenset()) for rule in rules)
    patch.replace("arena_async.providers.arena.error_codes:_RULES", without)


@protection("the number of the used-up day is known")
def _(patch: Patch) -> None:
    rules = patch.current("arena_async.providers.arena.error_codes:_RULES")
    without = tuple(attrs.evolve(rule, codes=frozenset()) for rule in rules)
    patch.replace("arena_async.providers.arena.error_codes:_RULES", without)


@protection("after the reset one request goes first")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.protocol.quota:DailyQuota.reserve")

    def optimistic(self: DailyQuota, now: ClockReading) -> Any:
        if self._remaining is not None and self._forget_at is not None and now.utc >= self._forget_at:
            self._remaining, self._forget_at, self._resets_at = 1000, None, None
        return given(self, now)

    patch.replace("arena_async.protocol.quota:DailyQuota.reserve", optimistic)


@protection("an answer without a number costs one")
def _(patch: Patch) -> None:
    def forgiving(self: DailyQuota, reservation: Reservation, quota: Quota | None, now: ClockReading) -> None:
        self._in_flight -= 1
        if quota is not None:
            self.observe(quota, now)

    patch.replace("arena_async.protocol.quota:DailyQuota.settle", forgiving)


# --- pauses -----------------------------------------------------------------------------------------------------------


@protection("a pause is not taken for the used-up day")
def _(patch: Patch) -> None:
    patch.replace(
        "arena_async.providers.arena.error_codes:_TOO_MANY",
        patch.current("arena_async.providers.arena.error_codes:_NONE_LEFT"),
    )


@protection("of a refusal only the beginning is read")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.connections:MAX_ERROR_BYTES", 100 * MIB)


@protection("the HTTP client sends nothing a second time")
def _(patch: Patch) -> None:
    def repeating(self: Any, *args: Any, **how: Any) -> None:
        given(self, *args, **{**how, "middlewares": ()})

    given = patch.replace("aiohttp:ClientSession.__init__", repeating)


@protection("content is asked for without a probe")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.http.session:Session.stream")

    async def probing(self: Any, request: Any, **kwargs: Any) -> Any:
        async with await given(self, request, **kwargs):
            pass
        return await given(self, request, **kwargs)

    patch.replace("arena_async.http.session:Session.stream", probing)


@protection("questions come at widening intervals")
def _(patch: Patch) -> None:
    patch.replace("arena_async.options:PollPolicy.pause", lambda self, _, **__: self.every)


@protection("the requests for one file are bounded")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:_MAX_REQUESTS", 30)


@protection("no minute holds more requests than are allowed")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.protocol.quota:SlidingWindow.reserve")

    def generous(self: SlidingWindow, now: ClockReading) -> Any:
        answer = given(self, now)
        return Reservation(now.monotonic) if isinstance(answer, Hold) else answer

    patch.replace("arena_async.protocol.quota:SlidingWindow.reserve", generous)


@protection("what the service asks to wait is read whatever its shape")
def _(patch: Patch) -> None:
    def plain(text: Any, _: object) -> float | None:
        values = [text] if isinstance(text, str) else list(text or ())
        return float(values[0]) if values else None

    patch.replace("arena_async.protocol.retry:read_retry_after", plain)


@protection("a service that is away says when to come back")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.retry:read_retry_after", lambda *_: None)


# --- pages ------------------------------------------------------------------------------------------------------------


def _shaped(patch: Patch, *, total: bool) -> None:
    """Let every list be walked as if its number were a total, or none."""
    given = Pagination.__init__

    def reshaped(self: Pagination, shape: Any, **kwargs: Any) -> None:
        given(self, attrs.evolve(shape, total=total), **kwargs)

    patch.replace("arena_async.protocol.pagination:Pagination.__init__", reshaped)


@protection("a total that can be trusted ends a list")
def _(patch: Patch) -> None:
    _shaped(patch, total=False)


@protection("a number that may be the page's ends nothing")
def _(patch: Patch) -> None:
    _shaped(patch, total=True)


@protection("a page that is shorter than asked is the last")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.protocol.pagination:Pagination._offset_after")

    def hoping(self: Pagination, page: Any) -> int | None:
        trusted = self._shape.total and self._walk.total is not None
        return given(self, page) if trusted else self.requested.offset + len(page.items)  # type: ignore[no-any-return]

    patch.replace("arena_async.protocol.pagination:Pagination._offset_after", hoping)


@protection("a list that has come to its end is not asked for more")
def _(patch: Patch) -> None:
    def hoping(self: Pagination, page: Any) -> int:
        found = given(self, page)
        return self.requested.offset + len(page.items) if found is None else found

    def requesting(self: Pagination) -> PaginationStep:
        return self._end(()) if self._requested_again else self._request_again("is empty")

    given = patch.replace("arena_async.protocol.pagination:Pagination._offset_after", hoping)
    patch.replace("arena_async.protocol.pagination:Pagination._take_empty", requesting)


@protection("a walk goes on by what was granted")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.protocol.pagination:Pagination._offset_after")

    def hoping(self: Pagination, page: Any) -> int | None:
        return None if given(self, page) is None else self.requested.offset + self.requested.limit

    patch.replace("arena_async.protocol.pagination:Pagination._offset_after", hoping)


@protection("rows that come again are noticed")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.pagination:Pagination._find_loop", lambda *_: "")


@protection("an early empty page is no end")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.pagination:Pagination._take_empty", lambda self: self._end(()))


@protection("the end of a list is judged by the offset")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.protocol.pagination:Pagination._offset_after")

    def by_length(self: Pagination, page: Any) -> int | None:
        return None if len(page.items) < self.requested.limit else given(self, page)

    patch.replace("arena_async.protocol.pagination:Pagination._offset_after", by_length)


@protection("a row that came before is dropped")
def _(patch: Patch) -> None:
    def keeping(self: Pagination, page: Any, _: object) -> tuple[Any, int]:
        return page.items, len(page.items)

    patch.replace("arena_async.protocol.pagination:Pagination._new_rows", keeping)


@protection("rows that never came are noticed")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.pagination:Pagination._end", lambda _, rows: PaginationStep(rows=rows))


@protection("a list without pages is as long as it states")
def _(patch: Patch) -> None:
    def believing(self: Pagination, page: Any) -> PaginationStep:
        return PaginationStep(rows=page.items)

    patch.replace("arena_async.protocol.pagination:Pagination._take_all", believing)


@protection("a list that is not known to be whole is an error")
def _(patch: Patch) -> None:
    def silent(self: Pagination, what: str, rows: Any, *, cursor: int | None) -> PaginationStep:
        return PaginationStep(rows=rows)

    patch.replace("arena_async.protocol.pagination:Pagination._fail", silent)


@protection("pages have one row in common")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.pagination:Pagination._can_share", lambda *_: False)


@protection("a list that moved is walked once more")
def _(patch: Patch) -> None:
    patch.add("arena_async.protocol.pagination:Pagination._may_walk_again", Always(False))


@protection("the gap of one list hides no other")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.union:OF_ONE_LIST", ())


@protection("files of a run that are not all are not cached")
def _(patch: Patch) -> None:
    async def caching(self: Any, tenant: str, definition: str, run: Any, files: Any) -> None:
        try:
            await given(self, tenant, definition, run, files)
        finally:
            await self._keep(tenant, definition, run.guid, files)

    given = patch.replace("arena_async.providers.arena.zip_files:ZipFiles._request", caching)


@protection("a number beside guids is compared with them")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.events:read_count", lambda _: None)


@protection("the default number of rows is no whole list")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.protocol.pagination:Pagination._offset_after")

    def hoping(self: Pagination, page: Any) -> int | None:
        short = len(page.items) != self.requested.limit
        return None if short and not self._shape.total else given(self, page)

    patch.replace("arena_async.protocol.pagination:Pagination._offset_after", hoping)


@protection("rows without a key are never taken for repeats")
def _(patch: Patch) -> None:
    patch.replace(
        "arena_async.protocol.pagination:Pagination._keys_of", lambda _, rows: [str(row.get("guid")) for row in rows]
    )


@protection("the next page is computed and never followed")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.providers.centrepoint.adapter:CentrePointAdapter.read_page")
    links: list[str] = []

    def remembering(self: Any, payload: Any, *args: Any) -> Any:
        links[:] = [payload["links"]["next"]]
        return given(self, payload, *args)

    send = patch.current("arena_async.http.session:Session.send")

    async def following(self: Any, request: Any) -> Any:
        return await send(self, attrs.evolve(request, path=links[0], params=()) if links else request)

    patch.replace("arena_async.providers.centrepoint.adapter:CentrePointAdapter.read_page", remembering)
    patch.replace("arena_async.http.session:Session.send", following)


@protection("a number of rows is one")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.centrepoint.adapter:_count", lambda payload, name: payload.get(name))
    patch.replace("arena_async.providers.arena.adapter:read_count", lambda value: value)


@protection("nothing is no number of rows")
def _(patch: Patch) -> None:
    named = patch.current("arena_async.providers.centrepoint.adapter:_count")
    alone = patch.current("arena_async.providers.arena.adapter:read_count")

    def count(payload: Any, name: str) -> Any:
        return 0 if payload.get(name, 0) is None else named(payload, name)

    patch.replace("arena_async.providers.centrepoint.adapter:_count", count)
    patch.replace("arena_async.providers.arena.adapter:read_count", lambda value: 0 if value is None else alone(value))


@protection("a number of rows is read")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.centrepoint.adapter:_count", lambda *_: None)
    patch.replace("arena_async.providers.arena.adapter:read_count", lambda _: None)


@protection("the page that came is the page that was asked for")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.providers.centrepoint.adapter:CentrePointAdapter.read_page")

    def trusting(self: Any, *args: Any) -> Any:
        return attrs.evolve(given(self, *args), echoed_offset=None)

    patch.replace("arena_async.providers.centrepoint.adapter:CentrePointAdapter.read_page", trusting)


@protection("an interrupted list says where to go on")
def _(patch: Patch) -> None:
    patch.add("arena_async.errors:QuotaExhaustedError.cursor", Always(None))


@protection("a page that cannot be read is asked for once more")
def _(patch: Patch) -> None:
    async def once(self: Any, requested: Any, *, again: bool = True) -> Any:
        del again
        return await given(self, requested, again=False)

    given = patch.replace("arena_async.http.paginator:_PageLoader.page", once)


def _hoping(body: bytes, **_: Any) -> Any:
    """Parse what comes at once, by the rules of the parser."""
    yield
    return json.loads(body.decode())


@protection("whatever comes is read by rules, and never by hope")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.decoding:json_steps", _hoping)


@protection("what is no page is no empty list")
def _(patch: Patch) -> None:
    def reading(self: Any, payload: Any, requested: Any, shape: Any) -> Page:
        try:
            return given(self, payload, requested, shape)  # type: ignore[no-any-return]
        except DecodeError:
            return Page(items=(), offset=requested.offset, limit=requested.limit)

    patch.replace("arena_async.protocol.decoding:json_steps", _hoping)
    given = patch.replace("arena_async.providers.arena.adapter:ArenaAdapter.read_page", reading)


@protection("JSON is UTF-8 whatever its label says")
def _(patch: Patch) -> None:
    async def labelled(self: Any, request: Any) -> Any:
        response = await given(self, request)
        _, _, charset = (response.headers.get("Content-Type") or "").partition("charset=")
        try:
            text = response.body.decode(charset or "utf-8")
        except (LookupError, UnicodeError):
            raise DecodeError("It is not in the charset of its label.") from None
        return attrs.evolve(response, body=text.encode())

    given = patch.replace("arena_async.http.session:Session.send", labelled)


@protection("a page is bounded where it is unpacked")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.exchange:_MAX_PAGE_BYTES", 64 * MIB)


@protection("a reply is judged by what it is, not by its label")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.http.session:Session.send")

    async def formal(self: Any, request: Any) -> Any:
        response = await given(self, request)
        if "json" not in (response.headers.get("Content-Type") or ""):
            raise DecodeError("It is not called JSON.")
        return response

    patch.replace("arena_async.http.session:Session.send", formal)


@protection("the words of a refusal are kept and made safe")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.error_codes:scrub", lambda text, **_: text)
    patch.replace("arena_async.providers.centrepoint.adapter:scrub", lambda text, **_: text)


@protection("leaving a list ends what is on its way")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.paginator:_cancel_all", lambda _: None)


@protection("no more than four pages are held")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.protocol.pagination:Pagination.ahead")
    patch.replace(
        "arena_async.protocol.pagination:Pagination.ahead",
        lambda self, maximum, **kwargs: given(self, max(maximum, 12), **kwargs),
    )


@protection("pages are handed out in order")
def _(patch: Patch) -> None:
    async def take(self: Any, expected: Any) -> Any:
        for wanted in expected:
            if wanted not in self.tasks:
                self.tasks[wanted] = self.session.spawn(
                    functools.partial(self._prefetch, wanted), name="prefetched page"
                )
        done, _ = await asyncio.wait(self.tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        first = next(key for key, task in self.tasks.items() if task in done)
        page, _ = self.tasks.pop(first).result()
        return page

    patch.replace("arena_async.http.paginator:_PageLoader.take", take)


@protection("all of a response has one deadline")
def _(patch: Patch) -> None:
    def patient(self: Any, *args: Any) -> None:
        given(self, *args)
        self._body_seconds = math.inf

    given = patch.replace("arena_async.http.connections:Connections.__init__", patient)


@protection("values are counted before they are made")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.json_steps:MAX_VALUES", 10**9)
