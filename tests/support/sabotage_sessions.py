"""How the protections of the rows about sessions, allowances and pages are taken away."""

from __future__ import annotations

import asyncio
import functools
import json
import types
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import attrs
import pytest
from sabotage import protection

from arena_async.errors import DecodeError, QuotaExhaustedError, TransportError
from arena_async.net import connections, pager
from arena_async.net import login as logins
from arena_async.net import session as sessions
from arena_async.net.login import SharedLogin
from arena_async.net.session import Session
from arena_async.options import MIB, PollPolicy
from arena_async.providers.arena import auth as arena_auth
from arena_async.providers.arena import dialect as arena_dialect
from arena_async.providers.arena import error_codes
from arena_async.providers.arena.auth import PasswordAuth
from arena_async.providers.arena.dialect import ArenaDialect
from arena_async.providers.centrepoint import auth as centrepoint_auth
from arena_async.providers.centrepoint import dialect as centrepoint_dialect
from arena_async.providers.centrepoint.auth import CentrePointAuth
from arena_async.providers.centrepoint.dialect import CentrePointDialect
from arena_async.transfer import planning
from arena_async.wire import retrying
from arena_async.wire.contracts import Credential
from arena_async.wire.decoding import parse_json
from arena_async.wire.messages import Secret
from arena_async.wire.paging import Step, Walk
from arena_async.wire.quota import DailyAllowance, Hold, Moment, Quota, SlidingWindow, Ticket

# --- logins -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Always:
    """An attribute that never holds what is put into it."""

    value: object

    def __get__(self, owner: object, kind: type | None = None) -> object:
        return self.value

    def __set__(self, owner: object, value: object) -> None:
        pass


@protection("one login serves everybody who waits")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharedLogin, "_outcome", _Always(None), raising=False)


@protection("a rejection counts against the session it was sent with")
def _(patch: pytest.MonkeyPatch) -> None:
    given = SharedLogin.rejected

    def whichever(self: SharedLogin, held: Any, error: Any) -> Any:
        return given(self, self._current or held, error)

    patch.setattr(SharedLogin, "rejected", whichever)


@protection("a refused login is not tried again for a while")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharedLogin, "_refuse_for_a_while", lambda _: None)


@protection("an account that is locked for five minutes is left alone for as long")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(error_codes, "_LOCKED_FOR", timedelta(0))


@protection("a session id that cannot be sent is never sent")
def _(patch: pytest.MonkeyPatch) -> None:
    def believing(_: PasswordAuth, response: Any) -> Credential:
        value = str(parse_json(response.body).get("arenaSessionId"))
        return Credential(headers=(("arena_session_id", Secret(value)),))

    patch.setattr(PasswordAuth, "read_login", believing)
    patch.setattr(sessions, "check_credential", lambda credential, **_: credential)


@protection("the workspace a login lands in is compared with the one asked for")
def _(patch: pytest.MonkeyPatch) -> None:
    given = arena_auth.decode

    def of_no_workspace(*args: Any, **kwargs: Any) -> Any:
        answer = given(*args, **kwargs)
        object.__setattr__(answer, "workspace_id", None)
        return answer

    patch.setattr(arena_auth, "decode", of_no_workspace)


@protection("a login has a budget of its own")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sessions, "_LOGIN_ATTEMPTS", 100)


@protection("a new session that is rejected at once is the end of it")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(logins, "_PATIENCE", -1.0)


@protection("a refusal for lack of permission has nothing to do with the session")
def _(patch: pytest.MonkeyPatch) -> None:
    given = ArenaDialect.read_error

    def suspicious(self: ArenaDialect, request: Any, response: Any) -> Any:
        error = given(self, request, response)
        error.stale_login = error.stale_login or response.status == 403
        return error

    patch.setattr(ArenaDialect, "read_error", suspicious)


@protection("what goes wrong with a logout stays there")
def _(patch: pytest.MonkeyPatch) -> None:
    class NeverRaisedError(Exception):
        pass

    given, read = Session._log_out, connections.Connections.read

    async def judging(self: Any, response: Any, **kwargs: Any) -> Any:
        body, whole = await read(self, response, **kwargs)
        if body or response.status != 200:
            raise TransportError(f"The logout failed with {response.status}.")
        return body, whole

    async def loud(self: Session, credential: Credential) -> None:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(sessions, "ArenaAsyncError", NeverRaisedError)
            within.setattr(connections.Connections, "read", judging)
            await given(self, credential)

    patch.setattr(Session, "_log_out", loud)


@protection("closing takes a few seconds at the most")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sessions, "_CLOSING_SECONDS", 1e6)


@protection("a session that was taken away is not logged out")
def _(patch: pytest.MonkeyPatch) -> None:
    given = SharedLogin.rejected

    def keeping(self: SharedLogin, held: Any, error: Any) -> Any:
        found = given(self, held, error)
        self._last = held  # type: ignore[attr-defined]
        return found

    async def finish(self: SharedLogin) -> None:
        await self._log_out(self._last.credential)  # type: ignore[attr-defined]

    patch.setattr(SharedLogin, "rejected", keeping)
    patch.setattr(SharedLogin, "finish", finish)


@protection("closing waits for a login that is under way")
def _(patch: pytest.MonkeyPatch) -> None:
    async def impatient(self: SharedLogin) -> None:
        self.abandon()

    patch.setattr(SharedLogin, "finish", impatient)


@protection("a login belongs to none of those who wait for it")
def _(patch: pytest.MonkeyPatch) -> None:
    unshielded = types.ModuleType("asyncio")
    vars(unshielded).update(vars(asyncio), shield=lambda future: future)
    patch.setattr(logins, "asyncio", unshielded)


@protection("a redirect of a login is not followed")
def _(patch: pytest.MonkeyPatch) -> None:
    given = aiohttp.ClientSession._request

    @functools.wraps(given)
    async def following(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await given(self, *args, **{**kwargs, "allow_redirects": True})

    patch.setattr(aiohttp.ClientSession, "_request", following)


@protection("a session is renewed before it has idled away")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharedLogin, "_is_over", lambda _, __: False)


@protection("lifetimes are measured on a clock that never jumps")
def _(patch: pytest.MonkeyPatch) -> None:
    given = SharedLogin.__init__

    def dated(self: SharedLogin, *args: Any, **kwargs: Any) -> None:
        now = kwargs["now"]
        given(self, *args, **{**kwargs, "clock": lambda: now().timestamp()})

    patch.setattr(SharedLogin, "__init__", dated)


@protection("a client belongs to one event loop of one process")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "_is_foreign", lambda _: False)


@protection("credentials go to the own origin only")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sessions, "origin", lambda _: "everywhere")


@protection("a signed link needs no token")
def _(patch: pytest.MonkeyPatch) -> None:
    opened = Session._open

    async def generous(self: Session, request: Any, url: str, trial: Any, **kwargs: Any) -> Any:
        scope = "any" if request.method == "GET" and request.scope is None else request.scope
        return await opened(self, attrs.evolve(request, scope=scope), url, trial, **kwargs)

    patch.setattr(sessions, "origin", lambda _: "everywhere")
    patch.setattr(Session, "_open", generous)


# --- tokens -----------------------------------------------------------------------------------------------------------


@protection("a token is used until shortly before its end")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(logins, "_LIFE_MARGIN", 0.0)


@protection("the lifetime of a token is taken within bounds")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(centrepoint_auth, "_lifetime", lambda value, _: 0.0 if value is None else float(value))


@protection("the lifetime of a token is a number")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(centrepoint_auth, "_lifetime", lambda *_: 600.0)


@protection("a token that cannot be sent is never sent")
def _(patch: pytest.MonkeyPatch) -> None:
    def believing(_: CentrePointAuth, response: Any) -> Credential:
        token = parse_json(response.body).get("access_token")
        return Credential(headers=(("Authorization", Secret(f"Bearer {token}")),))

    patch.setattr(CentrePointAuth, "read_login", believing)
    patch.setattr(sessions, "check_credential", lambda credential, **_: credential)


@protection("a rejected token is replaced once")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sessions, "_MOST_REPLAYS", 0)


# --- the allowance of a day -------------------------------------------------------------------------------------------


@protection("what the service says is left is believed")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DailyAllowance, "observe", lambda *_: None)


@protection("a request is booked before it leaves")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DailyAllowance, "_in_flight", _Always(0), raising=False)


@protection("the reset is read in the vendor's own shape")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(arena_dialect, "read_reset", parsedate_to_datetime)


@protection("without a date the day ends at midnight on the Pacific coast")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(arena_dialect, "next_reset", lambda now: now + timedelta(days=1))


@protection("a number that is none is not believed")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(arena_dialect, "_remaining", lambda values: int(values[0]) if values else None)


@protection("within one day the number never rises")
def _(patch: pytest.MonkeyPatch) -> None:
    def believing(self: DailyAllowance, quota: Quota, now: Moment) -> None:
        self._remaining, self._resets_at = quota.remaining, quota.resets_at

    patch.setattr(DailyAllowance, "observe", believing)


@protection("the number from before the renumbering is known")
def _(patch: pytest.MonkeyPatch) -> None:
    rules = tuple(attrs.evolve(rule, old=frozenset()) for rule in error_codes._RULES)
    patch.setattr(error_codes, "_RULES", rules)


@protection("after the reset one request goes first")
def _(patch: pytest.MonkeyPatch) -> None:
    given = DailyAllowance._roll_over

    def optimistic(self: DailyAllowance, now: Moment) -> None:
        known = self._remaining
        given(self, now)
        if known is not None and self._remaining is None:
            self._remaining = 1000

    patch.setattr(DailyAllowance, "_roll_over", optimistic)


@protection("an answer without a number costs one")
def _(patch: pytest.MonkeyPatch) -> None:
    def forgiving(self: DailyAllowance, ticket: Ticket, quota: Quota | None, now: Moment) -> None:
        self._in_flight -= 1
        if quota is not None:
            self.observe(quota, now)

    patch.setattr(DailyAllowance, "settle", forgiving)


# --- pauses -----------------------------------------------------------------------------------------------------------


@protection("a pause is not taken for the used-up day")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(error_codes, "_TOO_MANY", error_codes._NONE_LEFT)


@protection("of a refusal only the beginning is read")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sessions, "_LARGEST_REFUSAL", 100 * MIB)


@protection("the HTTP client sends nothing a second time")
def _(patch: pytest.MonkeyPatch) -> None:
    async def passing(request: Any, handler: Any) -> Any:
        return await handler(request)

    patch.setattr(sessions, "_never_twice", passing)


@protection("content is asked for without a probe")
def _(patch: pytest.MonkeyPatch) -> None:
    given = Session.stream

    async def probing(self: Session, request: Any, **kwargs: Any) -> Any:
        async with await given(self, request, **kwargs):
            pass
        return await given(self, request, **kwargs)

    patch.setattr(Session, "stream", probing)


@protection("questions come at widening intervals")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PollPolicy, "pause", lambda self, _, **__: self.every)


@protection("the requests for one file are bounded")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planning, "_MOST_ASKED", 30)


@protection("no minute holds more requests than are allowed")
def _(patch: pytest.MonkeyPatch) -> None:
    given = SlidingWindow.reserve

    def generous(self: SlidingWindow, now: Moment) -> Any:
        answer = given(self, now)
        return Ticket(now.ticks) if isinstance(answer, Hold) else answer

    patch.setattr(SlidingWindow, "reserve", generous)


@protection("what the service asks to wait is read whatever its shape")
def _(patch: pytest.MonkeyPatch) -> None:
    def plain(text: Any, _: object) -> float | None:
        values = [text] if isinstance(text, str) else list(text or ())
        return float(values[0]) if values else None

    patch.setattr(retrying, "read_retry_after", plain)
    patch.setattr(sessions, "read_retry_after", lambda *_: None)


@protection("a service that is away says when to come back")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sessions, "read_retry_after", lambda *_: None)


# --- pages ------------------------------------------------------------------------------------------------------------


def _shaped(patch: pytest.MonkeyPatch, *, total: bool) -> None:
    """Let every list be walked as if its number were a total, or none."""
    given = Walk.__init__

    def reshaped(self: Walk, shape: Any, **kwargs: Any) -> None:
        given(self, attrs.evolve(shape, total=total), **kwargs)

    patch.setattr(Walk, "__init__", reshaped)


@protection("a total that can be trusted ends a list")
def _(patch: pytest.MonkeyPatch) -> None:
    _shaped(patch, total=False)


@protection("a number that may be the page's ends nothing")
def _(patch: pytest.MonkeyPatch) -> None:
    _shaped(patch, total=True)


@protection("a page that is shorter than asked is the last")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Walk, "_offset_after_short", lambda self, page, _: self._asked.offset + len(page.items))


@protection("a walk goes on by what was granted")
def _(patch: pytest.MonkeyPatch) -> None:
    given = Walk._offset_after

    def hoping(self: Walk, page: Any) -> int | None:
        return None if given(self, page) is None else self._asked.offset + self._asked.limit

    patch.setattr(Walk, "_offset_after", hoping)


@protection("rows that come again are noticed")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Walk, "_check_repeats", lambda *_: None)


@protection("an early empty page is no end")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Walk, "_take_empty", lambda self, _: self._end(()))


@protection("the end of a list is judged by the offset")
def _(patch: pytest.MonkeyPatch) -> None:
    given = Walk._offset_after

    def by_length(self: Walk, page: Any) -> int | None:
        return None if len(page.items) < self._asked.limit else given(self, page)

    patch.setattr(Walk, "_offset_after", by_length)


@protection("a row that came before is dropped")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Walk, "_new_rows", lambda _, page: page.items)


@protection("rows that never came are noticed")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Walk, "_end", lambda _, rows: Step(rows=rows))


@protection("rows without a key are never taken for repeats")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Walk, "_key", lambda _, row: str(row.get("guid")))


@protection("the next page is computed and never followed")
def _(patch: pytest.MonkeyPatch) -> None:
    given = CentrePointDialect.read_page
    links: list[str] = []

    def remembering(self: CentrePointDialect, payload: Any, *args: Any) -> Any:
        links[:] = [payload["links"]["next"]]
        return given(self, payload, *args)

    send = Session.send

    async def following(self: Session, request: Any) -> Any:
        return await send(self, attrs.evolve(request, path=links[0], params=()) if links else request)

    patch.setattr(CentrePointDialect, "read_page", remembering)
    patch.setattr(Session, "send", following)


@protection("a number of rows is one")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(centrepoint_dialect, "_count", lambda payload, name: payload.get(name))
    patch.setattr(arena_dialect, "_count", lambda value: value)


@protection("the page that came is the page that was asked for")
def _(patch: pytest.MonkeyPatch) -> None:
    given = CentrePointDialect.read_page

    def trusting(self: CentrePointDialect, *args: Any) -> Any:
        return attrs.evolve(given(self, *args), echoed_offset=None)

    patch.setattr(CentrePointDialect, "read_page", trusting)


@protection("an interrupted list says where to go on")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(QuotaExhaustedError, "cursor", _Always(None), raising=False)


@protection("a page that cannot be read is asked for once more")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pager._Asker, "page", pager._Asker._once)


@protection("whatever comes is read by rules, and never by hope")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pager, "parse_json", lambda body, **_: json.loads(body.decode()))


@protection("a page is bounded where it is unpacked")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sessions, "_LARGEST_PAGE", 64 * MIB)


@protection("a reply is judged by what it is, not by its label")
def _(patch: pytest.MonkeyPatch) -> None:
    given = Session.send

    async def formal(self: Session, request: Any) -> Any:
        response = await given(self, request)
        if "json" not in (response.headers.get("Content-Type") or ""):
            raise DecodeError("It is not called JSON.")
        return response

    patch.setattr(Session, "send", formal)


@protection("the words of a refusal are kept and made safe")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(error_codes, "scrub", lambda text, **_: text)
    patch.setattr(centrepoint_dialect, "scrub", lambda text, **_: text)


@protection("leaving a list ends what is on its way")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pager, "_cancel_all", lambda _: None)


@protection("no more than four pages are held")
def _(patch: pytest.MonkeyPatch) -> None:
    given = Walk.ahead
    patch.setattr(Walk, "ahead", lambda self, most, **kwargs: given(self, max(most, 12), **kwargs))


@protection("pages are handed out in order")
def _(patch: pytest.MonkeyPatch) -> None:
    async def take(self: Any, asked: Any) -> Any:
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        first = next(key for key, task in self._tasks.items() if task in done)
        page, _ = self._tasks.pop(first).result()
        return page

    patch.setattr(pager._OnTheirWay, "take", take)
