"""Files from a list of URLs, without an account."""

from __future__ import annotations

from arena_async.providers.urls.files import UrlSet, UrlSettings
from arena_async.providers.urls.links import Link

__all__ = ["Link", "UrlSet", "UrlSettings"]
