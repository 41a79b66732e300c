"""
A process that looks at final names all the time and hashes what is there.

``python watching_child.py '{"a/path": "its sha256", ...}'`` prints ``looking``, looks until standard input ends, and
prints one line of JSON: how often it looked at how many whole files, and everything that was not as it has to be.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from pathlib import Path

__all__: list[str] = []


def _look(wanted: dict[str, str], stop: threading.Event) -> dict[str, object]:
    looks, whole, wrong = 0, 0, []
    while not stop.is_set():
        looks, seen = looks + 1, 0
        for path, digest in wanted.items():
            try:
                content = Path(path).read_bytes()
            except FileNotFoundError:
                continue
            if hashlib.sha256(content).hexdigest() == digest:
                seen += 1
            else:
                wrong.append(f"{Path(path).name} had {len(content)} bytes at look {looks}")
        whole = max(whole, seen)
    return {"looks": looks, "whole": whole, "wrong": wrong}


def _main() -> None:
    stop = threading.Event()

    def wait() -> None:
        os.read(0, 1)
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    sys.stdout.write("looking\n")
    sys.stdout.flush()
    sys.stdout.write(json.dumps(_look(json.loads(sys.argv[1]), stop)))


if __name__ == "__main__":
    _main()
