"""
One session for all processes of a user, found through a file that only the user can read.

::

    take ──▶ a session is stored, and it is not the rejected one ──▶ use it
      │
      ├────▶ another process is logging in ──▶ look again after a short delay
      └────▶ no process is ──▶ hold the lock of the login ──▶ log in ──▶ store the session, or give up

The lock of a login is one of the operating system, which lives exactly as long as its process. Where files cannot be
locked, the login counts up in the file instead, and has ended when that does not move (see ``transfer/leases.py``). No
time of day is compared: ages are those of the clock that never steps, as long as the machine was not started anew.

A shared session is logged out by the last process that uses it where the store says so. Otherwise it is never logged
out: the next process begins with it, and it expires 90 minutes after its last use.

Each user has a file, which holds session ids, never a password, and names the user by a digest only. A process that
reads it can act as the user until the session expires: therefore a directory that others can read is rejected.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from arena_async.errors import (
    AccountLockedError,
    ApiError,
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    SessionDisplacedError,
    StorageError,
)
from arena_async.http.credential_store import LoginPending, LoginTurn, SharedCredential
from arena_async.http.login import RELOGIN_SECONDS, check_credential
from arena_async.options import Clock
from arena_async.protocol.adapter import Credential
from arena_async.protocol.messages import Secret
from arena_async.protocol.state_directory import user_state_directory
from arena_async.transfer.leases import BEAT, Process, Silence, has_ended
from arena_async.transfer.local_files import PrivateFile
from arena_async.transfer.workers import Threads, end_tasks

__all__ = ["SessionStore", "SharedSessions", "store_of_user"]

T = TypeVar("T")

_LOG = logging.getLogger("arena_async")

_VERSION: Final = 2
#: Seconds between two looks while another process is logging in, and after a claim where files cannot be locked.
_LOOK_EVERY, _CONFIRMED_AFTER = 0.1, 1.0
#: Seconds by which the use of a session may be noted late.
_NOTED_LATE: Final = 600.0
#: The uses of sessions by clients of this process.
_OURS: Final[set[str]] = set()

_KINDS: Final[Mapping[str, type[AuthenticationError]]] = {
    kind.__name__: kind for kind in (AuthenticationError, AccountLockedError, SessionDisplacedError)
}


def _expand_user(path: str | os.PathLike[str]) -> Path:
    return Path(path).expanduser()


@attrs.frozen
class SessionStore:
    """
    A file for each user through which several processes share a session, instead of ending each other's.

    It belongs to one machine. Give it a directory of its own, such as ``~/.config/arena-async/sessions.json``: the
    directory is created for this user only, and one that others can read is rejected.

    Args:
        path: The path of the files, whose names get a digest of the user; ``~`` is the user's own directory.
        log_out: Whether the last process that uses a session logs out, in place of leaving it to the next one.
    """

    path: Path = attrs.field(converter=_expand_user)
    log_out: bool = False


def store_of_user(environ: Mapping[str, str]) -> SessionStore | None:
    """
    Return the store in the state directory of the user, or None where there is no directory that can be written.

    Args:
        environ: The environment variables, which name the directory.
    """
    directory = user_state_directory(environ, sys.platform)
    if directory is None:
        return None
    store = SessionStore(Path(directory, "arena-sessions.json"), log_out=True)
    try:
        PrivateFile(store.path).change(lambda _: (None, None))
    except (StorageError, ConfigurationError) as error:
        _LOG.info("%s The session is not shared with other processes.", error)
        return None
    return store


@attrs.frozen(kw_only=True)
class _StoredSession:
    """
    What the file of a user says.

    Args:
        session: The result of a login, its time, and when it was last known to be used; or None.
        claim: The use that is logging in, with its process and count; or None.
        refused: The use whose login was rejected, and the error; or None.
        relogins: The times of logins that replaced a session which another client had ended.
        uses: The process of each client that uses the session.
    """

    session: Mapping[str, Any] | None = None
    claim: Mapping[str, Any] | None = None
    refused: Mapping[str, Any] | None = None
    relogins: tuple[Any, ...] = ()
    uses: Mapping[str, Any] = attrs.field(factory=dict)

    def credential(self) -> Credential | None:
        """Return the stored credential, or None where there is none that can be used."""
        session = self.session or {}
        try:
            found = Credential(
                headers=tuple((str(name), Secret(str(value))) for name, value in session["headers"]),
                idle_lifetime=float(session["idle"]),
                workspace=str(session["workspace"]),
                request_limit=session["limit"],
            )
            return check_credential(found, request="the session store")
        except (KeyError, TypeError, ValueError, DecodeError):
            return None


class SharedSessions:
    """
    The session of one user, shared by processes through a file.

    Args:
        store: Where the file lies.
        identity: The service, the user and the workspace. It is stored as a digest only.
        clock: Time.
    """

    def __init__(self, store: SessionStore, identity: str, *, clock: Clock) -> None:
        self._user = hashlib.sha256(identity.encode()).hexdigest()
        path = store.path
        self._file = PrivateFile(path.with_name(f"{path.stem}-{self._user[:32]}{path.suffix}"))
        self._before = PrivateFile(path)
        self._log_out = store.log_out
        self._clock = clock
        self._silence = Silence(clock.monotonic)
        self._process = Process.current()
        self._me = secrets.token_hex(8)
        self._awaited = ""
        self._locked = True
        self._counting: asyncio.Task[None] | None = None
        self._threads = Threads(1, name="arena_async-sessions")

    async def take(self, *, rejected: Credential | None) -> SharedCredential | LoginTurn | LoginPending:
        """Return what is stored; see :class:`~arena_async.http.credential_store.CredentialStore`."""
        _OURS.add(self._me)
        found = await self._change(lambda record: self._take(record, rejected))
        if isinstance(found, ApiError):
            raise found
        if isinstance(found, LoginTurn) and not self._locked:
            self._counting = asyncio.create_task(self._count(), name="arena_async login")
        return found

    async def put(self, credential: Credential, *, relogin: bool) -> None:
        """Store the credential of a login for all processes."""

        def make(record: _StoredSession) -> tuple[_StoredSession, None]:
            now = self._now()
            session = {
                "headers": [[name, value.reveal()] for name, value in credential.headers],
                "workspace": credential.workspace,
                "limit": credential.request_limit,
                "idle": credential.idle_lifetime,
                "since": now,
                "used": now,
            }
            relogins = (*self._lately(record), *((now,) if relogin else ()))
            return _StoredSession(session=session, relogins=relogins, uses=self._uses(record, self._me)), None

        await self._end_login(make)

    async def give_up(self, error: Exception | None) -> None:
        """Release the claim; a rejection is stored for the processes that wait for this login."""

        def make(record: _StoredSession) -> tuple[_StoredSession | None, None]:
            if record.claim is None or record.claim.get("by") != self._me:
                return None, None
            refused = _dump_error(error, by=self._me) if isinstance(error, ApiError) else None
            return attrs.evolve(record, claim=None, refused=refused), None

        await self._end_login(make)

    async def note_use(self, credential: Credential) -> None:
        """Note that a session is in use now, if it is still the stored one."""

        def make(record: _StoredSession) -> tuple[_StoredSession | None, None]:
            if record.session is None or not _same(record.credential(), credential):
                return None, None
            return attrs.evolve(record, session={**record.session, "used": self._now()}), None

        await self._change(make)

    async def leave(self, *, rejected: Credential | None) -> Credential | None:
        """End the use of the session; return it if no other process uses it and it is to be logged out."""

        def make(record: _StoredSession) -> tuple[_StoredSession | None, Credential | None]:
            if self._me not in record.uses:
                return None, None
            uses = self._uses(record)
            if uses or not self._log_out:
                return attrs.evolve(record, uses=uses), None
            return attrs.evolve(record, uses={}, session=None), self._usable(record, rejected)

        return await self._change(make)

    async def aclose(self) -> None:
        """End the thread. What is stored stays."""
        _OURS.discard(self._me)
        try:
            await self._stop_counting()
        finally:
            self._file.let_go()
            await self._threads.aclose()

    def _take(
        self, record: _StoredSession, rejected: Credential | None
    ) -> tuple[_StoredSession | None, SharedCredential | LoginTurn | LoginPending | ApiError]:
        """Decide what to do with the stored entry."""
        credential, session = self._usable(record, rejected), record.session or {}
        if credential is not None:
            age, rest = (self._since(session.get(name)) for name in ("since", "used"))
            found = SharedCredential(credential=credential, age=age, rest=rest)
            return attrs.evolve(record, uses=self._uses(record, self._me)), found
        if record.refused is not None and record.refused.get("by") == self._awaited:
            self._awaited = ""
            return None, _load_error(record.refused)
        held, claim, lately = self._file.hold(), record.claim or {}, self._lately(record)
        if held is False or (held is None and self._goes_on(claim)):
            self._awaited = str(claim.get("by"))
            return None, LoginPending(seconds=_LOOK_EVERY)
        self._locked = held is not None
        if not self._locked and claim.get("by") == self._me:
            return None, LoginTurn(relogins=len(lately))
        claim = {"by": self._me, "count": 0, **attrs.asdict(self._process)}
        # Without locks two processes may write a claim at the same moment; the later one is there a second after.
        turn = LoginTurn(relogins=len(lately)) if self._locked else LoginPending(seconds=_CONFIRMED_AFTER)
        return attrs.evolve(record, claim=claim, refused=None, relogins=lately), turn

    def _usable(self, record: _StoredSession, rejected: Credential | None) -> Credential | None:
        """Return the stored credential unless it is the rejected one, or was not used for too long."""
        credential = record.credential()
        if credential is None or _same(rejected, credential):
            return None
        rest, idle = self._since((record.session or {}).get("used")), credential.idle_lifetime
        return credential if idle is None or rest < idle + _NOTED_LATE else None

    def _goes_on(self, claim: Mapping[str, Any]) -> bool:
        """Return whether the login of another use may still end."""
        by, process = str(claim.get("by")), _load_process(claim)
        if process is None or by == self._me:
            return False
        silence = self._silence.of(by, int(_number(claim.get("count"))))
        return not has_ended(process, silence, us=self._process, ours=by in _OURS)

    def _uses(self, record: _StoredSession, *more: str) -> dict[str, Any]:
        """Return the uses of other clients whose processes may live, and those of ``more`` by this one."""
        uses = {}
        for use, process in record.uses.items():
            loaded = _load_process(process)
            over = loaded is None or has_ended(loaded, 0.0, us=self._process, ours=use in _OURS)
            if use != self._me and not over:
                uses[use] = process
        return {**uses, **{use: attrs.asdict(self._process) for use in more}}

    def _lately(self, record: _StoredSession) -> tuple[Any, ...]:
        """Return the recent re-logins, which limit further ones."""
        return tuple(at for at in record.relogins if self._since(at) < RELOGIN_SECONDS)

    def _now(self) -> dict[str, Any]:
        """Return the time now, for other processes."""
        clock = self._clock
        return {"at": clock.now().timestamp(), "up": clock.monotonic(), "machine": self._process.machine}

    def _since(self, written: object) -> float:
        """Return the seconds since something was written; by the date only where another boot or version wrote it."""
        parts = written if isinstance(written, Mapping) else {"at": written}
        passed = self._clock.monotonic() - _number(parts.get("up"))
        if parts.get("machine") == self._process.machine and passed >= 0:
            return passed
        return max(0.0, self._clock.now().timestamp() - _number(parts.get("at")))

    async def _count(self) -> None:
        """Count a login up where its process holds no lock, by the timer of the loop: nothing waits for it here."""

        def make(record: _StoredSession) -> tuple[_StoredSession | None, None]:
            claim = record.claim or {}
            if claim.get("by") != self._me:
                return None, None
            return attrs.evolve(record, claim={**claim, "count": _number(claim.get("count")) + 1}), None

        while True:
            await asyncio.sleep(BEAT)
            with contextlib.suppress(StorageError):
                await self._change(make)

    async def _stop_counting(self) -> None:
        counting, self._counting = self._counting, None
        if counting is not None:
            await end_tasks(counting)

    async def _end_login(self, make: Callable[[_StoredSession], tuple[_StoredSession | None, None]]) -> None:
        """Write the end of a login, and let the next process have its turn."""
        try:
            await self._stop_counting()
            await self._change(make)
        finally:
            self._file.let_go()

    async def _change(self, make: Callable[[_StoredSession], tuple[_StoredSession | None, T]]) -> T:
        """Change the file of this user in one atomic step."""

        def change(content: bytes | None) -> tuple[bytes | None, T]:
            record, result = make(_load(content) if content is not None else self._load_before())
            return None if record is None else _dump(record), result

        return await self._threads.run(self._file.change, change)

    def _load_before(self) -> _StoredSession:
        """Return what the one file of all users says, which an earlier version wrote."""
        content = self._before.change(lambda content: (None, content)) if self._before.path.exists() else None
        try:
            return _load_record(json.loads(content or b"")["users"][self._user])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return _StoredSession()


def _same(one: Credential | None, other: Credential) -> bool:
    return one is not None and one.headers == other.headers


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _load_process(value: object) -> Process | None:
    """Return a process, or None where the file says none."""
    if not isinstance(value, Mapping):
        return None
    pid, parts = value.get("pid"), [value.get(name) for name in ("machine", "start")]
    if not isinstance(pid, int) or not all(isinstance(part, str) for part in parts):
        return None
    return Process(str(parts[0]), pid, str(parts[1]))


def _load(content: bytes) -> _StoredSession:
    """Read the file; one that is damaged, or of a newer version, counts as empty."""
    try:
        data = json.loads(content)
        return _load_record(data) if data.get("arena_async_sessions") == _VERSION else _StoredSession()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return _StoredSession()


def _load_record(entry: Mapping[str, Any]) -> _StoredSession:
    parts = {name: entry[name] for name in ("session", "claim", "refused", "uses") if isinstance(entry.get(name), dict)}
    moments = entry.get("take_backs")
    return _StoredSession(**parts, relogins=tuple(moments) if isinstance(moments, list) else ())


def _dump(record: _StoredSession) -> bytes:
    row = attrs.asdict(record)
    row["take_backs"] = row.pop("relogins")
    return json.dumps({"arena_async_sessions": _VERSION, **row}, indent=1).encode()


def _dump_error(error: ApiError, *, by: str) -> dict[str, Any]:
    retry_at = getattr(error, "retry_at", None)
    return {
        "by": by,
        "kind": type(error).__name__,
        "message": str(error),
        "status": error.status,
        "code": error.code,
        "retry_at": retry_at.isoformat() if isinstance(retry_at, datetime) else None,
    }


def _load_error(refused: Mapping[str, Any]) -> ApiError:
    """Return the error of the login of another process, which this one waited for."""
    kind = _KINDS.get(str(refused.get("kind")), AuthenticationError)
    fields: dict[str, Any] = {name: refused.get(name) for name in ("status", "code")}
    if kind is AccountLockedError and isinstance(refused.get("retry_at"), str):
        fields["retry_at"] = datetime.fromisoformat(refused["retry_at"])
    message = f"{refused.get('message')} (This was the login of another process of this user, which was waited for.)"
    return kind(message, **fields)
