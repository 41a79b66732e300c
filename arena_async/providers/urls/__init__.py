"""Files at addresses that somebody has in a list: no account, no service, the same pool."""

from __future__ import annotations

from arena_async.providers.urls.files import UrlSet
from arena_async.providers.urls.links import Link

__all__ = ["Link", "UrlSet"]
