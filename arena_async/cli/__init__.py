"""The command line: parsing and drawing only. Needs the extra ``cli``; start it through ``arena_async.__main__``."""

from __future__ import annotations

__all__: list[str] = []
