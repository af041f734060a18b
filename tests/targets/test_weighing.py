# SPDX-License-Identifier: GPL-2.0-or-later
"""The work of a graph is counted without walking its paths, and is bounded."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from model.values.trace import ImageSpec, Trace
from targets.containment import check_trace
from targets.errors import ContainmentError
from targets.weighing import MOST_AT_ONCE, MOST_WORK, PAIRS, PER_NODE, work

if TYPE_CHECKING:
    from model.values.trace import Command


def add(name: str, driver: str, **options: Any) -> Command:
    named = {key.replace("_", "-"): value for key, value in options.items()}
    return {
        "execute": "blockdev-add",
        "arguments": {"driver": driver, "node-name": name, **named},
    }


def null(name: str) -> Command:
    return add(name, "null-co", read_zeroes=True)


def quorum(name: str, *children: Any) -> Command:
    return add(name, "quorum", vote_threshold=1, children=list(children))


def floors(count: int, width: int) -> list[Command]:
    return [
        null("l0"),
        *(quorum(f"l{at}", *[f"l{at - 1}"] * width) for at in range(1, count + 1)),
    ]


def chain(count: int) -> list[Command]:
    return [null("l0"), *(add(f"l{at}", "raw", file=f"l{at - 1}") for at in range(1, count))]


def at_the_end(*commands: Command, images: tuple[ImageSpec, ...] = ()) -> int:
    return list(work(Trace(images, commands)))[-1][0]


@pytest.mark.parametrize(
    "commands",
    [
        floors(7, 30),
        floors(39, 2),
        floors(1, 4900),
        floors(1, 1000),
        floors(13, 2),
        chain(400),
        chain(100),
        [null(f"n{at}") for at in range(400)],
        [null("l0"), *(add(f"l{at}", "raw", file="l0") for at in range(400))],
        [null("l0"), *(quorum(f"q{at}", *["l0"] * 50) for at in range(20))],
    ],
    ids=lambda commands: f"{len(commands)} commands",
)
def test_too_much_is_refused_with_one_line(commands: list[Command]) -> None:
    with pytest.raises(ContainmentError, match=r"\Astep \d+: too many nodes, paths.*use fewer\Z"):
        check_trace(Trace((), tuple(commands)))


@pytest.mark.parametrize(
    "commands",
    [
        floors(11, 2),
        floors(2, 30),
        floors(1, 150),
        chain(60),
        [null(f"n{at}") for at in range(200)],
    ],
    ids=lambda commands: f"{len(commands)} commands",
)
def test_what_takes_seconds_passes(commands: list[Command]) -> None:
    check_trace(Trace((), tuple(commands)))


def test_it_is_what_walking_all_paths_gives() -> None:
    chance = random.Random(4)  # noqa: S311  # nothing secret
    for _ in range(50):
        links = [
            [chance.randrange(at) for _ in range(chance.randint(0, 3))] if at else []
            for at in range(chance.randint(1, 8))
        ]
        commands = [quorum(f"n{at}", *(f"n{each}" for each in on)) for at, on in enumerate(links)]

        def paths(at: int, links: list[list[int]] = links) -> int:
            return 1 + sum(paths(each) for each in links[at])

        def text(at: int, links: list[list[int]] = links) -> int:
            return paths(at, links) + sum(text(each) for each in links[at])

        parents = [sum(on.count(at) for on in links) for at in range(len(links))]
        last = links[-1]
        pairs = sum(each**2 for each in parents)
        pairs += sum(last.count(each) * parents[each] ** 2 for each in set(last))
        wanted = sum(PER_NODE + text(at) for at in range(len(links))) + pairs // PAIRS
        assert at_the_end(*commands) == wanted


def test_nodes_described_in_place_count() -> None:
    inner = {"driver": "raw", "file": {"driver": "null-co"}}
    assert at_the_end(add("n", "raw", file=inner)) == at_the_end(*chain(3))


def test_a_reopen_makes_all_above_heavier_and_lighter() -> None:
    base = floors(8, 2)
    heavy = [null("b"), *base, *(add(f"c{at}", "raw", file="b") for at in range(9))]
    over = add("top", "qcow2", file="l8", backing=None)
    reopen: Command = {
        "execute": "blockdev-reopen",
        "arguments": {"options": [{"driver": "qcow2", "node-name": "top", "backing": "c8"}]},
    }
    back: Command = {
        "execute": "blockdev-reopen",
        "arguments": {"options": [{"driver": "qcow2", "node-name": "top", "backing": None}]},
    }
    query: Command = {"execute": "query-jobs", "arguments": {}}
    before = at_the_end(*heavy, over, query)
    assert at_the_end(*heavy, over, reopen) > before
    assert at_the_end(*heavy, over, reopen, back, query) == before


def test_a_reopen_does_not_take_children_of_a_quorum_away() -> None:
    commands = floors(10, 2)
    reopen: Command = {
        "execute": "blockdev-reopen",
        "arguments": {"options": [{"driver": "quorum", "node-name": "l5", "children": []}]},
    }
    query: Command = {"execute": "query-jobs", "arguments": {}}
    assert at_the_end(*commands, reopen) == at_the_end(*commands, query)


def test_a_cycle_is_no_endless_path() -> None:
    reopen: Command = {
        "execute": "blockdev-reopen",
        "arguments": {"options": [{"driver": "qcow2", "node-name": "a", "backing": "b"}]},
    }
    commands = [null("f"), add("a", "qcow2", file="f"), add("b", "qcow2", file="f", backing="a")]
    assert at_the_end(*commands, reopen, reopen) < 1000


def test_a_snapshot_moves_what_is_above() -> None:
    commands = [*floors(6, 2), null("f"), add("o", "qcow2", file="f", backing=None)]
    snapshot: Command = {
        "execute": "blockdev-snapshot",
        "arguments": {"node": "l0", "overlay": "o"},
    }
    query: Command = {"execute": "query-jobs", "arguments": {}}
    # Each of the 64 paths down is two nodes longer.
    assert at_the_end(*commands, snapshot) > at_the_end(*commands, query) + 2 * 64


@pytest.mark.parametrize("used", [False, True])
def test_what_is_deleted_counts_no_more(used: bool) -> None:
    export: Command = {
        "execute": "block-export-add",
        "arguments": {"type": "nbd", "id": "e", "node-name": "n"},
    }
    delete: Command = {"execute": "blockdev-del", "arguments": {"node-name": "n"}}
    inner: dict[str, Any] = {"driver": "null-co"}
    for _ in range(9):
        inner = {"driver": "quorum", "children": [inner, inner]}
    commands = [add("n", "raw", file=inner), *([export] if used else []), delete]
    # A heavy node that something may still use is not believed to be gone.
    assert (at_the_end(*commands) == 0) is not used


def test_chains_that_images_name_count() -> None:
    images = tuple(
        ImageSpec(f"hd{at}", "qcow2", 1 << 20, f"hd{at - 1}" if at else None, "qcow2")
        for at in range(50)
    )
    opened = add("n", "qcow2", file={"driver": "file", "filename": "hd49"})
    assert at_the_end(opened, images=images) > at_the_end(opened) + 49 * 49
    alone = add("n", "qcow2", backing=None, file={"driver": "file", "filename": "hd49"})
    assert at_the_end(alone, images=images) == at_the_end(opened)


def test_images_below_each_other_in_a_circle_end() -> None:
    images = (ImageSpec("a", "qcow2", 1, "b"), ImageSpec("b", "qcow2", 1, "a"))
    opened = add("n", "qcow2", file={"driver": "file", "filename": "a"})
    assert at_the_end(opened, images=images) < 1000


def test_the_sum_is_bounded_as_well_as_a_step() -> None:
    commands = (*floors(10, 2), *({"execute": "query-jobs", "arguments": {}},) * 100)
    steps = list(work(Trace((), commands)))
    assert max(now for now, _ in steps) < MOST_AT_ONCE
    assert steps[-1][1] > MOST_WORK
    with pytest.raises(ContainmentError, match="granted to all steps"):
        check_trace(Trace((), commands))
