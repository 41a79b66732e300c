"""Base of all file sets of Arena: keys, layout on disk, opening, cost and restoring from a plan."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

import attrs

from arena_async.errors import ApiError, ConfigurationError, NotFoundError
from arena_async.http.session import Session
from arena_async.protocol.files import Cost, OpenedFile, RemoteFile
from arena_async.protocol.messages import Request
from arena_async.protocol.urls import origin
from arena_async.transfer.models import PlannedFile

__all__ = ["ArenaFiles", "FileFacts", "Key", "is_gone", "keys_of", "lay_out", "tenant_of"]

#: The fields that identify a file of each kind, from the outermost directory to the name.
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
    The stable identity of one file. Its text is the key of a :class:`RemoteFile`.

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
        """Read a key; None for one of another service."""
        service, *parts = (unquote(part) for part in text.split("/"))
        if service != "arena" or len(parts) < 2:
            return None
        tenant, kind, *names = parts
        return cls(tenant, kind, tuple(names)) if len(names) == len(_FIELDS.get(kind, ())) else None


@attrs.frozen
class FileFacts:
    """
    The metadata of a file in a listing. Its fields are stored as cached facts, in this order.

    Args:
        guid: The last of the identifying fields.
        name: The vendor's file name.
        size: Its length in bytes.
        skip: Why it has no content.
    """

    guid: str
    name: str | None = None
    size: int | None = None
    skip: str | None = None


def lay_out(
    key: Key, facts: FileFacts, *, extension: str, change: str, changed_at: datetime | None = None
) -> RemoteFile:
    """Return the entry of a file at ``arena/<kind>/<identifying fields>``, the last of them as its name."""
    return RemoteFile(
        key=str(key),
        service="arena",
        tenant=key.tenant,
        parts=("arena", key.kind, *key.names[:-1]),
        stem=key.names[-1],
        extension=extension,
        name=facts.name or "",
        size=facts.size,
        change=change,
        changed_at=changed_at,
        fields=dict(zip(_FIELDS[key.kind], key.names, strict=True)),
        skip=facts.skip,
    )


async def tenant_of(session: Session) -> str:
    """Return the name of the workspace of the session, after a login where that is not known yet."""
    credential = await session.credential()
    base = session.base_url
    workspace = f"workspace {credential.workspace}" if credential.workspace else "last workspace used"
    return f"{origin(base)}{urlsplit(base).path.rstrip('/')} {workspace}"


def keys_of(tenant: str, kind: str, definition: str, run: str = "") -> str:
    """Return the prefix of the keys of all files of a definition, or of one of its runs."""
    return f"{Key(tenant, kind, tuple(filter(None, (definition, run))))}/"


def is_gone(error: ApiError) -> bool:
    """Return whether an error means that the requested object is gone; its guid is not valid then either."""
    return isinstance(error, NotFoundError) or error.code == 3011


class ArenaFiles(ABC):
    """
    A set of files of one kind.

    Args:
        session: The session.
        reserve: Requests that the cost estimate leaves to others.
    """

    #: The word for the kind in keys and paths.
    kind: str
    #: Planned files can be downloaded without another look-up: a key has everything that addresses the content.
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
        """List the files; pages are requested as they are read."""

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Request the content once. Every attempt costs one request.

        Args:
            file: One of this set.
            offset: The first byte to request.
            validator: A strong ETag that the file must still have, when ``offset`` is not 0.
            until: The byte to end before, or None.

        Raises:
            ApiError: The service responded with an error; statuses 200, 206, 412 and 416 are returned instead.
            ConfigurationError: The file is not one of this kind of set.
        """
        key = Key.parse(file.key)
        if key is None or key.kind != self.kind:
            raise ConfigurationError(f"{file.key} is no file of {self.kind}; open it with the set that listed it.")
        return await self._session.stream(self._content(key), offset=offset, validator=validator, until=until)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """Return fresh entries for some keys of this kind, in any order; what is gone is missing."""
        tenant = await tenant_of(self._session)
        groups: dict[str, list[Key]] = {}
        for text in keys:
            key = Key.parse(text)
            if key is not None and (key.tenant, key.kind) == (tenant, self.kind):
                groups.setdefault(key.names[0], []).append(key)
        wanted, found = frozenset(keys), {}
        for first, members in groups.items():
            try:
                async for file in self._look_up(tenant, first, members):
                    if file.key in wanted:
                        found[file.key] = file
            except ApiError as error:
                if not is_gone(error):
                    raise
        return list(found.values())

    async def restore(self, rows: Sequence[PlannedFile]) -> list[RemoteFile]:
        """
        Return the entries of planned files of this workspace as they were listed, without a request.

        What has changed since then is downloaded as it is now and recorded as it was listed, so that the next listing
        finds that it is not the newest.
        """
        tenant = await tenant_of(self._session)
        found = []
        for row in rows:
            key = Key.parse(row.key)
            if key is not None and (key.tenant, key.kind) == (tenant, self.kind) and row.change:
                facts = FileFacts(key.names[-1], row.name, row.size)
                found.append(lay_out(key, facts, extension=row.extension, change=row.change))
        return found

    def since(self, watermark: datetime | None) -> Self:  # noqa: ARG002  for the sets that can
        """Return the set of what changed since then if the service can filter on it, else the set itself."""
        return self

    def cost(self) -> Cost:
        """Return the cost: at least the requests of one listing, and one for each content. Sends nothing."""
        listing, exact = self._listing()
        quota = self._session.quota
        return Cost(
            listing=listing,
            per_file=1,
            exact=exact,
            remaining=quota.remaining if quota is not None else None,
            reserve=self._reserve,
            resets_at=quota.resets_at if quota is not None else None,
        )

    @abstractmethod
    def _listing(self) -> tuple[int, bool]:
        """Return the requests of one listing, and whether that is the exact number."""

    @abstractmethod
    def _content(self, key: Key) -> Request:
        """Build the request for a content."""

    @abstractmethod
    def _look_up(self, tenant: str, first: str, keys: Sequence[Key]) -> AsyncIterator[RemoteFile]:
        """List at least the files of some keys with the same first field; a not-found error means that it is gone."""

    def _changed(self, **changes: object) -> Self:
        """Return a copy of the set with other attributes."""
        other = copy(self)
        other.__dict__.update(changes)
        return other
