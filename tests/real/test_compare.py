# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparing with real builds, and confirming on them what models differ in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from checker.confirming import builds_of, confirm
from checker.differing import Way, differences
from checker.distinguish import Search, run_compare
from checker.generate import examples
from checker.judge import Example
from checker.parties import NOT_IN_SPEC, Daemon, Model, find_party, written_for
from checker.tally import Amount
from model import find_dialect
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.release.dialects.qemu_10_0 import QEMU_10_0
from model.values.trace import Command, ImageSpec, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from checker.differing import Distinction
    from model.release.dialect import Dialect
    from targets.binaries import Build

    BuildOf = Callable[[Dialect], Build]

LAX = "qemu-7.2 without reopen.backing-missing"
IMAGES = (ImageSpec("a.qcow2", "qcow2", 65536),)


def command(name: str, **arguments: Any) -> Command:
    plain = {key.replace("_", "-"): value for key, value in arguments.items()}
    return {"execute": name, "arguments": plain}


FILE = {"driver": "file", "filename": "a.qcow2", "node-name": "f"}
ZEROES = {"driver": "null-co", "node-name": "z"}
ADD = command("blockdev-add", driver="qcow2", node_name="n", file=FILE, backing=ZEROES)
OMITTED = command("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "n", "file": "f"}])


@pytest.fixture
def daemon(build: Build) -> Iterator[Daemon]:
    with Daemon(build) as party:
        yield party


def trace(*commands: Command) -> Trace:
    return Trace(IMAGES, commands)


def test_a_release_is_a_build(build: Build) -> None:
    party = find_party(build.release)
    assert isinstance(party, Daemon)
    assert (party.name, party.real) == (build.version, True)
    assert party.dialect.release == tuple(map(int, build.release.split(".")))
    party.close()


def test_a_daemon_is_asked_as_the_model_is(daemon: Daemon) -> None:
    """With a job that it has to be waited for, and the rules that the model names."""
    alone = command("blockdev-add", driver="qcow2", node_name="n", file=FILE)
    target = command("blockdev-add", driver="null-co", node_name="t", size=65536)
    what = {"device": "n", "target": "t", "sync": "full"}
    job = command("blockdev-backup", job_id="j", auto_dismiss=False, **what)
    wrong = command("blockdev-reopen", options=[{"driver": "raw", "node-name": "n"}])
    asked = trace(alone, target, job, command("job-dismiss", id="j"), wrong)
    model = Model(daemon.dialect).ask(asked)
    real = daemon.ask(asked)
    assert list(differences(asked, model, real)) == []
    assert [each.rule for each in real] == [each.rule for each in model]
    assert len(real) == len(asked.commands)
    assert [
        event["data"]["status"] for event in real[2].observation.events if "status" in event["data"]
    ][-1] == "concluded"


def test_what_the_spec_does_not_say_is_no_rule_of_it(daemon: Daemon) -> None:
    daemon.dialect = find_dialect(LAX)
    null, add = (
        command("blockdev-add", **ZEROES),
        command("blockdev-add", driver="qcow2", node_name="n", file=FILE, backing="z"),
    )
    *_, last = daemon.ask(trace(null, add, OMITTED))
    assert last.rule == NOT_IN_SPEC.format(dialect=LAX)


def test_a_known_defect_is_not_tried(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Trace] = []

    def write(plain: Trace, dialect: Dialect) -> Trace:
        sent.append(written_for(plain, dialect))
        return sent[-1]

    monkeypatch.setattr("checker.parties.written_for", write)
    answers = daemon.ask(trace(ADD, command("blockdev-reopen", options=[]), ADD))
    assert [set(each.hazards) for each in answers] == [set(), {"hazard.empty-list"}]
    assert sent == [trace(ADD)]


def test_an_unknown_defect_is_a_death(daemon: Daemon) -> None:
    daemon.dialect = daemon.dialect.without("hazard.empty-list")
    asked = trace(command("blockdev-reopen", options=[]), ADD)
    answers = daemon.ask(asked, fresh=True)
    assert answers[0].death.startswith("crash")
    assert len(answers) == 1
    (found,) = differences(asked, Model(daemon.dialect).ask(asked), answers)
    assert (found.way, found.rules[0]) == (Way.DEFECT, "goes on")


def test_the_model_is_told_from_a_build_that_knows_better(daemon: Daemon) -> None:
    lax = Model(find_dialect(LAX))
    null = command("blockdev-add", **ZEROES)
    add = command("blockdev-add", driver="qcow2", node_name="n", file=FILE, backing="z")
    longer = Example(trace(null, null, add, command("query-jobs"), OMITTED), ())
    result = run_compare(lax, daemon, iter([lambda sink: sink(longer)]), seed=2, budget=60)
    assert result.wobbles == 0
    (found,) = result.distinctions
    assert found.way is Way.ONLY_FIRST
    # The daemon does as the model of 7.2 does, which names the rule.
    assert found.rules == ("accepted", "reopen.backing-missing")
    assert found.length == 3


def test_a_build_does_not_differ_from_itself(build: Build, daemon: Daemon) -> None:
    with Daemon(build) as other:
        generate = iter([examples(daemon.dialect, Amount(15, 20, 3))])
        result = run_compare(daemon, other, generate, seed=3, budget=60)
    assert (result.examples, result.distinctions, result.wobbles) == (15, (), 0)


def found_by(first: Model, second: Model, asked: Trace) -> Distinction:
    search = Search(first, second, lambda _: None)
    search.take_last(asked, 0.0)
    return search.distinctions()[0]


def test_a_difference_of_models_is_confirmed_on_both_builds(build_of: BuildOf) -> None:
    for dialect in (QEMU_7_2, QEMU_10_0):
        build_of(dialect)
    first, second = Model(QEMU_7_2), Model(QEMU_10_0)
    found = found_by(first, second, trace(ADD))
    with builds_of(first, second) as (builds, notes):
        confirmation = confirm(found, builds)
    assert notes == []
    (told,) = confirmation.told()
    assert told == f"confirmed on {builds[0][1].name} and {builds[1][1].name}"
    assert (confirmation.problems, confirmation.silent) == ((), ())


def test_a_spec_that_is_wrong_is_not_confirmed(daemon: Daemon) -> None:
    right, wrong = Model(QEMU_7_2), Model(find_dialect(LAX))
    null, add = (
        command("blockdev-add", **ZEROES),
        command("blockdev-add", driver="qcow2", node_name="n", file=FILE, backing="z"),
    )
    found = found_by(right, wrong, trace(null, add, OMITTED))
    assert confirm(found, ((right, daemon),)).on == ((daemon.name, "qemu-7.2"),)
    confirmation = confirm(found, ((wrong, daemon),))
    assert confirmation.on == ()
    assert "backing is missing for 'n'" in confirmation.problems[0]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with builds_of(Model(QEMU_7_2)) as (builds, notes):
        assert builds == ()
    assert notes[0].startswith("qemu-7.2 is not confirmed on a build: no such binary in PATH")
