"""The contract of a store in which the processes of one user share one credential."""

from __future__ import annotations

from typing import Protocol

import attrs

from arena_async.protocol.adapter import Credential

__all__ = ["CredentialStore", "LoginPending", "LoginTurn", "SharedCredential"]


@attrs.frozen(kw_only=True)
class SharedCredential:
    """
    A credential of another process.

    Args:
        credential: The credential.
        age: Seconds since the login.
        rest: Seconds since it was last known to be used.
    """

    credential: Credential
    age: float
    rest: float


@attrs.frozen(kw_only=True)
class LoginTurn:
    """
    No process has a credential that is good: the one that gets this logs in, and the others wait for it.

    Args:
        relogins: How often a session was renewed lately after a rejection, by all processes together.
    """

    relogins: int = 0


@attrs.frozen(kw_only=True)
class LoginPending:
    """
    Another process is logging in.

    Args:
        seconds: Seconds after which to look again.
    """

    seconds: float


class CredentialStore(Protocol):
    """Where the processes of one user find each other's credential. Every method is one short, atomic step."""

    async def take(self, *, rejected: Credential | None) -> SharedCredential | LoginTurn | LoginPending:
        """
        Return what is stored.

        Args:
            rejected: The credential that the service does not accept any more, if any.

        Raises:
            ApiError: The login of another process, which was waited for, was rejected.
            StorageError: The store cannot be read or written.
        """
        ...

    async def put(self, credential: Credential, *, relogin: bool) -> None:
        """Store the credential of a login; ``relogin`` says that it replaces one that was rejected."""
        ...

    async def give_up(self, error: Exception | None) -> None:
        """Let the next process try; with a rejection that it would only get again, as an error for those who wait."""
        ...

    async def note_use(self, credential: Credential) -> None:
        """Note that a credential is in use now."""
        ...

    async def aclose(self) -> None:
        """Release what it holds. What is stored stays."""
        ...
