"""What all sets of Arena's files have in common: how a file is named, laid out, opened, priced and restored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

import attrs

from arena_async.errors import ApiError, ConfigurationError, NotFoundError
from arena_async.net.session import Session
from arena_async.transfer.planning import PlannedFile
from arena_async.wire.contracts import OpenedFile, Price, RemoteFile
from arena_async.wire.messages import Request
from arena_async.wire.urls import origin

__all__ = ["ArenaFiles", "Key", "is_gone", "keys_of", "lay_out", "tenant_of"]

#: What identifies a file of each kind, from the outermost folder to the name.
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "extracts": ("extract", "run", "association"),
    "exports": ("export", "run", "file"),
    "imports": ("import", "run", "part"),
    "items": ("item", "association"),
    "files": ("file", "edition"),
}


@attrs.frozen
class Key:
    """
    What names one file for ever. Its text is the key of a :class:`RemoteFile`.

    Args:
        tenant: The workspace.
        kind: ``extracts``, ``exports``, ``imports``, ``items`` or ``files``.
        names: The values of the identifying fields of that kind, in order.
    """

    tenant: str
    kind: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join(quote(part, safe="") for part in ("arena", self.tenant, self.kind, *self.names))

    @classmethod
    def parse(cls, text: str) -> Key | None:
        """Read a key, or give None for one of another service."""
        service, *parts = (unquote(part) for part in text.split("/"))
        if service != "arena" or len(parts) < 2:
            return None
        tenant, kind, *names = parts
        return cls(tenant, kind, tuple(names)) if len(names) == len(_FIELDS.get(kind, ())) else None


def lay_out(
    key: Key,
    *,
    extension: str,
    change: str,
    changed_at: datetime | None = None,
    name: str | None = None,
    size: int | None = None,
    skip: str | None = None,
) -> RemoteFile:
    """Lay a file out as documented: ``arena/<kind>/<identifying fields>``, the last of them as its name."""
    return RemoteFile(
        key=str(key),
        service="arena",
        tenant=key.tenant,
        parts=("arena", key.kind, *key.names[:-1]),
        stem=key.names[-1],
        extension=extension,
        name=name or "",
        size=size,
        change=change,
        changed_at=changed_at,
        fields=dict(zip(_FIELDS[key.kind], key.names, strict=True)),
        skip=skip,
    )


async def tenant_of(session: Session) -> str:
    """Name the workspace that the login landed in, logging in where that is not known yet."""
    credential = await session.credential()
    base = session.base_url
    workspace = f"workspace {credential.workspace}" if credential.workspace else "last workspace used"
    return f"{origin(base)}{urlsplit(base).path.rstrip('/')} {workspace}"


def keys_of(tenant: str, kind: str, definition: str, run: str = "") -> str:
    """Give what the keys of all files of a definition, or of one of its runs, begin with."""
    return f"{Key(tenant, kind, tuple(filter(None, (definition, run))))}/"


def is_gone(error: ApiError) -> bool:
    """Say whether a refusal means that the object asked for is no more; its guid is not valid then either."""
    return isinstance(error, NotFoundError) or error.code == 3011


class ArenaFiles(ABC):
    """
    A set of files of one kind.

    Args:
        session: Where to ask.
        reserve: Requests the caller wants left untouched, for the price.
    """

    #: The word for the kind in keys and paths.
    kind: str
    #: What is planned can be brought without looking it up again: content is addressed by what a key says.
    restores = True

    def __init__(self, session: Session, *, reserve: int = 0) -> None:
        self._session = session
        self._reserve = reserve

    @property
    @abstractmethod
    def scope(self) -> str:
        """The name of the query, without any secret."""

    @property
    @abstractmethod
    def narrowed(self) -> bool:
        """Whether files that exist may be missing from it."""

    @property
    def requests_sent(self) -> int:
        """Metered requests that the session has sent so far."""
        return self._session.requests_sent

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.scope}>"

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files, as they are asked for."""

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Ask for the content once. Every attempt costs one request.

        Args:
            file: One of this set.
            offset: The first byte to ask for.
            validator: A strong ETag that the file must still have, when ``offset`` is not 0.
            until: The byte to end before, or None.

        Raises:
            ApiError: The service refused; statuses 200, 206, 412 and 416 are returned instead.
            ConfigurationError: The file is not one of this kind of set.
        """
        key = Key.parse(file.key)
        if key is None or key.kind != self.kind:
            raise ConfigurationError(f"{file.key} is no file of {self.kind}; open it with the set that listed it.")
        return await self._session.stream(self._content(key), offset=offset, validator=validator, until=until)

    @abstractmethod
    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """Give fresh entries for some keys of this kind, in any order; what is gone is missing."""

    async def restore(self, rows: Sequence[PlannedFile]) -> list[RemoteFile]:
        """
        Give the entries of planned files of this workspace as they were listed, without a request.

        What has changed since then is brought as it is now and noted as it was listed, so that the next listing finds
        that it is not the newest.
        """
        tenant = await tenant_of(self._session)
        found = []
        for row in rows:
            key = Key.parse(row.key)
            if key is not None and (key.tenant, key.kind) == (tenant, self.kind) and row.change:
                found.append(lay_out(key, extension=row.extension, change=row.change, name=row.name, size=row.size))
        return found

    def since(self, watermark: datetime | None) -> ArenaFiles | Self:  # noqa: ARG002  for the sets that can
        """Give the set of what changed since then if the service can filter on it, else the set itself."""
        return self

    def price(self) -> Price:
        """Say what it costs: requests for one listing at the least, and one for each content. Sends nothing."""
        listing, exact = self._listing()
        quota = self._session.quota
        return Price(
            listing=listing,
            per_file=1,
            exact=exact,
            remaining=quota.remaining if quota is not None else None,
            reserve=self._reserve,
            resets_at=quota.resets_at if quota is not None else None,
        )

    @abstractmethod
    def _listing(self) -> tuple[int, bool]:
        """Give the requests of one listing, and whether that is the exact number."""

    @abstractmethod
    def _content(self, key: Key) -> Request:
        """Build the request for a content."""

    def _mine(self, keys: Collection[str], tenant: str) -> list[Key]:
        """Give those keys that name files of this kind and workspace."""
        parsed = (Key.parse(text) for text in keys)
        return [key for key in parsed if key is not None and (key.tenant, key.kind) == (tenant, self.kind)]

    def _changed(self, changes: Mapping[str, object]) -> Self:
        """Give another set that asks for something else."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **changes)
        return other
