# SPDX-License-Identifier: GPL-2.0-or-later
"""Dialects that differ in known ways are told apart by the sequences that are known to do so."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from checker import distinguish
from checker.case import from_finding
from checker.differing import Distinction, View, Way, differences, without
from checker.distinguish import Search, as_finding, run_compare
from checker.exhaustive import Scope
from checker.generate import examples
from checker.parties import Answer, Model
from checker.replay import by_model, compare_case
from checker.tally import Amount
from model import find_dialect
from model.values.trace import Command, ImageSpec, Observation, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checker.diff import Generator
    from model.release.dialect import Dialect

DIALECT = find_dialect("qemu-7.2")
LAX = find_dialect("qemu-7.2 without reopen.backing-missing")
NEWER = find_dialect("qemu-10.0")


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


def told_all(first: Dialect, second: Dialect, *commands: Command) -> list[Distinction]:
    trace = Trace(IMAGES, commands)
    return list(differences(trace, Model(first).ask(trace), Model(second).ask(trace)))


def told(first: Dialect, second: Dialect, *commands: Command) -> Distinction | None:
    return next(iter(told_all(first, second, *commands)), None)


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


def test_both_may_refuse_in_different_words() -> None:
    wrong = reopen(driver="raw", node_name="n", file="f")
    found, *rest = told_all(DIALECT, LAX, NULL, ADD, wrong, OMITTED)
    assert found.way is Way.BOTH
    assert found.mismatch.path == "reply.error.desc"
    # Nothing has happened, so that they are still compared afterwards.
    assert [each.way for each in rest] == [Way.ONLY_SECOND]


def test_both_may_accept_and_do_different_things() -> None:
    keeps = DIALECT.without("reopen.detect-zeroes-default")
    detects = command("blockdev-add", driver="null-co", node_name="z", detect_zeroes="on")
    again = reopen(driver="null-co", node_name="z")
    found, *rest = told_all(DIALECT, keeps, detects, again, again)
    assert found.way is Way.BOTH
    assert found.rules == ("accepted (reopen.detect-zeroes-default)", "accepted")
    # From then on they have other nodes before them.
    assert rest == []


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


def test_what_only_one_shows_is_a_difference_once() -> None:
    resize = command("block_resize", node_name="z", size=-1)
    found = told_all(DIALECT, NEWER, NULL, ADD, command("query-named-block-nodes"), resize)
    signatures = [each.signature for each in found]
    assert signatures == [
        "shown | nodes.active | second",
        "shown | nodes.image.format-specific | second",
    ]
    active = View("nodes", ("active",))
    assert [each.views for each in found] == [frozenset(), {active}]


def test_a_member_is_left_out_at_any_depth() -> None:
    image = {"size": 1, "more": 2, "backing-image": {"more": 3}}
    nodes: list[dict[str, Any]] = [{"image": image, "more": 4}, {"image": {}}]
    shown = Observation({"return": nodes}, nodes, None)
    left = without(shown, View("nodes", ("image", "more")))
    expected: list[dict[str, Any]] = [
        {"image": {"size": 1, "backing-image": {}}, "more": 4},
        {"image": {}},
    ]
    assert (left.nodes, left.reply["return"]) == (expected, expected)


def test_a_death_is_a_difference_unless_both_die_of_it() -> None:
    trace = Trace((), (NULL,))
    fine = Answer(Observation({"return": {}}, [], {}), "accepted")
    dead, other = (attrs.evolve(fine, death=how) for how in ("crash (SIGABRT)", "hang"))
    assert list(differences(trace, [dead], [dead])) == []
    for pair in ((dead, fine), (dead, other)):
        (found,) = differences(trace, *([each] for each in pair))
        assert found.way is Way.DEFECT
        assert found.rules[0] == "crash (SIGABRT)"


def test_of_two_daemons_a_defect_that_only_a_model_knows_is_none() -> None:
    trace = Trace((), (NULL,))
    fine = Answer(Observation({"return": {}}, [], {}), "accepted")
    known = attrs.evolve(fine, hazards=frozenset({"hazard.some"}))
    assert list(differences(trace, [known], [fine], seen=True)) == []
    assert len(list(differences(trace, [known], [fine]))) == 1


def generators(first: Dialect, second: Dialect, rounds: int) -> Iterator[Generator]:
    for number, dialect in zip(range(rounds), itertools.cycle((first, second)), strict=False):
        yield examples(dialect, Amount(30, 12, number))


@pytest.mark.slow
def test_the_search_finds_short_sequences() -> None:
    kept: list[Distinction] = []
    result = run_compare(
        Model(LAX),
        Model(DIALECT),
        generators(LAX, DIALECT, 8),
        seed=0,
        budget=600,
        scope=None,
        keep=kept.append,
    )
    assert result.examples == 240
    assert not result.interrupted
    (way, found), *_ = result.rows()
    assert way is Way.ONLY_FIRST
    assert found[0].rules == ("accepted", "reopen.backing-missing")
    assert found[0].length <= 3
    # Without a scope, nothing is known of shorter ones.
    assert not result.shown_shortest(found[0])
    # The last that was kept of each kind is what the result tells of.
    assert {each.signature: each.trace for each in kept} == {
        each.signature: each.trace for each in result.distinctions
    }
    assert {each.way for each in result.distinctions} <= {Way.ONLY_FIRST, Way.BOTH, Way.DEFECT}


def test_a_shorter_sequence_takes_the_place_of_a_longer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distinguish, "_LEAST_SECONDS", 0.0)
    kept: list[Distinction] = []
    search = Search(Model(LAX), Model(DIALECT), kept.append)
    # No time to reduce anything.
    for commands in ((NULL, NULL, ADD, OMITTED), (NULL, ADD, OMITTED), (NULL, NULL, ADD, OMITTED)):
        search.take_last(Trace(IMAGES, commands), 0.0)
    (found,) = search.distinctions()
    assert (found.length, found.occurrences) == (3, 3)
    assert [each.length for each in kept] == [4, 3]


def test_the_small_scope_is_searched_first() -> None:
    result = run_compare(
        Model(LAX), Model(DIALECT), iter(()), seed=0, budget=600, scope=Scope(1, 2)
    )
    found, *_ = result.distinctions
    assert found.length == 2
    assert "reopen.backing-missing" in found.rules
    assert result.shown_shortest(found)
    assert not result.shown_shortest(attrs.evolve(found, trace=Trace((), (NULL,) * 4)))


def test_a_case_expects_what_the_first_side_says() -> None:
    found = told(DIALECT, LAX, NULL, ADD, OMITTED)
    assert found is not None
    finding = as_finding(found, Model(DIALECT), Model(LAX), 7)
    assert (finding.dialect, finding.release, finding.seed) == (DIALECT.name, LAX.name, 7)
    last = finding.steps[-1]
    assert last.expected is not None
    assert last.got is not None
    assert "error" in last.expected.reply
    assert last.got.reply == {"return": {}}


def test_a_case_shows_its_own_difference_where_one_side_always_shows_more() -> None:
    parameter = {"driver": "qcow2", "node-name": "m", "file": FILE, "l2-cache-size": -1}
    commands = (NULL, command("blockdev-add", **parameter))
    found = told_all(DIALECT, NEWER, *commands)[-1]
    assert found.mismatch.path == "reply.error.desc"
    case = from_finding(as_finding(found, Model(DIALECT), Model(NEWER), 0))
    assert compare_case(case, "", by_model(case, DIALECT)).agrees
    other = compare_case(case, "", by_model(case, NEWER)).mismatch
    assert other is not None
    assert (other.step, other.path) == (1, "reply.error.desc")


@pytest.mark.parametrize(("path", "kept"), [("graph.edges", False), ("nodes[z].ro", True)])
def test_a_case_compares_nodes_only_where_they_are_the_difference(path: str, kept: bool) -> None:
    found = told_all(DIALECT, NEWER, NULL, ADD)[-1]
    place = attrs.evolve(found.mismatch, path=path)
    finding = as_finding(attrs.evolve(found, mismatch=place), Model(DIALECT), Model(NEWER), 0)
    first, last = (step.got for step in finding.steps)
    assert first is not None
    assert last is not None
    assert first.nodes is None
    assert (last.nodes is not None) is kept
    assert not any("active" in node for node in last.nodes or ())


def test_the_search_ends_in_time() -> None:
    forever = (examples(DIALECT, Amount(5, 5, n)) for n in itertools.count())
    one, other = Model(DIALECT), Model(DIALECT)
    result = run_compare(one, other, forever, seed=0, budget=0.2, scope=None)
    assert result.distinctions == ()
    assert result.examples > 0
