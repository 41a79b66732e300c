"""
Where the files come from: nginx with one worker on loopback, plain and with TLS, HTTP/1.1.

Every file begins and ends with a mark of its own, so that it can be told cheaply that all have arrived whole.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import shutil
import socket
import subprocess
import time
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks.loads import Load

__all__ = [
    "DECLARED",
    "MARK",
    "Origin",
    "directory_name",
    "file_name",
    "find_nginx",
    "mark",
    "serving_files",
    "write_gzip",
]

#: Bytes of the mark at both ends of a file.
MARK = 16

#: Below this the same files have a ``Content-MD5``, as the storage of the services gives one.
DECLARED = "/vouched"

_BLOCK = 4_000_000
_CONF = """\
worker_processes 1;
daemon off;
error_log {home}/error.log;
pid {home}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/octet-stream;
    map_hash_max_size 65536;
    map_hash_bucket_size 128;
    map $uri $md5 {{ include {data}/*.md5; }}
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
    uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
    server {{
        listen 127.0.0.1:{plain} backlog=4096;
        listen 127.0.0.1:{tls} ssl backlog=4096;
        ssl_certificate {home}/server.pem;
        ssl_certificate_key {home}/server.pem;
        root {data};
        location / {{ autoindex on; }}
        location {declared}/ {{ alias {data}/; add_header Content-MD5 $md5; }}
        location = /status {{ stub_status; }}
    }}
}}
"""


@attrs.frozen(kw_only=True)
class Origin:
    """
    A running web server.

    Args:
        data: The folder it serves.
        plain: Its port without TLS.
        tls: Its port with TLS.
        authority: The certificate of the authority that vouches for it.
    """

    data: Path
    plain: int
    tls: int
    authority: Path

    def requests(self) -> int:
        """Return the requests it has answered, this one included."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.plain}/status") as answer:
            lines = answer.read().decode().splitlines()
        return int(lines[2].split()[2])


def directory_name(load: Load) -> str:
    """Return the name of the folder of a load."""
    return f"{'gzip' if load.gzip else 'noise'}-{load.files}-{load.size}"


def _make(data: Path, load: Load) -> None:
    """Make the files of a load where they are not there yet, and the list of their digests."""
    name = directory_name(load)
    building, lines = data / f"{name}.building", []
    if (data / f"{name}.md5").exists():
        return
    shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(data / name, ignore_errors=True)
    building.mkdir()
    write = write_gzip if load.gzip else _write_noise
    for number in range(load.files):
        path = building / file_name(load, number)
        write(path, mark(number), load.size)
        with path.open("rb") as file:
            digest = base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
        lines.append(f"{DECLARED}/{name}/{path.name} {digest};\n")
    building.rename(data / name)
    (data / f"{name}.md5").write_text("".join(lines))


def file_name(load: Load, number: int) -> str:
    """Return the name of a file of a load."""
    return f"{number:06d}.csv.gz" if load.gzip else f"{number:06d}.bin"


def mark(number: int) -> bytes:
    """Return the mark of a file."""
    return f"<file {number:08d}>\n".encode()[:MARK].ljust(MARK, b".")


def _write_noise(path: Path, name: bytes, size: int) -> None:
    """Write what cannot be made smaller."""
    source = random.Random(_BLOCK)
    block = source.randbytes(min(size, _BLOCK))
    with path.open("wb") as file:
        file.write(name)
        left = size - 2 * MARK
        while left > 0:
            piece = block[:left]
            file.write(piece)
            left -= len(piece)
            # No two blocks are alike.
            block = block[4099:] + block[:4099]
        file.write(name)


def write_gzip(path: Path, name: bytes, size: int) -> None:
    """Write a gzip file of many members, with a mark in its first comment and in its last."""
    source = random.Random(size)
    lines = "".join(f"{source.random():.6f},{source.random():.4f},{source.randrange(999)}\n" for _ in range(70_000))
    packed = zlib.compressobj(6, wbits=-15)
    raw = packed.compress(lines.encode()) + packed.flush()
    check = zlib.crc32(lines.encode()).to_bytes(4, "little") + (len(lines) & 0xFFFFFFFF).to_bytes(4, "little")
    member = b"\x1f\x8b\x08\x10\0\0\0\0\0\xff" + name.rstrip(b"\n.") + b"\0" + raw + check
    with path.open("wb") as file:
        for _ in range(max(1, size // len(member))):
            file.write(member)


def find_nginx() -> str | None:
    """Return the program, also where only root has it on its path, or None."""
    return shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _certify(home: Path) -> Path:
    """Make an authority and a certificate of it for loopback."""
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(home / "server.pem")
    authority.cert_pem.write_to_path(home / "authority.pem")
    return home / "authority.pem"


@contextmanager
def serving_files(home: Path, loads: Iterable[Load], *, data: Path | None = None) -> Iterator[Origin]:
    """
    Start nginx; it ends with the block.

    Args:
        home: Where its own files go.
        loads: What it is to serve.
        data: Where the content is made and left; None for a passing place.

    Raises:
        SystemExit: nginx is not installed, or does not start.
    """
    program = find_nginx()
    if program is None:
        raise SystemExit("nginx is not installed; `apt install nginx-light` or `brew install nginx` brings it.")
    home.mkdir(parents=True)
    content = data or home / "data"
    content.mkdir(parents=True, exist_ok=True)
    for load in loads:
        _make(content.resolve(), load)
    # The worker may run as another user than we do.
    for place in (home, content):
        place.chmod(0o755)
    origin = Origin(data=content.resolve(), plain=_free_port(), tls=_free_port(), authority=_certify(home))
    conf = home / "nginx.conf"
    user = "user root;\n" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    conf.write_text(
        user + _CONF.format(home=home, data=origin.data, declared=DECLARED, plain=origin.plain, tls=origin.tls)
    )
    with subprocess.Popen([program, "-c", str(conf), "-e", str(home / "error.log")]) as process:
        try:
            _wait(origin, process)
            yield origin
        finally:
            process.terminate()


def _wait(origin: Origin, process: subprocess.Popen[bytes]) -> None:
    """Wait until it answers."""
    for _ in range(500):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            origin.requests()
            return
        time.sleep(0.01)
    raise SystemExit("nginx does not start.")
