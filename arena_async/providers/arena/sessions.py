"""
One session for all processes of a user, found through a file that only the user can read.

::

    take ──▶ a session is stored, and it is not the rejected one ──▶ use it
      │
      ├────▶ another process is logging in ──▶ look again after a short delay
      └────▶ no process is ──▶ write a claim ──▶ log in ──▶ store the session, or give up

A shared session is never logged out: other processes may use it, and the next process begins with it. It expires 90
minutes after its last use.

The file holds session ids, never a password, and the users only as digests. A process that reads it can act as the user
until the session expires: therefore a directory that others can read is rejected.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from arena_async.errors import AccountLockedError, ApiError, AuthenticationError, DecodeError, SessionDisplacedError
from arena_async.http.credential_store import LoginPending, LoginTurn, SharedCredential
from arena_async.http.login import RELOGIN_SECONDS, check_credential
from arena_async.protocol.adapter import Credential
from arena_async.protocol.messages import Secret
from arena_async.transfer.local_files import PrivateFile
from arena_async.transfer.workers import Threads

__all__ = ["SessionStore", "SharedSessions"]

T = TypeVar("T")

_VERSION: Final = 1
#: Seconds after which the login of another process is not waited for any more.
_CLAIM_SECONDS: Final = 180.0
#: Seconds between two looks while another process is logging in.
_LOOK_EVERY: Final = 0.1
#: Seconds by which the use of a session may be noted late.
_NOTED_LATE: Final = 600.0
#: Seconds after the last use after which a session is removed from the file.
_FORGOTTEN: Final = 86_400.0

_KINDS: Final[Mapping[str, type[AuthenticationError]]] = {
    kind.__name__: kind for kind in (AuthenticationError, AccountLockedError, SessionDisplacedError)
}


def _expand_user(path: str | os.PathLike[str]) -> Path:
    return Path(path).expanduser()


@attrs.frozen
class SessionStore:
    """
    A file through which several processes of one user share a session, instead of ending each other's.

    It belongs to one machine. Give it a directory of its own, such as ``~/.config/arena-async/sessions.json``: the
    directory is created for this user only, and one that others can read is rejected.

    Args:
        path: The path of the file; ``~`` is the user's own directory.
    """

    path: Path = attrs.field(converter=_expand_user)


@attrs.frozen(kw_only=True)
class _StoredSession:
    """
    The entry of one user in the file. Times are seconds since 1970.

    Args:
        session: The result of a login, its time, and when it was last known to be used; or None.
        claim: The process that is logging in, and since when; or None.
        refused: The process whose login was rejected, and the error; or None.
        relogins: The times of logins that replaced a session which another client had ended.
    """

    session: Mapping[str, Any] | None = None
    claim: Mapping[str, Any] | None = None
    refused: Mapping[str, Any] | None = None
    relogins: tuple[float, ...] = ()

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
        store: The file.
        identity: The service, the user and the workspace. It is stored as a digest only.
        now: Returns the time (aware); processes have no other clock in common.
    """

    def __init__(self, store: SessionStore, identity: str, *, now: Callable[[], datetime]) -> None:
        self._file = PrivateFile(store.path)
        self._user = hashlib.sha256(identity.encode()).hexdigest()
        self._now = now
        self._me = secrets.token_hex(8)
        self._awaited = ""
        self._threads = Threads(1, name="arena_async-sessions")

    async def take(self, *, rejected: Credential | None) -> SharedCredential | LoginTurn | LoginPending:
        """Return what is stored; see :class:`~arena_async.http.credential_store.CredentialStore`."""
        found = await self._change(lambda record: self._take(record, rejected))
        if isinstance(found, ApiError):
            raise found
        return found

    async def put(self, credential: Credential, *, relogin: bool) -> None:
        """Store the credential of a login for all processes."""

        def make(record: _StoredSession) -> tuple[_StoredSession | None, None]:
            now = self._seconds()
            session = {
                "headers": [[name, value.reveal()] for name, value in credential.headers],
                "workspace": credential.workspace,
                "limit": credential.request_limit,
                "idle": credential.idle_lifetime,
                "since": now,
                "used": now,
            }
            mine = (now,) if relogin else ()
            return _StoredSession(session=session, relogins=(*self._lately(record), *mine)), None

        await self._change(make)

    async def give_up(self, error: Exception | None) -> None:
        """Release the claim; a rejection is stored for the processes that wait for this login."""

        def make(record: _StoredSession) -> tuple[_StoredSession | None, None]:
            if record.claim is None or record.claim.get("by") != self._me:
                return None, None
            refused = _dump_error(error, by=self._me) if isinstance(error, ApiError) else None
            return attrs.evolve(record, claim=None, refused=refused), None

        await self._change(make)

    async def note_use(self, credential: Credential) -> None:
        """Note that a session is in use now, if it is still the stored one."""

        def make(record: _StoredSession) -> tuple[_StoredSession | None, None]:
            if record.session is None or not _same(record.credential(), credential):
                return None, None
            return attrs.evolve(record, session={**record.session, "used": self._seconds()}), None

        await self._change(make)

    async def aclose(self) -> None:
        """End the thread. What is stored stays."""
        await self._threads.aclose()

    def _take(
        self, record: _StoredSession, rejected: Credential | None
    ) -> tuple[_StoredSession | None, SharedCredential | LoginTurn | LoginPending | ApiError]:
        """Decide what to do with the stored entry."""
        now = self._seconds()
        credential = record.credential()
        if record.session is not None and credential is not None and not _same(rejected, credential):
            age, rest = (max(0.0, now - _number(record.session.get(name))) for name in ("since", "used"))
            if credential.idle_lifetime is None or rest < credential.idle_lifetime + _NOTED_LATE:
                return None, SharedCredential(credential=credential, age=age, rest=rest)
        if record.refused is not None and record.refused.get("by") == self._awaited:
            self._awaited = ""
            return None, _load_error(record.refused)
        if record.claim is not None and self._is_waited_for(record.claim, now):
            self._awaited = str(record.claim.get("by"))
            return None, LoginPending(seconds=_LOOK_EVERY)
        lately = self._lately(record)
        claim = {"by": self._me, "pid": os.getpid(), "host": platform.node(), "at": now}
        return _StoredSession(session=record.session, claim=claim, relogins=lately), LoginTurn(relogins=len(lately))

    def _is_waited_for(self, claim: Mapping[str, Any], now: float) -> bool:
        """Return whether the process that is logging in may still finish."""
        if claim.get("by") == self._me or not 0 <= now - _number(claim.get("at")) < _CLAIM_SECONDS:
            return False
        return claim.get("host") != platform.node() or _is_alive(claim.get("pid"))

    def _lately(self, record: _StoredSession) -> tuple[float, ...]:
        """Return the recent re-logins, which limit further ones."""
        return tuple(at for at in record.relogins if 0 <= self._seconds() - at < RELOGIN_SECONDS)

    def _seconds(self) -> float:
        return self._now().timestamp()

    async def _change(self, make: Callable[[_StoredSession], tuple[_StoredSession | None, T]]) -> T:
        """Change the entry of this user in one atomic step."""

        def change(content: bytes | None) -> tuple[bytes | None, T]:
            users = _load(content)
            record, result = make(users.get(self._user, _StoredSession()))
            if record is None:
                return None, result
            now = self._seconds()
            kept = {user: old for user, old in users.items() if not _is_forgotten(old, now)}
            return _dump({**kept, self._user: record}), result

        return await self._threads.run(self._file.change, change)


def _same(one: Credential | None, other: Credential) -> bool:
    return one is not None and one.headers == other.headers


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _is_alive(pid: object) -> bool:
    """Return whether a process of this machine runs, or may run."""
    if os.name != "posix" or not isinstance(pid, int) or pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _is_forgotten(record: _StoredSession, now: float) -> bool:
    """Return whether the entry was not used for a long time."""
    timestamps = [(record.session or {}).get("used"), (record.claim or {}).get("at")]
    return all(now - _number(timestamp) > _FORGOTTEN for timestamp in timestamps)


def _load(content: bytes | None) -> dict[str, _StoredSession]:
    """Read the file; one that is damaged, or of a newer version, counts as empty."""
    try:
        data = json.loads(content or b"{}")
        if data.get("arena_async_sessions") != _VERSION:
            return {}
        return {str(user): _load_record(entry) for user, entry in data["users"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _load_record(entry: Mapping[str, Any]) -> _StoredSession:
    parts = {name: entry[name] for name in ("session", "claim", "refused") if isinstance(entry.get(name), dict)}
    timestamps = entry.get("take_backs")
    return _StoredSession(**parts, relogins=tuple(map(_number, timestamps)) if isinstance(timestamps, list) else ())


def _dump(users: Mapping[str, _StoredSession]) -> bytes:
    rows = {
        user: {"take_backs" if name == "relogins" else name: value for name, value in attrs.asdict(record).items()}
        for user, record in users.items()
    }
    return json.dumps({"arena_async_sessions": _VERSION, "users": rows}, indent=1).encode()


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
