# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether real builds do what two models say where they differ.

A row of a comparison is confirmed on a release when its build does on the whole trace what the
model of that release says. Where it does not, the spec is wrong about QEMU.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import attrs

from checker.judge import Example, judge, left_at
from checker.oracle import oracle
from checker.parties import Daemon, Model, written_for
from checker.verdicts import DisturbedError
from targets.binaries import ALL, find_qemu_img, find_qemu_io
from targets.debian import find_build
from targets.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.values.trace import Json

    from checker.differing import Distinction
    from checker.parties import Party
    from targets.walls import Walls


@attrs.frozen
class Confirmation:
    """What the builds showed of one row.

    ``on`` are the versions that do what their model says, each with its dialect; ``problems`` say
    what others do instead, and ``silent`` name the versions on which a defect does not show in so
    few commands.
    """

    on: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()

    def told(self) -> Iterator[str]:
        """In words, a line each."""
        if self.problems:
            yield f"not confirmed: {'; '.join(self.problems)}"
        elif len(self.on) == 1:
            version, dialect = self.on[0]
            yield f"{dialect} confirmed on {version}"
        elif self.on:
            yield f"confirmed on {' and '.join(version for version, _ in self.on)}"
        yield from self.silent

    def as_json(self) -> dict[str, Json]:
        """For machines."""
        on = [version for version, _ in self.on]
        return {"on": on, "problems": list(self.problems), "silent": list(self.silent)}


@contextmanager
def builds_of(
    *parties: Party, walls: Walls = ALL
) -> Iterator[tuple[tuple[tuple[Model, Daemon], ...], list[str]]]:
    """The builds of the releases whose models are compared, and notes on those that are missing."""
    notes: list[str] = []
    found: list[tuple[Model, Daemon]] = []
    with ExitStack() as stack:
        for party in parties:
            release = party.release if isinstance(party, Model) else None
            if release is None or any(party is known for known, _ in found):
                continue
            try:
                find_qemu_img(walls=walls)
                find_qemu_io(walls=walls)
                daemon = Daemon(find_build(release, walls))
            except TargetError as error:
                notes.append(f"{party.name} is not confirmed on a build: {error}")
            else:
                assert isinstance(party, Model)  # noqa: S101  # it has a release
                found.append((party, stack.enter_context(daemon)))
        yield tuple(found), notes


def confirm(found: Distinction, builds: tuple[tuple[Model, Daemon], ...]) -> Confirmation:
    """Replay what tells two models apart on the builds of their releases."""
    on: list[tuple[str, str]] = []
    problems: list[str] = []
    silent: list[str] = []
    for model, daemon in builds:
        written = written_for(found.trace, model.dialect)
        example = Example(written, oracle(model.dialect)(written))
        hazard = example.hazard_before(len(written.commands))
        try:
            replay = daemon.replay(written)
        except DisturbedError as error:
            silent.append(f"{daemon.name} is not asked: {error}")
            continue
        verdict = judge(example, replay)
        if verdict is None and left_at(example, replay) is not None:
            silent.append(f"{daemon.name} is not asked what {model.name} does not know")
        elif verdict is None and hazard is None:
            on.append((daemon.name, model.name))
        elif verdict is None:
            silent.append(f"{daemon.name} does not show {hazard} in so few commands")
        elif example.hazard_before(verdict.step) is not None:
            on.append((daemon.name, model.name))
        else:
            problems.append(f"{daemon.name}: {verdict.title}")
    return Confirmation(tuple(on), tuple(problems), tuple(silent))
