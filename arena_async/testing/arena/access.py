"""Authentication and quota of the simulated Arena: sessions, tokens and the requests of the day."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote

import attrs

from arena_async.testing.arena.queries import error_reply, read_object
from arena_async.testing.arena.records import Session, User, write_reset, write_time
from arena_async.testing.arena.workspace import Workspace
from arena_async.testing.replies import Call, Reply

__all__ = ["Access", "Handler"]

Handler = Callable[[Call, User], Reply]

_IDLE = 90 * 60.0
_LOCKED = 5 * 60.0
_REJECTIONS = 5


class Access(Workspace):
    """A workspace with sessions, tokens and a daily quota."""

    def _session_of(self, call: Call) -> Session | None:
        """Return the session of a request, valid or not; a token of the machine user is a session too."""
        kind, _, token = call.seen.headers.get("Authorization", "").partition(" ")
        name = token if kind.lower() == "bearer" else call.seen.headers.get("arena_session_id", "")
        return self._sessions.get(name)

    def admit(self, call: Call) -> None:
        """Count the request, whatever its response; logins and requests of unknown sessions are not metered."""
        session = self._session_of(call)
        if session is None or _is_login(call):
            return
        self._renew_quota()
        self._spent += 1
        day = (write_time(self.clock()) or "")[:10]
        self._usage[(day, call.seen.method, _endpoint(call.seen.path), session.user.email)] += 1

    def finish(self, call: Call, reply: Reply) -> Reply:
        """Add the headers of every documented response, and gzip it if configured."""
        given: dict[str, str | None] = {"Server": "ArenaSolutions"}
        reported = self.quota_headers == "always" or (self.quota_headers == "success" and reply.status < 300)
        if reported and self._session_of(call) is not None and not _is_login(call):
            given["X-Arena-Requests-Remaining"] = str(self.remaining)
            given["X-Arena-Next-Request-Limit-Reset"] = write_reset(self.resets_at)
        if self.gzipped and isinstance(reply.body, bytes) and reply.body and _accepts_gzip(call):
            given["Content-Encoding"] = "gzip"
            reply = attrs.evolve(reply, body=gzip.compress(reply.body, mtime=0))
        return reply.adding(given)

    def apply_event(self, event: str, call: Call) -> None:
        """End the session of the request, or change the requested file."""
        if event == "expire_session":
            session = self._session_of(call)
            if session is not None:
                session.alive = False
        elif event == "change":
            requested = [name for name in call.vars.values() if re.fullmatch(r"[0-9A-Z]{15,24}", name)]
            self.change(requested[-1])
        else:
            super().apply_event(event, call)

    def unknown(self, call: Call, *, other_method: bool) -> Reply:  # noqa: ARG002 - the method decides
        """Respond to a path that is not offered."""
        code = 405 if other_method else 404
        return error_reply(
            code, code, "The method is not allowed here." if other_method else "There is nothing here."
        ).reply

    def _guarded(self, handler: Handler, *, multipart: bool = False) -> Callable[[Call], Reply]:
        """Return a handler that first checks session, quota and media type."""

        def checked(call: Call) -> Reply:
            session = self._session_of(call)
            if session is None or not session.alive or self._has_expired(session):
                raise error_reply(401, 401, "There is no session, or it is not valid any more.")
            if self._spent > self.quota:
                limit = f"The limit of {self.quota} requests per day has been reached; it is reset at"
                raise error_reply(429, 4084, f"{limit} {write_time(self.resets_at)}.")
            session.last_action = self.clock()
            self._check_type(call, "multipart/form-data" if multipart else "application/json")
            return handler(call, session.user)

        return checked

    def _has_expired(self, session: Session) -> bool:
        """Return whether a session was idle for too long, or a token has expired."""
        if session.ends is not None:
            return self.clock() >= session.ends
        return self.clock() - session.last_action > _IDLE

    def _check_type(self, call: Call, wanted: str) -> None:
        """Reject a request with another media type than documented, GET included."""
        given = call.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if self.needs_content_type and given != wanted:
            raise error_reply(415, 415, f"The content-type must be {wanted}.")

    def _login(self, call: Call) -> Reply:
        """Log in; the previous session of the same user ends."""
        self._check_type(call, "application/json")
        requested = read_object(call)
        user = self.users.get(str(requested.get("email", "")).lower())
        rejected = error_reply(400, 4001, "The email, the password or the workspace is not right.")
        if user is None:
            raise rejected
        if self.clock() < user.locked_until:
            raise error_reply(400, 4083, "The account is disabled for five minutes after too many attempts.")
        if requested.get("password") != user.password:
            user.rejected += 1
            if user.rejected >= _REJECTIONS:
                user.rejected, user.locked_until = 0, self.clock() + _LOCKED
                raise error_reply(400, 4083, "The account is disabled for five minutes after too many attempts.")
            raise rejected
        if requested.get("workspaceId", self.workspace_id) != self.workspace_id:
            raise rejected
        user.rejected = 0
        for other in self._sessions.values():
            if other.user is user and other.ends is None:
                other.alive = False
        session = Session(f"v1_{self._guid()}{self._guid()}", user, self.lands_in or self.workspace_id, self.clock())
        self._sessions[session.id] = session
        return Reply.json(
            {
                self.session_key: session.id,
                "workspaceId": session.workspace,
                "workspaceName": "Everyroad GPS",
                "workspaceRequestLimit": self.quota,
            }
        )

    def _token(self, call: Call) -> Reply:
        """Issue a token to the machine user; no session ends."""
        form = dict(parse_qsl(call.body.decode("utf-8", "replace"), keep_blank_values=True))
        if form.get("grant_type") != "client_credentials":
            return Reply.json({"error": "unsupported_grant_type"}, status=400)
        if (form.get("client_id"), form.get("client_secret")) != (self.client_id, self.client_secret):
            return Reply.json({"error": "invalid_client"}, status=401)
        now = self.clock()
        session = Session(
            f"jwt.{self._guid()}.{self._guid()}", self.user, self.workspace_id, now, ends=now + self.token_lifetime
        )
        self._sessions[session.id] = session
        lifetime = int(self.token_lifetime)
        return Reply.json({"access_token": session.id, "expires_in": lifetime, "token_type": "Bearer"})

    def _logout(self, call: Call, _user: User) -> Reply:
        session = self._session_of(call)
        if session is not None:
            session.alive = False
        return Reply()


def _is_login(call: Call) -> bool:
    """Return whether a request is a login, which is not metered."""
    return call.seen.method == "POST" and call.seen.path in ("/v1/login", "/oauth2/token")


def _accepts_gzip(call: Call) -> bool:
    """Return whether the client accepts gzip."""
    return "gzip" in call.headers.get("Accept-Encoding", "").lower()


def _endpoint(path: str) -> str:
    """Return a path with placeholders for its guids."""
    return re.sub(r"/[0-9A-Z]{15,24}(?=/|$)", "/<GUID>", unquote(path).removeprefix("/v1"))
