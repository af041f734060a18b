# SPDX-License-Identifier: GPL-2.0-or-later
"""The findings of docs/findings: each case shows on the releases that it names, and on no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checker.case import load
from checker.giving import Trial, Untried, changes, trials
from checker.parties import Model
from model.release.dialects import DIALECTS, find_dialect
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.drivers import DRIVERS
from model.release.translation import translated
from strategies.openable import OPENINGS
from targets.debian import find_build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checker.case import Case
    from model.release.dialect import Dialect
    from model.values.trace import Observation, Trace
    from targets.binaries import Build
    from targets.pool import Target
    from tests.real.replays import Replays

ROOT = Path(__file__).resolve().parents[2]
CASES = sorted((ROOT / "cases" / "findings").glob("*.json"))
PAGE = (ROOT / "docs" / "findings" / "README.md").read_text(encoding="utf-8")
RELEASES = ("5.2", "7.2", "10.0", "11.1")


def shows(case: Case, seen: Sequence[Observation]) -> bool:
    """Whether a target answers as the case says, and changes what it says."""
    expected = [step.expected.reply for step in case.steps if step.expected is not None]
    if [each.reply for each in seen] != expected:
        return False
    told = case.provenance.get("changes")
    changed = list(changes(seen[-2].nodes or [], seen[-1].nodes or [])) if told else []
    return told is None or set(told.split("; ")) <= set(changed)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_finding_shows(path: Path, release: str, replays: Replays) -> None:
    case = load(path)
    build = find_build(release)
    trace = translated(case.trace(), find_dialect(f"qemu-{release}").schema)
    replay = replays.replay(build, trace)
    on = case.provenance["releases"].split()
    others = case.provenance.get("others", "").split()
    assert sorted([*on, *others]) == sorted(RELEASES), "each release is told of"
    dies = case.kind == "crash" and release in on
    assert (replay.death is not None) is dies
    if case.kind != "crash":
        assert shows(case, replay.observations) is (release in on)


def test_the_page_tells_of_each_case() -> None:
    assert set(re.findall(r"`([a-z0-9-]+)\.json`", PAGE)) == {path.stem for path in CASES}


@pytest.mark.parametrize("path", [each for each in CASES if each.stem.startswith("frozen-twice")])
def test_what_wants_a_link_frozen_twice_gets_it_from_a_counter(path: Path) -> None:
    trace = load(path).trace()
    replies = [
        Model(find_dialect(name)).ask(trace)[-1].observation.reply
        for name in ("qemu-7.2", "qemu-7.2 without freeze.frozen")
    ]
    assert "frozen" in str(replies[0]) or "Cannot change" in str(replies[0])
    assert "return" in replies[1]


def test_model_and_daemon_answer_for_every_option(shared: Target) -> None:
    """All that is tried of the drivers that the spec has; the texts included."""
    types = QEMU_7_2.schema.types
    drivers = sorted(OPENINGS.keys() & DRIVERS.keys())
    # Hosts differ in io_uring, and the spec leaves it alone.
    every = trials(types, lambda trace: shared.run(trace).observations, drivers)
    real = [each for each in every if not (isinstance(each, Trial) and each.value == "io_uring")]
    assert list(trials(types, Model(QEMU_7_2).observe, drivers)) == real
    assert sum(isinstance(each, Trial) for each in real) > 400


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda each: each.name)
def test_each_driver_of_a_build_is_tried_or_named(
    dialect: Dialect, build_of: Callable[[Dialect], Build], replays: Replays
) -> None:
    """The schema has drivers and values that no trace may have: they end nothing."""
    types = dialect.schema.types
    target = replays.target(build_of(dialect))

    def show(trace: Trace) -> Sequence[Observation]:
        return target.run(translated(trace, dialect.schema)).observations

    every = list(trials(types, show))
    assert {each.driver for each in every} == set(types["blockdev-add.arg"]["variants"])
    untried = {each.driver for each in every if isinstance(each, Untried) and not each.option}
    assert {"raw", "qcow2", "file", "null-co"}.isdisjoint(untried)
    assert {"nbd", "ssh", "vmdk"} <= untried
