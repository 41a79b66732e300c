"""The contract of a store in which processes of one user share one credential."""

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
    No process has a valid credential: the one that receives this logs in, and the others wait for it.

    Args:
        relogins: Recent logins after a rejection, of all processes together.
    """

    relogins: int = 0


@attrs.frozen(kw_only=True)
class LoginPending:
    """
    Another process is logging in.

    Args:
        seconds: Seconds after which to read the store again.
    """

    seconds: float


class CredentialStore(Protocol):
    """A store of one credential for the processes of one user. Every method is one short, atomic step."""

    async def take(self, *, rejected: Credential | None) -> SharedCredential | LoginTurn | LoginPending:
        """
        Return the stored credential, or what to do without one.

        Args:
            rejected: The credential that the service rejected, if any.

        Raises:
            ApiError: The login of another process was rejected.
            StorageError: The store cannot be read or written.
        """
        ...

    async def put(self, credential: Credential, *, relogin: bool) -> None:
        """Store the credential of a login; ``relogin`` if it replaces a rejected one."""
        ...

    async def give_up(self, error: Exception | None) -> None:
        """Let the next process log in; with an error that would only repeat, raise it to the waiting processes."""
        ...

    async def note_use(self, credential: Credential) -> None:
        """Note that a credential is in use now."""
        ...

    async def leave(self, *, rejected: Credential | None) -> Credential | None:
        """
        Note that this process is done with the credential.

        Args:
            rejected: The credential that the service rejected last, if any.

        Returns:
            The credential if it is to be logged out now, since no other process uses it; else None.
        """
        ...

    async def aclose(self) -> None:
        """Release its resources. A stored credential remains."""
        ...
