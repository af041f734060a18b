# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated case files: a case, or one line that says why it is none.

    python -m tests.fuzz.readers [--inputs N] [--seed S]

Half of the inputs are shipped cases with some bytes spoiled, half such with members
spoiled. Whatever is taken for a case can be written and read again, is replayed on the model and
shown, and is rendered for reports.
"""

from __future__ import annotations

import json
import sys
import tempfile
import unicodedata
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import junitparser
from click.testing import CliRunner

from checker.case import decode, encode
from checker.cli import cli
from checker.errors import CaseError, CheckerError
from model.release.dialect import NoSuchDialectError
from model.values.image_layout import ImageError
from reports import junit, markdown, script
from reports.values import Summary
from tests.fuzz.material import case_files
from tests.fuzz.mutations import Mutator
from tests.fuzz.watching import Faults, main

if TYPE_CHECKING:
    from checker.case import Case

STATUSES = (0, 1, 4)
"""How a replay ends: it agrees, it does not, or a step is outside the spec."""
_PARTS = (
    "title",
    "signature",
    "dialect",
    "release",
    "provenance",
    "stderr",
    "difference",
    "images",
)


def fuzz(inputs: int, seed: int) -> Faults:
    """Try so many spoiled documents."""
    random = Random(seed)
    files = [path.read_bytes() for path in case_files()]
    documents = [json.loads(data) for data in files]
    commands = [step["command"] for document in documents for step in document["steps"]]
    mutator = Mutator(random, commands)
    faults = Faults()
    for number in range(inputs):
        if number % 2:
            attempt(mutator.data(random.choice(files)), faults)
        else:
            attempt(_document(random.choice(documents), mutator, random), faults)
    return faults


def _document(document: dict[str, Any], mutator: Mutator, random: Random) -> bytes:
    """The bytes of a document with something spoiled: a command, a member, anything."""
    kind = random.randrange(4)
    spoiled = dict(document)
    if kind <= 1 and spoiled["steps"]:
        number = random.randrange(len(spoiled["steps"]))
        step = spoiled["steps"][number]
        changed = {**step, "command": mutator.command(step["command"])}
        spoiled["steps"] = [*spoiled["steps"][:number], changed, *spoiled["steps"][number + 1 :]]
    elif kind == 2:
        name = random.choice([name for name in _PARTS if name in spoiled])
        spoiled[name] = mutator.tree(spoiled[name])
    else:
        spoiled = mutator.tree(spoiled, random.choice((1, 2, 5)))
    try:
        return json.dumps(spoiled).encode()
    except (RecursionError, ValueError):
        # Deeper than can be written: what a stranger's own writer may well do.
        return b'{"reopencheck-case": 1, "steps": ' + b"[" * 100_000


def attempt(data: bytes, faults: Faults) -> None:
    """Read some bytes, and do with a case all that is done with cases."""
    faults.inputs += 1
    case = None
    with faults.watch(data, CaseError):
        try:
            case = decode(data)
        except CaseError as error:
            if len(str(error).splitlines()) != 1:
                faults.add("the refusal is not one line", data)
            raise
    if case is None:
        return
    faults.accepted += 1
    with faults.watch(data):
        if decode(encode(case)) != case:
            faults.add("a case that is written is not read again", data)
    with faults.watch(data):
        for wrong in render(case):
            faults.add(wrong, data)
    with faults.watch(data, CheckerError, NoSuchDialectError, ImageError):
        for wrong in replay(data, as_json=faults.accepted % 4 == 0):
            faults.add(wrong, data)


def render(case: Case) -> list[str]:
    """What is wrong about the reports that are made of a case."""
    finding = case.finding("case.json")
    summary = Summary("diff", case.release, case.dialect, 0, divergences=1, findings=(finding,))
    script.render(finding, "case.sh").encode(errors="replace")
    junitparser.JUnitXml.fromstring(junit.render(summary))
    page = markdown.render(summary, {}).encode(errors="replace").decode()
    return ["control characters in summary.md"] if raw(page) else []


def replay(data: bytes, *, as_json: bool) -> list[str]:
    """What is wrong about ``reopencheck replay`` on the model. Raises what it raises."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        Path(file.name).write_bytes(data)
        arguments = ["replay", file.name, *["--json"] * as_json]
        result = CliRunner().invoke(cli, arguments, color=True)
    if isinstance(result.exception, Exception):
        raise result.exception
    found = []
    if result.exit_code not in STATUSES:
        found.append(f"replay ends with status {result.exit_code}")
    if as_json:
        json.loads(result.stdout)
    elif raw(result.stdout):
        found.append("control characters on the terminal")
    return found


def raw(text: str) -> bool:
    """Whether a text for people has control characters, which a terminal would obey."""
    return any(unicodedata.category(each) == "Cc" for each in set(text) - {"\n"})


if __name__ == "__main__":
    sys.exit(main(__doc__, fuzz))
