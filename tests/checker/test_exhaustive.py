# SPDX-License-Identifier: GPL-2.0-or-later
"""Search that leaves nothing out: it finds what must be there just as deep as it must be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from checker import exhaustive
from checker.distinguish import Comparison, run_compare
from checker.exhaustive import Exploration, Explored, Scope
from checker.generate import examples
from checker.parties import Model
from checker.tally import Amount
from model import Monitor, find_dialect
from strategies import alphabet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.values.state import BlockState
    from model.values.trace import Command, Trace

PLAIN = "qemu-7.2"


def explore(first: str, second: str, images: int, depth: int) -> Comparison:
    one, other = (Model(find_dialect(name)) for name in (first, second))
    scope = Scope(images, depth)
    return run_compare(one, other, iter(()), seed=0, budget=math.inf, scope=scope)


def explored(result: Comparison) -> Explored:
    assert result.explored is not None
    return result.explored


@pytest.mark.parametrize("dialect", [PLAIN, "qemu-10.0", "series-v1", "null-resets"])
def test_a_dialect_agrees_with_itself(dialect: str) -> None:
    result = explore(dialect, dialect, 2, 2)
    assert result.distinctions == ()
    seen = explored(result)
    assert (seen.complete, seen.whole, seen.exhausted) == (2, True, False)
    assert 100 < seen.states < seen.transitions


@pytest.mark.parametrize(
    ("rule", "depth"),
    [
        ("hazard.empty-list", 1),
        ("reopen.backing-missing", 2),
        ("reopen.unchanged", 2),
        ("freeze.frozen", 3),
    ],
)
def test_a_rule_that_is_missing_is_found_just_as_deep_as_it_shows(rule: str, depth: int) -> None:
    lax = f"{PLAIN} without {rule}"
    shallow = explore(PLAIN, lax, 2, depth - 1)
    assert shallow.distinctions == ()
    assert explored(shallow).whole
    found = explore(PLAIN, lax, 2, depth).distinctions
    assert min(each.length for each in found) == depth
    assert rule in {each.rules[0] for each in found}


def test_nothing_is_left_to_chance() -> None:
    """Forty examples of chance do not meet two filters on one link; three commands do."""
    counts = find_dialect(f"{PLAIN} without freeze.frozen")
    one, other = Model(find_dialect(PLAIN)), Model(counts)
    some = iter([examples(counts, Amount(40, 12, 1))])
    missed = run_compare(one, other, some, seed=1, budget=math.inf, scope=None)
    assert missed.examples == 40
    assert missed.distinctions == ()
    assert explore(PLAIN, counts.name, 2, 3).distinctions != ()


def test_what_takes_two_images_is_not_found_with_one() -> None:
    lax = f"{PLAIN} without permissions.conflict"
    assert explore(PLAIN, lax, 1, 3).distinctions == ()
    assert explore(PLAIN, lax, 2, 2).distinctions != ()


def test_where_the_spec_breaks_is_no_proof() -> None:
    seen = explored(explore(PLAIN, f"{PLAIN} without node.unknown", 1, 1))
    assert seen.broken
    assert (seen.complete, seen.whole) == (1, False)
    assert not seen.shows_shortest(1)


def test_each_side_is_spoken_to_in_its_own_words() -> None:
    """5.2 reopens by another command, and that alone tells nothing apart."""
    found = explore("qemu-5.2", PLAIN, 1, 2)
    assert found.distinctions
    assert not any("qapi.command" in each.rules for each in found.distinctions)


def test_a_reopen_is_told_in_the_words_of_the_first() -> None:
    found = explore("series-v1", "omission-keeps", 1, 2).distinctions
    assert {each.signature.split(" ")[0] for each in found} == {"x-blockdev-reopen"}
    back = explore(PLAIN, "qemu-5.2", 1, 2).distinctions
    assert not any("x-blockdev-reopen" in each.signature for each in back)


@pytest.mark.parametrize(
    ("dialect", "rule", "depth"), [("series-v1", "stream.freezes", 3), (PLAIN, "stream.filter", 2)]
)
def test_streams_are_tried_in_every_release(dialect: str, rule: str, depth: int) -> None:
    """Only where a stream has a filter can that be named."""
    lax = f"{dialect} without {rule}"
    assert explore(dialect, lax, 2, depth - 1).distinctions == ()
    assert explore(dialect, lax, 2, depth).distinctions != ()


def test_a_counter_for_the_series_changes_nothing_in_a_scope() -> None:
    assert explore("series-v1", "freeze-counter", 2, 3).distinctions == ()


def test_members_that_only_one_shows_do_not_hide_what_else_differs() -> None:
    titles = {each.signature for each in explore(PLAIN, "qemu-10.0", 2, 3).distinctions}
    assert "shown | nodes.active | second" in titles
    assert any(title.startswith("job-finalize") for title in titles)


def signatures(result: Comparison) -> dict[str, int]:
    return {each.signature: each.length for each in result.distinctions}


def test_carrying_out_once_what_both_would_do_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proposal = "omission-keeps"
    once = explore(PLAIN, proposal, 2, 2)
    monkeypatch.setattr(Exploration, "_asks", lambda _self, _outcome: True)
    twice = explore(PLAIN, proposal, 2, 2)
    assert signatures(once) == signatures(twice)
    assert explored(once).states == explored(twice).states


def test_images_are_interchangeable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking only the first of the untouched images loses nothing but doubles."""
    some = explore("series-v1", "omission-keeps", 2, 2)
    monkeypatch.setattr(alphabet, "_touched", lambda *_: True)
    every = explore("series-v1", "omission-keeps", 2, 2)
    assert signatures(some) == signatures(every)
    assert explored(some).states < explored(every).states < 2 * explored(some).states


def test_a_scope_may_be_exhausted(monkeypatch: pytest.MonkeyPatch) -> None:
    def few(
        state: BlockState, _start: BlockState, _count: int, *, named: bool
    ) -> Iterator[Command]:
        assert named
        options = {"driver": "null-co", "node-name": "z"}
        if "z" in state.nodes:
            yield {"execute": "blockdev-del", "arguments": {"node-name": "z"}}
        else:
            yield {"execute": "blockdev-add", "arguments": options}

    monkeypatch.setattr(exhaustive, "letters", few)
    seen = explored(explore(PLAIN, PLAIN, 1, 50))
    assert (seen.exhausted, seen.whole, seen.states, seen.complete) == (True, True, 2, 2)
    assert seen.shows_shortest(1000)


def test_time_that_runs_out_is_no_proof() -> None:
    plain = find_dialect(PLAIN)
    seen = Exploration(plain, plain, Scope(2, 9), print).run(0.0)
    assert (seen.whole, seen.complete) == (False, 0)
    assert not seen.shows_shortest(2)
    assert seen.shows_shortest(1)


def test_the_alphabet_names_what_is_there() -> None:
    monitor = Monitor(PLAIN)
    for image in alphabet.images(2):
        monitor.images.from_spec(image)
    start = monitor.state
    first = list(alphabet.letters(start, start, 2))
    assert len(first) == len({repr(each) for each in first})
    add = next(each for each in first if each["arguments"].get("backing"))
    monitor.execute(add)
    names = {
        option["node-name"]
        for each in alphabet.letters(monitor.state, start, 2)
        if each["execute"] == "blockdev-reopen"
        for option in each["arguments"]["options"]
    }
    assert names == set(monitor.state.nodes)


def test_what_is_told_comes_shortest_first() -> None:
    lengths: list[int] = []

    def tell(trace: Trace) -> None:
        lengths.append(len(trace.commands))

    series, keeps = find_dialect("series-v1"), find_dialect("omission-keeps")
    Exploration(series, keeps, Scope(2, 3), tell).run(math.inf)
    assert set(lengths) == {2, 3}
    assert lengths == sorted(lengths)
