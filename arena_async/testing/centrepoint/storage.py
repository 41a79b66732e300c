"""
The file host of the simulated CentrePoint: storage that accepts signed links only.

A link is signed as with a user delegation key; the parameters are those of the documented sample. Its responses are
those of Azure Blob Storage: XML with a code, the code in a header too, ``If-Match`` honoured and ``If-Range`` ignored.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import formatdate
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import attrs

from arena_async.testing.centrepoint.content import SteadyContent, digests
from arena_async.testing.replies import Call, ErrorReply, Reply, content_reply

__all__ = ["NAMESPACE", "STORAGE_VERSION", "Storage", "storage_error"]

NAMESPACE = UUID("444eeefb-b1cf-4b7b-804f-65129cd5fa9e")
STORAGE_VERSION = "2022-11-02"
_TENANT = "c004fd6f-8ed9-42bd-9303-191038d839e2"


class Storage:
    """
    Signs links and serves them.

    Args:
        clock: Returns the time in seconds since 1970.
        content_md5: Whether it sends the MD5 of its files.
    """

    def __init__(self, *, clock: Callable[[], float], content_md5: bool = True) -> None:
        self.content_md5 = content_md5
        #: Requests that had a credential; there must never be one.
        self.breaches: list[str] = []
        self._clock = clock
        self._signing_key = b"user delegation key 1"

    def expire_links(self) -> None:
        """Expire all links issued so far, as when the key that signed them is revoked."""
        self._signing_key = hashlib.sha256(self._signing_key).digest()

    def link(self, origin: str, path: str, *, now: datetime, ends: datetime) -> str:
        """Sign a link to ``path``, percent-encoded as it goes out."""
        began, until = f"{now:%Y-%m-%dT%H:%M:%SZ}", f"{ends:%Y-%m-%dT%H:%M:%SZ}"
        query = {
            "skoid": str(NAMESPACE),
            "sktid": _TENANT,
            "skt": began,
            "ske": until,
            "sks": "b",
            "skv": STORAGE_VERSION,
            "sv": STORAGE_VERSION,
            "se": until,
            "sr": "b",
            "sp": "r",
        }
        return f"{origin}{path}?{urlencode({**query, 'sig': self._signature(path, query)})}"

    def check(self, call: Call) -> None:
        """
        Check that a request has a valid link and no credential.

        Raises:
            ErrorReply: It has a credential, or its link is invalid or has expired.
        """
        for name in ("Authorization", "arena_session_id", "Cookie"):
            if name in call.headers:
                self.breaches.append(f"{call.seen.method} {call.seen.path}: {name}")
                raise ErrorReply(
                    storage_error(400, "InvalidAuthenticationInfo", "Another credential came beside the link.")
                )
        query, path = dict(call.query), call.seen.target.partition("?")[0]
        try:
            ends = datetime.fromisoformat(query.get("se", "")).timestamp()
        except ValueError:
            ends = 0.0
        if not hmac.compare_digest(query.get("sig", "").encode(), self._signature(path, query).encode()):
            raise ErrorReply(storage_error(403, "AuthenticationFailed", "Signature did not match."))
        if ends <= self._clock():
            said = f"Signed expiry time [{formatdate(ends, usegmt=True)}] must be after now."
            raise ErrorReply(storage_error(403, "AuthenticationFailed", said))

    def serve(self, call: Call, content: SteadyContent, *, etag: str, modified: datetime) -> Reply:
        """Return a file or a range of it. This kind of storage ignores ``If-Range``."""
        md5 = base64.b64encode(bytes.fromhex(digests(content)[0])).decode() if self.content_md5 else None
        kept = {name.lower(): value for name, value in call.headers.items() if name.lower() in ("range", "if-match")}
        reply = content_reply(
            attrs.evolve(call, headers=_CaseBlind(kept)),
            content,
            etag=etag,
            ranges=True,
            headers={"Last-Modified": formatdate(modified.timestamp(), usegmt=True)},
        )
        if reply.status == 412:
            return storage_error(412, "ConditionNotMet", "The condition specified is not met.")
        if reply.status == 416:
            error = storage_error(416, "InvalidRange", "The range specified is invalid.")
            return error.adding({"Content-Range": f"bytes */{content.size}"})
        # A 206 has no Content-MD5: that would be of the range. The other header is of the complete file in both.
        return reply.adding(
            {"x-ms-blob-type": "BlockBlob", "x-ms-blob-content-md5": md5}
            | ({"Content-MD5": md5} if reply.status == 200 else {})
        )

    def _signature(self, path: str, query: Mapping[str, str]) -> str:
        text = "\n".join((path, *(f"{name}={query[name]}" for name in sorted(query) if name != "sig")))
        return base64.b64encode(hmac.digest(self._signing_key, text.encode(), "sha256")).decode()


class _CaseBlind(dict[str, str]):
    """Headers with names in lower case, looked up regardless of case."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value under ``name``, or ``default``."""
        return super().get(name.lower(), default)


def storage_error(status: int, code: str, words: str) -> Reply:
    """Return an error of the storage service: XML, and the code in a header."""
    body = (
        f'\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code>'
        f"<Message>Server failed to process the request.</Message>"
        f"<AuthenticationErrorDetail>{words}</AuthenticationErrorDetail></Error>"
    )
    headers = {"Content-Type": "application/xml", "x-ms-error-code": code, "x-ms-request-id": "simulated"}
    return Reply(status=status, headers=headers, body=body.encode())
