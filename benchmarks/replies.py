# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the spec still answers as it did, for changes that no client must see.

    python -m benchmarks.replies record FILE [--seeds N] [--examples N] [--steps N]
    python -m benchmarks.replies compare FILE

``record`` draws traces as `check` does, for each seed and each dialect and proposal, adds those of
all files in cases/, and keeps them with what the spec says of each step. ``compare`` asks the
present spec about the very same traces and tells the first difference. The traces are kept because
what Hypothesis makes of a seed depends on the constants in the modules that are loaded.

Exit status: 0 nothing has changed, 1 something has, 2 FILE cannot be used.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checker.cases.case import load
from checker.compare.violations import no_law
from checker.runs.generate import checked
from checker.runs.tally import Amount
from model import DIALECTS, PROPOSALS, BlockState, ImageSpec, Monitor, Trace, find_dialect, step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checker.runs.generate import Checked
    from model import Dialect

CASES = Path(__file__).resolve().parent.parent / "cases"
VERSION = 1
SEEDS, EXAMPLES, STEPS = 20, 10, 30
FIRST_SEED = 4001
QUERIES = ("query-jobs", "query-block-jobs", "query-block-exports", "query-block")
"""What is asked after each command besides the two queries of the graph, where it can be."""


class UnusableError(Exception):
    """A file is no record that this program has made."""


def traces(seeds: int, examples: int, steps: int) -> Iterator[tuple[str, Dialect, Trace]]:
    """Each trace under a name that says where it comes from."""
    for dialect in (*DIALECTS.values(), *PROPOSALS.values()):
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            made: list[Trace] = []

            def sink(example: Checked, made: list[Trace] = made) -> None:
                made.append(example.example.trace)

            checked(dialect, Amount(examples, steps, seed), no_law)(sink)
            for number, trace in enumerate(made):
                yield f"{dialect.name}, seed {seed}, trace {number}", dialect, trace
    for path in sorted(CASES.rglob("*.json")):
        case = load(path)
        yield f"cases/{path.relative_to(CASES)}", find_dialect(case.dialect), case.trace()


def answers(dialect: Dialect, trace: Trace) -> Iterator[dict[str, Any]]:
    """What a client can see of each step, as a document; the larger parts as digests.

    An exception of the spec is an answer, too, and the last one.
    """
    monitor = Monitor(dialect)
    seen: dict[str, Any] = {}
    asked: BlockState | None = None
    try:
        for image in trace.images:
            monitor.images.from_spec(image)
        for command in trace.commands:
            reply = monitor.execute(command)
            outcome = monitor.outcome
            assert outcome is not None, "a command has an outcome"  # noqa: S101  # promised
            if monitor.state is not asked:
                asked, seen = monitor.state, _graph(monitor)
            yield {
                "reply": reply,
                "events": monitor.events(),
                "accepted": sorted(outcome.accepted),
                "refused": sorted(outcome.refused),
                "hazards": sorted(outcome.hazards),
                "unmodelled": sorted(outcome.unmodelled),
                "ended": outcome.ended,
                "settling": sorted(map(list, outcome.settling.items())),
                **seen,
            }
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what the spec does
        yield {"raised": f"{type(error).__name__}: {error}"}


def _graph(monitor: Monitor) -> dict[str, str]:
    """Digests of what the queries return in a monitor's state."""
    observation = monitor.observe()
    parts: dict[str, Any] = {"nodes": observation.nodes, "graph": observation.graph}
    for query in QUERIES:
        parts[query] = step(monitor.state, {"execute": query}, monitor.dialect).reply
    return {name: _digest(part) for name, part in parts.items()}


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]


def record(path: Path, seeds: int, examples: int, steps: int) -> int:
    """Write the traces and answers into a file and say how many there are."""
    total = length = 0
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(json.dumps({"reopencheck-replies": VERSION}) + "\n")
        for name, dialect, trace in traces(seeds, examples, steps):
            told = list(answers(dialect, trace))
            images = [
                [i.name, i.format, i.size, i.backing, i.backing_format, i.data]
                for i in trace.images
            ]
            entry = [name, dialect.name, images, trace.commands, told]
            file.write(json.dumps(entry) + "\n")
            total, length = total + 1, length + len(told)
    print(f"{total} traces with {length} steps are in {path}")
    return 0


def recorded(path: Path) -> Iterator[tuple[str, Dialect, Trace, list[dict[str, Any]]]]:
    """The traces of a file with the answers of then. Raises :class:`UnusableError`."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            if json.loads(next(file)) != {"reopencheck-replies": VERSION}:
                raise UnusableError(f"{path} was not written by this version of the program")
            for line in file:
                name, dialect, images, commands, told = json.loads(line)
                yield name, find_dialect(dialect), Trace(_images(images), tuple(commands)), told
    except (OSError, EOFError, ValueError, TypeError, LookupError, StopIteration) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnusableError(f"{path} is no record of replies: {reason}") from error


def _images(documents: list[list[Any]]) -> tuple[ImageSpec, ...]:
    return tuple(
        ImageSpec(name, image_format, size, backing, backing_format, tuple(map(tuple, runs)))
        for name, image_format, size, backing, backing_format, runs in documents
    )


def compare(path: Path) -> int:
    """Tell the first difference; status 1 if there is one."""
    total = length = 0
    for name, dialect, trace, told in recorded(path):
        # As JSON has it: tuples are lists.
        now = json.loads(json.dumps(list(answers(dialect, trace))))
        for number, (before, after) in enumerate(zip(told, now, strict=False)):
            where = difference(before, after)
            if where is not None:
                print(f"{name}, step {number}, {where}")
                print(f"the command: {json.dumps(trace.commands[number])}")
                return 1
        if len(told) != len(now):
            print(f"{name}: {len(told)} steps before, {len(now)} now")
            return 1
        total, length = total + 1, length + len(told)
    if not length:
        raise UnusableError(f"{path} holds no steps")
    print(f"{total} traces with {length} steps: nothing has changed")
    return 0


def difference(before: Any, after: Any, path: str = "") -> str | None:
    """The first place where two documents differ, the order of members included."""
    if type(before) is not type(after):
        return f"{path}: {json.dumps(before)} before, {json.dumps(after)} now"
    if isinstance(before, dict):
        if list(before) != list(after):
            return f"{path}: members {list(before)} before, {list(after)} now"
        pairs: list[tuple[Any, Any, Any]] = [(k, before[k], after[k]) for k in before]
    elif isinstance(before, list) and len(before) == len(after):
        pairs = [(i, x, y) for i, (x, y) in enumerate(zip(before, after, strict=True))]
    elif before != after:
        return f"{path}: {json.dumps(before)} before, {json.dumps(after)} now"
    else:
        return None
    for key, old, new in pairs:
        found = difference(old, new, f"{path}.{key}" if path else str(key))
        if found is not None:
            return found
    return None


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="traces for each seed")
    parser.add_argument("--steps", type=int, default=STEPS, help="commands in a trace, at most")
    options = parser.parse_args(arguments)
    try:
        if options.action == "compare":
            return compare(options.file)
        return record(options.file, options.seeds, options.examples, options.steps)
    except (UnusableError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
