"""
Who else brings files home: programs and libraries, each asked as its documentation says for many files at once.

What is not installed does not take part. The libraries are looked for in an environment of their own, and in ours.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

__all__ = ["PEERS", "Errand", "Peer", "find", "install", "versions"]

ROOT = Path(__file__).resolve().parents[1]

#: What the libraries are called on PyPI.
LIBRARIES = ("parfive", "pypdl", "obstore", "aiohttp", "aiofiles")

#: Connections for one file, for those who split: as many as aria2 allows.
SPLITS = 16


@attrs.frozen(kw_only=True)
class Errand:
    """
    What a contender is asked to bring.

    Args:
        base: The address of the folder on the web server.
        names: The files in it.
        to: An empty folder.
        executor: A folder for lists and settings.
        connections: At the most, at a time.
        authority: The certificate of who vouches for the server, or None for plain HTTP.
        large: Whether the files are so large that it pays to ask for their size first.
        facts: What a contender needs to know beside that.
    """

    base: str
    names: Sequence[str]
    to: Path
    executor: Path
    connections: int
    authority: Path | None = None
    large: bool = False
    facts: Mapping[str, object] = attrs.field(factory=dict)

    @property
    def splits(self) -> int:
        """Connections for each file: more than one only where there is one file."""
        return SPLITS if len(self.names) == 1 else 1

    def write(self, name: str, lines: Sequence[str]) -> Path:
        """Write a list down."""
        path = self.executor / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def url(self, name: str) -> str:
        """Return the address of a file."""
        return f"{self.base}/{name}"


@attrs.frozen(kw_only=True)
class Peer:
    """
    Somebody else who can be asked.

    Args:
        name: The word for it.
        program: The program that has to be installed, or None for a library.
        command: Gives the command line for an errand.
        python: The interpreter that has the library.
    """

    name: str
    command: Callable[[Errand], list[str | Path]]
    program: str | None = None
    python: str | None = None


def _curl(errand: Errand) -> list[str | Path]:
    lines = [f'url = "{errand.url(name)}"\noutput = "{errand.to / name}"' for name in errand.names]
    trust: list[str | Path] = ["--cacert", errand.authority] if errand.authority else []
    many = ["--parallel", "--parallel-max", str(errand.connections)]
    return [
        "curl",
        "-q",
        "--silent",
        "--show-error",
        "--fail",
        "--http1.1",
        *many,
        *trust,
        "--config",
        errand.write("curl.conf", lines),
    ]


def _same_work(errand: Errand) -> list[str | Path]:
    """Return curl, then ``sha256sum`` and ``sync`` of its files: what a careful script does one after the other."""
    sums, files = str(errand.executor / "sums"), str(errand.to)
    script = 'sums=$1 files=$2; shift 2; "$@" && cd "$files" && find . -type f -print0 > "$sums.names"'
    script += ' && xargs -0 sha256sum < "$sums.names" > "$sums" && xargs -0 sync < "$sums.names" && sync .'
    return ["sh", "-c", script, "sh", sums, files, *_curl(errand)]


def _wget2(errand: Errand) -> list[str | Path]:
    trust = [f"--ca-certificate={errand.authority}"] if errand.authority else []
    split = ["--chunk-size=25M"] if errand.splits > 1 else []
    quiet = ["--no-config", "--quiet", "--no-hsts", "--no-http2"]
    return [
        "wget2",
        *quiet,
        *trust,
        *split,
        f"--max-threads={errand.connections}",
        f"--directory-prefix={errand.to}",
        f"--input-file={errand.write('wget2.txt', [errand.url(name) for name in errand.names])}",
    ]


def _aria2(errand: Errand) -> list[str | Path]:
    lines = [f"{errand.url(name)}\n  out={name}" for name in errand.names]
    trust = [f"--ca-certificate={errand.authority}"] if errand.authority else []
    splits = [f"--split={errand.splits}", f"--max-connection-per-server={errand.splits}", "--min-split-size=1M"]
    quiet = ["--no-conf", "--quiet", "--summary-interval=0", "--file-allocation=falloc", "--disable-ipv6=true"]
    return [
        "aria2c",
        *quiet,
        *trust,
        *splits,
        f"--max-concurrent-downloads={errand.connections}",
        f"--dir={errand.to}",
        f"--input-file={errand.write('aria2.txt', lines)}",
    ]


def _rclone(errand: Errand) -> list[str | Path]:
    trust: list[str | Path] = ["--ca-cert", errand.authority] if errand.authority else []
    listed: list[str | Path] = ["--files-from-raw", errand.write("rclone.txt", list(errand.names)), "--no-traverse"]
    many = ["--transfers", str(errand.connections), "--checkers", str(errand.connections)]
    # Without a size it holds whole files in memory, which makes large ones slow and small ones fast.
    blind = [] if errand.large else ["--http-no-head"]
    where: list[str | Path] = ["--http-url", f"{errand.base}/", ":http:", errand.to]
    return ["rclone", "copy", "--config", "", "--quiet", *trust, *listed, *many, *blind, *where]


def library(name: str, python: str | Path) -> Callable[[Errand], list[str | Path]]:
    """Return the command that runs a contender of `contenders.py` with an interpreter."""

    def command(errand: Errand) -> list[str | Path]:
        facts = {
            **errand.facts,
            "list": str(errand.write("urls.txt", [errand.url(name) for name in errand.names])),
            "connections": errand.connections,
            "splits": errand.splits,
        }
        return [python, "-m", "benchmarks.contenders", name, json.dumps({"facts": facts, "folder": str(errand.to)})]

    return command


#: The programs; the libraries depend on where they are.
PROGRAMS = (
    Peer(name="curl", program="curl", command=_curl),
    Peer(name="same-work", program="curl", command=_same_work),
    Peer(name="aria2", program="aria2c", command=_aria2),
    Peer(name="wget2", program="wget2", command=_wget2),
    Peer(name="rclone", program="rclone", command=_rclone),
)
#: What the libraries are asked with: a contender, and what it imports.
_ASKED = {
    "parfive": ("parfive_urls", "parfive"),
    "pypdl": ("pypdl_urls", "pypdl"),
    "obstore": ("obstore_urls", "obstore"),
    "loop": ("loop_urls", "aiohttp, aiofiles"),
}
#: Everybody, by name.
PEERS = (*(peer.name for peer in PROGRAMS), *_ASKED)


def find(environment: Path | None, *, only: Sequence[str] = ()) -> list[Peer]:
    """
    Return the installed programs.

    Args:
        environment: Where libraries were installed with :func:`install`, or None.
        only: Names, or nothing for all.
    """
    found = [peer for peer in PROGRAMS if peer.program and shutil.which(peer.program)]
    pythons = [str(environment.absolute() / "bin" / "python")] if environment else []
    pythons = [python for python in (*pythons, sys.executable) if Path(python).exists()]
    for name, (contender, modules) in _ASKED.items():
        if only and name not in only:
            continue
        for python in pythons:
            if subprocess.run([python, "-c", f"import {modules}"], capture_output=True, check=False).returncode == 0:
                found.append(Peer(name=name, python=python, command=library(contender, python)))
                break
    return [peer for peer in found if not only or peer.name in only]


def install(environment: Path) -> None:
    """Make an environment with the newest releases of the libraries, or bring it up to date."""
    python = environment.absolute() / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True, symlinks=True)
    quietly = ("--quiet", "--disable-pip-version-check", "--upgrade", "--upgrade-strategy", "eager")
    subprocess.run([python, "-m", "pip", "install", *quietly, *LIBRARIES], check=True, timeout=600)


def versions(peers: Sequence[Peer]) -> dict[str, str]:
    """Return the versions of the contenders, of their libraries and of ours, as they report them."""
    found = {}
    for peer in peers:
        # `same-work` is curl, and two programs of the system.
        if peer.program and peer.name != "same-work":
            said = subprocess.run([peer.program, "--version"], capture_output=True, text=True, check=False).stdout
            numbers = re.findall(r"\d+(?:\.\d+)+", said)
            found[peer.name] = numbers[0] if numbers else "unknown"
    pythons = {str(peer.python): peer for peer in peers if peer.python}
    for python in (*pythons, sys.executable):
        requested = subprocess.run(
            [python, "-c", _VERSIONS, *LIBRARIES, "arena-async"], capture_output=True, text=True, check=True, cwd=ROOT
        )
        found |= {name: said for name, said in json.loads(requested.stdout).items() if name not in found}
    return found


_VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
