# SPDX-License-Identifier: GPL-2.0-or-later
"""Dialects that differ in known ways are told apart by the sequences that are known to do so."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from checker.distinguish import Distinction, Way, distinction, run_compare
from checker.generate import examples
from checker.oracle import oracle
from checker.tally import Amount
from model import find_dialect
from model.trace import Command, ImageSpec, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checker.diff import Generator
    from model.dialect import Dialect

DIALECT = find_dialect("qemu-7.2")
LAX = find_dialect("qemu-7.2 without reopen.backing-missing")


def command(name: str, **arguments: Any) -> Command:
    plain = {key.replace("_", "-"): value for key, value in arguments.items()}
    return {"execute": name, "arguments": plain}


def reopen(**options: Any) -> Command:
    plain = {key.replace("_", "-"): value for key, value in options.items()}
    return command("blockdev-reopen", options=[plain])


FILE = {"driver": "file", "filename": "top.qcow2", "node-name": "f"}
ADD = command("blockdev-add", driver="qcow2", node_name="n", file=FILE, backing="z")
OMITTED = reopen(driver="qcow2", node_name="n", file="f")
NULL = command("blockdev-add", driver="null-co", node_name="z")
IMAGES = (ImageSpec("top.qcow2", "qcow2", 65536),)


def told(first: Dialect, second: Dialect, *commands: Command) -> Distinction | None:
    trace = Trace(IMAGES, commands)
    return distinction(trace, oracle(first)(trace), oracle(second)(trace))


def test_a_dialect_does_not_differ_from_itself() -> None:
    assert told(DIALECT, DIALECT, NULL, ADD, OMITTED) is None


@pytest.mark.parametrize("first", [DIALECT, LAX])
def test_the_side_that_accepts_is_named(first: Dialect) -> None:
    second = LAX if first is DIALECT else DIALECT
    found = told(first, second, NULL, ADD, OMITTED, NULL)
    assert found is not None
    assert found.way is (Way.ONLY_SECOND if first is DIALECT else Way.ONLY_FIRST)
    assert sorted(found.rules) == ["accepted", "reopen.backing-missing"]
    # What comes after does not matter.
    assert found.trace.commands == (NULL, ADD, OMITTED)
    assert len(found.first) == len(found.second) == 3


def test_both_may_refuse_in_different_words() -> None:
    wrong = reopen(driver="raw", node_name="n", file="f")
    found = told(DIALECT, LAX, NULL, ADD, wrong)
    assert found is not None
    assert found.way is Way.BOTH
    assert found.mismatch.path == "reply.error.desc"


def test_both_may_accept_and_do_different_things() -> None:
    keeps = DIALECT.without("reopen.detect-zeroes-default")
    detects = command("blockdev-add", driver="null-co", node_name="z", detect_zeroes="on")
    found = told(DIALECT, keeps, detects, reopen(driver="null-co", node_name="z"))
    assert found is not None
    assert found.way is Way.BOTH
    assert found.rules == ("accepted", "accepted")


def test_a_defect_of_one_side_is_a_difference() -> None:
    sound = DIALECT.without("hazard.empty-list")
    found = told(DIALECT, sound, NULL, command("blockdev-reopen", options=[]), NULL)
    assert found is not None
    assert found.way is Way.DEFECT
    assert found.rules == ("hazard.empty-list", "goes on")
    assert found.length == 2


def test_what_follows_a_defect_of_both_is_no_difference() -> None:
    empty = command("blockdev-reopen", options=[])
    assert told(DIALECT, LAX, empty, NULL, ADD, OMITTED) is None


def generators(first: Dialect, second: Dialect, rounds: int) -> Iterator[Generator]:
    for number, dialect in zip(range(rounds), itertools.cycle((first, second)), strict=False):
        yield examples(dialect, Amount(30, 12, number))


def test_the_search_finds_short_sequences() -> None:
    kept: list[Distinction] = []
    result = run_compare(
        LAX, DIALECT, generators(LAX, DIALECT, 2), seed=0, budget=600, keep=kept.append
    )
    assert result.examples == 60
    assert not result.interrupted
    (way, found), *_ = result.rows()
    assert way is Way.ONLY_FIRST
    assert found[0].rules == ("accepted", "reopen.backing-missing")
    assert found[0].length <= 3
    assert {each.signature for each in kept} == {each.signature for each in result.distinctions}
    assert {each.way for each in result.distinctions} <= {Way.ONLY_FIRST, Way.BOTH, Way.DEFECT}


def test_a_finding_expects_what_the_first_side_says() -> None:
    found = told(DIALECT, LAX, NULL, ADD, OMITTED)
    assert found is not None
    finding = found.as_finding("a", "b", 7)
    assert (finding.dialect, finding.release, finding.seed) == ("a", "b", 7)
    last = finding.steps[-1]
    assert last.expected is not None
    assert last.got is not None
    assert "error" in last.expected.reply
    assert last.got.reply == {"return": {}}


def test_the_search_ends_in_time() -> None:
    forever = (examples(DIALECT, Amount(5, 5, n)) for n in itertools.count())
    result = run_compare(DIALECT, DIALECT, forever, seed=0, budget=0.2)
    assert result.distinctions == ()
    assert result.examples > 0
