"""
A server that seems farther away: a proxy for bytes that waits, in a process of its own.

``python -m benchmarks.proxy PORT --rtt SECONDS --cap BYTES_PER_SECOND --stall BYTES`` prints its port and passes
everything to the port of a server on loopback, until its standard input ends. What a client sends waits for a whole
round trip, the first bytes of a connection for two, since the handshake of TCP took none; what the server answers waits
for nothing but the cap. That is the same time to the client, and large bodies pass by ``splice`` without a copy here.
After so many bytes of answers it can fall silent once, to whoever is connected then, and print a line that says so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Farther", "farther"]

_PIECE = 1 << 18
#: Seconds of the cap that are passed on in one go.
_TICK = 0.02


class Farther:
    """
    A proxy that runs.

    Attributes:
        port: The port the server has there.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._line())

    def wait_for_silence(self) -> None:
        """Wait until it has fallen silent."""
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def farther(port: int, *, rtt: float = 0.0, cap: float | None = None, stall: int = 0) -> Iterator[Farther]:
    """Put a server of loopback farther away; the proxy ends with the block."""
    settings = ["--rtt", str(rtt), "--cap", str(cap or 0), "--stall", str(stall)]
    command = [sys.executable, "-m", "benchmarks.proxy", str(port), *settings]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        try:
            yield Farther(process)
        finally:
            process.stdin.close()


class _Allowance:
    """Bytes of answers that pass before those who are connected hear nothing any more."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._limited = count > 0
        self._over = threading.Event()
        self._lock = threading.Lock()

    def of_a_connection(self) -> Callable[[int], object]:
        """Return the limiter of a new connection. Connections after the silence are not affected."""
        return self._spend if self._limited and not self._over.is_set() else int

    def _spend(self, count: int) -> None:
        """Let bytes pass, or wait for ever."""
        with self._lock:
            self._left -= count
            if self._left <= 0 and not self._over.is_set():
                self._over.set()
                print("silent", flush=True)
        if self._over.is_set():
            threading.Event().wait()


def serve(port: int, *, rtt: float, cap: float, stall: int) -> None:
    """Pass bytes on until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    allowance = _Allowance(stall)
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for target, arguments in (
                (_request, (client, server, rtt)),
                (_answer, (server, client, cap, allowance.of_a_connection())),
            ):
                threading.Thread(target=target, args=arguments, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


def _request(client: socket.socket, server: socket.socket, rtt: float) -> None:
    """Pass on what the client sends, a round trip later."""
    wait = 2 * rtt
    with contextlib.suppress(OSError):
        while piece := client.recv(_PIECE):
            if rtt:
                time.sleep(wait)
                wait = rtt
                # What came meanwhile is of the same flight.
                with contextlib.suppress(BlockingIOError):
                    piece += client.recv(_PIECE, socket.MSG_DONTWAIT)
            server.sendall(piece)
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_WR)


def _answer(server: socket.socket, client: socket.socket, cap: float, spend: Callable[[int], object]) -> None:
    """Pass on what the server answers, so many bytes a second."""
    maximum = min(_PIECE, int(cap * _TICK)) if cap else _PIECE
    out, into = os.pipe()
    free_at = 0.0
    with contextlib.suppress(OSError):
        while count := os.splice(server.fileno(), into, maximum):
            left = count
            while left:
                left -= os.splice(out, client.fileno(), left)
            spend(count)
            if cap:
                now = time.monotonic()
                # An idle connection may not save its share up.
                free_at = max(free_at, now - _TICK) + count / cap
                if free_at > now:
                    time.sleep(free_at - now)
    for end in (out, into):
        os.close(end)
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--rtt", type=float, default=0.0)
    parser.add_argument("--cap", type=float, default=0.0)
    parser.add_argument("--stall", type=int, default=0)
    given = parser.parse_args()
    serve(given.port, rtt=given.rtt, cap=given.cap, stall=given.stall)


if __name__ == "__main__":
    main()
