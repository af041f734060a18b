# SPDX-License-Identifier: GPL-2.0-or-later
"""Replays hostile cases on real programs, and watches what becomes of everything else.

    python -m benchmarks.hostile SOURCE [--qemu BIN]... [--most N]

SOURCE is a directory of case files, or ``module:function`` that returns pairs of a name and a
trace. Each is replayed by the command line, on the storage daemon and on the system emulator, and
must end by itself within 20 seconds, with a documented status and no traceback. Meanwhile a
directory outside must not change (in the cases, ``/etc/passwd`` and ``@CANARY@`` lead there), no
network socket be open, no program but the daemon run, and nothing be left behind. Status 1
if anything is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.killing import DAEMONS, Place, descendants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.values.trace import Trace

LONGEST: Final = 20.0
"""Seconds that a case may take."""
STATUSES: Final = (0, 1, 2, 4)
"""How a replay may end: it agrees, does not, was refused, is outside the spec."""
OURS: Final = (*DAEMONS, "reopencheck", "python", "sh", "qemu-img", "qemu-io", "unshare")
"""What the kernel may call the processes of a replay, or how such a name begins."""
_CANARIES: Final = ("@CANARY@", "/etc/passwd")
_ESTABLISHED_OR_LISTENING: Final = ("tcp", "tcp6", "udp", "udp6")


def documents(source: str) -> Iterator[tuple[str, str]]:
    """Each hostile case: its name, and its text."""
    module, _, function = source.partition(":")
    if not function:
        for path in sorted(Path(source).glob("*.json")):
            yield path.name, path.read_text(encoding="utf-8", errors="surrogateescape")
        return
    for name, trace in getattr(importlib.import_module(module), function)():
        with contextlib.suppress(ValueError, RecursionError):
            yield name, json.dumps(document(name, trace))


def document(name: str, trace: Trace) -> dict[str, Any]:
    """A trace as a case that expects every command to be accepted."""
    images = []
    for image in trace.images:
        entry: dict[str, Any] = {"name": image.name, "format": image.format, "size": image.size}
        if image.backing is not None:
            entry["backing"] = image.backing
        if image.backing_format is not None:
            entry["backing-format"] = image.backing_format
        if image.data:
            entry["data"] = [list(run) for run in image.data]
        images.append(entry)
    return {
        "reopencheck-case": 1,
        "kind": "divergence",
        "signature": "hostile",
        "title": str(name),
        "dialect": "qemu-7.2",
        "images": images,
        "steps": [
            {"command": each, "expected": {"reply": {"return": {}}}} for each in trace.commands
        ],
    }


class Watch(threading.Thread):
    """Looks at the processes of one replay again and again until it is told to stop."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self._root = root
        self._over = threading.Event()

    def stop(self) -> set[str]:
        """Stop, and return what was seen that should not be there."""
        self._over.set()
        self.join()
        return self.seen

    def run(self) -> None:
        """Look every ten milliseconds."""
        while not self._over.wait(0.01):
            for pid in descendants(self._root):
                with contextlib.suppress(OSError):
                    self._look(pid)

    def _look(self, pid: int) -> None:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        if not name.startswith(OURS):
            self.seen.add(f"a program runs: {name}")
        sockets = set()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                sockets.add(target[len("socket:[") : -1])
        for protocol in _ESTABLISHED_OR_LISTENING if sockets else ():
            table = Path(f"/proc/{pid}/net/{protocol}").read_text(encoding="ascii")
            for line in table.splitlines()[1:]:
                if line.split()[9] in sockets:
                    self.seen.add(f"{name} has a network socket: {protocol}")


def fingerprint(directory: Path) -> dict[str, str]:
    """What lies in a directory: names, and digests of what is in the files."""
    found = {}
    for path in sorted(directory.rglob("*")):
        kind = "socket or pipe" if not path.is_file() else ""
        found[str(path.relative_to(directory))] = (
            kind or hashlib.sha256(path.read_bytes()).hexdigest()
        )
    return found


def attempt(place: Place, canary: Path, text: str, qemu: str) -> list[str]:
    """What is wrong about the replay of a case: a line each."""
    for word in _CANARIES:
        text = text.replace(word, str(canary / "passwd"))
    case = place.path / "case.json"
    case.write_text(text, encoding="utf-8", errors="surrogateescape")
    before = fingerprint(canary)
    start = time.monotonic()
    process = place.start(["replay", str(case), "--qemu", qemu], "replay", cases=False)
    watch = Watch(process.pid)
    watch.start()
    late: list[str] = []
    while process.poll() is None:
        if time.monotonic() - start > LONGEST and not late:
            late.append(f"it takes longer than {LONGEST:.0f} s")
            process.kill()
        time.sleep(0.005)
    ended = place.end(process, "replay")
    found = [*late, *sorted(watch.stop())]
    if not late and ended.status not in STATUSES:
        found.append(f"status {ended.status}")
    if "Traceback" in ended.error or "internal error" in ended.error:
        found.append(f"an exception: {ended.error.strip().splitlines()[-1][:200]}")
    after = fingerprint(canary)
    changed = sorted(name for name in before.keys() | after if before.get(name) != after.get(name))
    found += [f"outside was touched: {name}" for name in changed]
    return found + [f"left {line}" for line in place.leftovers()]


def main() -> int:
    """Run the benchmark; status 1 if a case did what it should not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("source")
    parser.add_argument("--qemu", action="append", help="by default both programs of the system")
    parser.add_argument("--most", type=int, default=10_000, help="cases that are tried")
    options = parser.parse_args()
    sys.path.insert(0, str(Path.cwd()))
    tried = wrong = 0
    longest = 0.0
    for name, text in list(documents(options.source))[: options.most]:
        for qemu in options.qemu or ("qemu-storage-daemon", "qemu-system-x86_64"):
            # A place of its own for each: what one leaves must not be charged to the next.
            with Place() as place:
                canary = place.path / "outside"
                canary.mkdir()
                (canary / "passwd").write_bytes(os.urandom(1 << 20))
                start = time.monotonic()
                found = attempt(place, canary, text, qemu)
                longest = max(longest, time.monotonic() - start)
            tried += 1
            wrong += bool(found)
            for line in found:
                print(f"WRONG  {name} on {qemu}: {line}", flush=True)
    met = bool(tried) and not wrong
    print(f"{tried} replays, {wrong} wrong, the longest took {longest:.1f} s")
    print(f"bar: nothing outside is touched, nothing left: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
