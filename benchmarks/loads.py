"""The work that everybody does: so many files of such a size, so far away. Values only."""

from __future__ import annotations

import attrs

__all__ = ["GB", "LOADS", "MB", "Load"]

KB, MB, GB = 1000, 1_000_000, 1_000_000_000


@attrs.frozen(kw_only=True)
class Load:
    """
    Files to bring home from a web server.

    Args:
        name: The word for it.
        what: The work in a few words.
        files: How many.
        size: Bytes of each.
        gzip: Whether they are gzip files, whose checksum can be verified; else they are noise.
        tls: Whether they come over TLS.
        rtt: Seconds a request and its answer take for the way alone.
        cap: Bytes a second that one connection brings at the most, or None.
    """

    name: str
    what: str
    files: int
    size: int
    gzip: bool = False
    tls: bool = False
    rtt: float = 0.0
    cap: float | None = None

    def scaled(self, scale: float) -> Load:
        """Return a part of the work: fewer files, and where one is left, a smaller one."""
        return attrs.evolve(
            self,
            files=max(1, round(self.files * scale)),
            size=max(1000, round(self.size * min(1.0, self.files * scale))),
        )

    @property
    def bytes(self) -> int:
        """Bytes in all, about."""
        return self.files * self.size

    @property
    def proxied(self) -> bool:
        """Whether it is farther away than loopback."""
        return bool(self.rtt or self.cap)


S = Load(name="S", what="3,000 files of 20 KB", files=3000, size=20 * KB)
M = Load(name="M", what="300 files of 4 MB", files=300, size=4 * MB)
L = Load(name="L", what="6 files of 400 MB", files=6, size=400 * MB)
_FAR = "50 ms away"

#: In the order in which they are run and shown.
LOADS = (
    S,
    M,
    L,
    attrs.evolve(S, name="S15", what="15,000 files of 20 KB", files=15_000),
    attrs.evolve(S, name="S-tls", what=f"{S.what}, TLS", tls=True),
    attrs.evolve(M, name="M-tls", what=f"{M.what}, TLS", tls=True),
    attrs.evolve(L, name="L-tls", what=f"{L.what}, TLS", tls=True),
    attrs.evolve(L, name="L-gzip", what="6 gzip files of 400 MB", gzip=True),
    attrs.evolve(
        S, name="S-far", what=f"1,500 files of 20 KB, {_FAR}, 20 MB/s a connection", files=1500, rtt=0.05, cap=20 * MB
    ),
    attrs.evolve(M, name="M-far", what=f"{M.what}, {_FAR}, 20 MB/s a connection", rtt=0.05, cap=20 * MB),
    attrs.evolve(
        L, name="one-far", what=f"1 file of 400 MB, {_FAR}, 20 MB/s a connection", files=1, rtt=0.05, cap=20 * MB
    ),
)
