"""What the processes of one user have to agree on, so that they share one credential: the contract of its store."""

from __future__ import annotations

from typing import Protocol

import attrs

from arena_async.wire.contracts import Credential

__all__ = ["CredentialStore", "Shared", "Turn", "Wait"]


@attrs.frozen(kw_only=True)
class Shared:
    """
    A credential that another process has got.

    Args:
        credential: The credential.
        age: Seconds since the login.
        rest: Seconds since it was last known to be used.
    """

    credential: Credential
    age: float
    rest: float


@attrs.frozen(kw_only=True)
class Turn:
    """
    Nobody has a credential that is good: whoever gets this logs in, and the others wait for it.

    Args:
        take_backs: How often a session was taken back lately, by all processes together.
    """

    take_backs: int = 0


@attrs.frozen(kw_only=True)
class Wait:
    """
    Another process is logging in.

    Args:
        seconds: Look again after so many.
    """

    seconds: float


class CredentialStore(Protocol):
    """Where the processes of one user find each other's credential. Every verb is one short, undivided step."""

    async def take(self, *, rejected: Credential | None) -> Shared | Turn | Wait:
        """
        Take what is there.

        Args:
            rejected: What the service does not accept any more, if anything.

        Raises:
            ApiError: Another process, whose login was waited for, was refused.
            StorageError: The store cannot be read or written.
        """
        ...

    async def put(self, credential: Credential, *, take_back: bool) -> None:
        """Give what a login brought to everybody; ``take_back`` says that it replaces one that somebody ended."""
        ...

    async def give_up(self, error: Exception | None) -> None:
        """Let the next one try; with a refusal that it would only get again, as an error for those who wait."""
        ...

    async def note_use(self, credential: Credential) -> None:
        """Note that a credential is in use now."""
        ...

    async def aclose(self) -> None:
        """Give back what it holds. What is stored stays."""
        ...
