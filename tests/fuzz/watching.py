# SPDX-License-Identifier: GPL-2.0-or-later
"""Counting what goes wrong: one bucket for each place, with the first input that shows it."""

from __future__ import annotations

import argparse
import os
import re
import reprlib
import resource
import signal
import sys
import traceback
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 20
"""Processor time after which an input counts as one that never ends."""
BYTES: Final = 1 << 30
"""Memory that an input may take besides what is in use; then it is an error."""
INPUTS: Final = "REOPENCHECK_FUZZ_INPUTS"
"""The environment variable that changes how many inputs each test tries."""


class EndlessError(BaseException):
    """An input took all of its time. Nothing that handles exceptions may take it for one."""


@attrs.define
class Faults:
    """What went wrong, by place.

    ``inputs`` counts all, ``accepted`` those that were taken; ``about`` is shown with the examples.
    """

    about: str = ""
    inputs: int = 0
    accepted: int = 0
    buckets: Counter[str] = attrs.Factory(Counter)
    examples: dict[str, str] = attrs.Factory(dict)
    first: dict[str, object] = attrs.Factory(dict)

    def add(self, bucket: str, shown: object) -> None:
        """Count a fault, and keep the first input of its bucket."""
        self.buckets[bucket] += 1
        self.first.setdefault(bucket, shown)
        self.examples.setdefault(bucket, f"{self.about} {_short(shown)}".lstrip())

    @contextmanager
    def watch(self, shown: object, *allowed: type[Exception]) -> Iterator[None]:
        """Count an exception, unless it is a documented one, and what takes too long."""
        try:
            with _limited():
                yield
        except allowed:
            pass
        except (Exception, EndlessError) as error:  # noqa: BLE001  # each is a fault to be counted
            self.add(_place(error), shown)

    def text(self) -> str:
        """What people read: a line for each bucket, the most frequent first."""
        lines = [f"{self.inputs} inputs, {self.accepted} accepted, {self.buckets.total()} faults"]
        for bucket, count in self.buckets.most_common():
            lines.append(f"{count:6}  {bucket}")
            lines.append(f"        {self.examples[bucket]}")
        return "\n".join(lines)


@contextmanager
def _limited() -> Iterator[None]:
    """Let an input take :data:`SECONDS` of processor time and :data:`BYTES`, and no more."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise EndlessError

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit, most = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _place(error: BaseException) -> str:
    """The kind of an exception, and the innermost line of ours that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if Path(f.filename).is_relative_to(ROOT) and "/tests/" not in f[0]]
    ours = [frame for frame in ours if "site-packages" not in frame.filename]
    if not ours:
        return type(error).__name__
    last = ours[-1]
    return f"{type(error).__name__} in {Path(last.filename).relative_to(ROOT)}:{last.name}"


def _short(shown: object) -> str:
    shortener = reprlib.Repr()
    shortener.maxlevel = 8
    shortener.maxdict = shortener.maxlist = 12
    shortener.maxstring = shortener.maxother = shortener.maxlong = 120
    try:
        return ascii(shortener.repr(shown))[:700]
    except (ValueError, RecursionError):
        return f"a {type(shown).__name__} that cannot be shown"


def inputs(usual: int) -> int:
    """How many inputs a test tries: ``usual``, unless the environment says otherwise."""
    return min(usual, int(os.environ.get(INPUTS, usual)))


def main(description: str | None, run: Callable[[int, int], Faults]) -> int:
    """Run a fuzz test by itself; status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="Write the inputs there.")
    options = parser.parse_args()
    faults = run(options.inputs, options.seed)
    sys.stdout.write(faults.text() + "\n")
    if options.keep is not None:
        _keep(faults, options.keep)
    return 1 if faults.buckets else 0


def _keep(faults: Faults, directory: Path) -> None:
    """Write the first input of each bucket: bytes as they are, values as Python has them."""
    directory.mkdir(parents=True, exist_ok=True)
    for bucket, shown in faults.first.items():
        path = directory / re.sub(r"[^A-Za-z0-9.]+", "-", bucket)[:100]
        try:
            path.write_bytes(shown if isinstance(shown, bytes) else ascii(shown).encode())
        except (RecursionError, ValueError):
            path.write_text(faults.examples[bucket], encoding="utf-8")
