"""How the protections of the rows about sessions, allowances and pages are taken away."""

from __future__ import annotations

import asyncio
import functools
import types
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import attrs
import pytest
from sabotage import protection

from arena_async.net import login as logins
from arena_async.net import session as sessions
from arena_async.net.login import SharedLogin
from arena_async.net.session import Session
from arena_async.options import MIB, PollPolicy
from arena_async.providers.arena import auth as arena_auth
from arena_async.providers.arena import dialect as arena_dialect
from arena_async.providers.arena.auth import PasswordAuth
from arena_async.providers.arena.dialect import ArenaDialect
from arena_async.providers.centrepoint import auth as centrepoint_auth
from arena_async.providers.centrepoint.auth import CentrePointAuth
from arena_async.transfer import planning
from arena_async.wire import retrying
from arena_async.wire.contracts import Credential
from arena_async.wire.decoding import parse_json
from arena_async.wire.messages import Secret
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
    patch.setattr(arena_dialect, "_LOCKED_FOR", timedelta(0))


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

    given = Session._log_out

    async def loud(self: Session, credential: Credential) -> None:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(sessions, "ArenaAsyncError", NeverRaisedError)
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
    rules = tuple(attrs.evolve(rule, old=frozenset()) for rule in arena_dialect._RULES)
    patch.setattr(arena_dialect, "_RULES", rules)


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
    def pessimistic(self: ArenaDialect, request: Any, response: Any, refusal: Any) -> Any:
        return self._exhausted(request, response, refusal, None, "It is a 429.")

    patch.setattr(ArenaDialect, "_too_many", pessimistic)


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
