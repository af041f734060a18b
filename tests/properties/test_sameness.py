# SPDX-License-Identifier: GPL-2.0-or-later
"""States are the same where tables were only written down, and not where a file is longer."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from model import BlockState, Monitor, find_dialect
from model.values.image_layout import tables_end
from model.values.state import FrozenDict
from properties.sameness import same_but_for_order
from properties.space import without_space

DIALECT = find_dialect("qemu-7.2")
NAME = "a.qcow2"
FILE = {"driver": "file", "node-name": "file", "filename": NAME}
CLUSTER = 65536


def written(between: dict[str, Any] | None = None) -> BlockState:
    """An image that has tables in a cache, opened over its file or over a node between."""
    monitor = Monitor(DIALECT)
    monitor.images.create(NAME, format="qcow2", size=1 << 20)
    top = {"driver": "qcow2", "node-name": "top", "file": {**between, "file": FILE}
           if between else FILE}  # fmt: skip
    write = {"node": "top", "offset": 0, "length": 512, "pattern": 7}
    for name, arguments in (("blockdev-add", top), ("reopencheck-write", write)):
        monitor.execute({"execute": name, "arguments": arguments})
    state = monitor.state
    assert state.nodes["top"].private.cached
    return state


def with_length(state: BlockState, length: int) -> BlockState:
    """The state with a file of another length, as its node sees, too."""
    image = attrs.evolve(state.images[NAME], length=length)
    file = attrs.evolve(state.nodes["file"], size=length)
    return attrs.evolve(
        state,
        images=FrozenDict({**state.images, NAME: image}),
        nodes=FrozenDict({**state.nodes, "file": file}),
    )


def with_cache(state: BlockState, *, cached: bool) -> BlockState:
    top = state.nodes["top"]
    top = attrs.evolve(top, private=attrs.evolve(top.private, cached=cached))
    return attrs.evolve(state, nodes=FrozenDict({**state.nodes, "top": top}))


def test_tables_may_be_written_down() -> None:
    state = written()
    end = tables_end(state.images[NAME])
    before = with_length(state, end - CLUSTER)
    after = with_cache(with_length(state, end), cached=False)
    assert same_but_for_order(before, after, DIALECT)
    assert same_but_for_order(after, before, DIALECT)


@pytest.mark.parametrize(
    ("before", "after"), [(-CLUSTER, CLUSTER), (-CLUSTER, -512), (0, CLUSTER), (CLUSTER, 0)]
)
def test_a_file_reaches_to_the_end_of_its_tables_and_not_further(before: int, after: int) -> None:
    state = written()
    end = tables_end(state.images[NAME])
    one = with_length(state, end + before)
    other = with_cache(with_length(state, end + after), cached=False)
    assert not same_but_for_order(one, other, DIALECT)


def test_without_a_cache_nothing_is_written_down() -> None:
    state = with_cache(written(), cached=False)
    end = tables_end(state.images[NAME])
    one, other = with_length(state, end - CLUSTER), with_length(state, end)
    assert not same_but_for_order(one, other, DIALECT)


def test_below_what_preallocates_a_file_may_become_longer() -> None:
    state = written({"driver": "preallocate", "node-name": "space"})
    end = tables_end(state.images[NAME])
    short, long = with_length(state, end - CLUSTER), with_length(state, end + CLUSTER)
    assert same_but_for_order(short, long, DIALECT)
    assert not same_but_for_order(with_length(state, end), long, DIALECT)


def in_store() -> BlockState:
    """A file that is longer than its data, since a node has preallocated the rest."""
    state = written({"driver": "preallocate", "node-name": "space"})
    private = state.nodes["space"].private
    assert private.data_end < private.file_end == state.images[NAME].length
    return state


def forgotten(state: BlockState) -> BlockState:
    space = state.nodes["space"]
    private = attrs.evolve(space.private, data_end=None, file_end=None, alone=False)
    nodes = {**state.nodes, "space": attrs.evolve(space, private=private)}
    return attrs.evolve(state, nodes=FrozenDict(nodes))


def test_space_may_be_given_back_and_not_only_forgotten() -> None:
    before = in_store()
    end = before.nodes["space"].private.data_end
    given = forgotten(with_length(before, end))
    assert without_space(before) == without_space(given)
    for wrong in (forgotten(before), forgotten(with_length(before, end - CLUSTER))):
        assert without_space(before) != without_space(wrong)


def test_space_stays_in_a_file_that_cannot_be_cut() -> None:
    state = in_store()
    file = attrs.evolve(state.nodes["file"], read_only=True)
    stuck = attrs.evolve(state, nodes=FrozenDict({**state.nodes, "file": file}))
    assert without_space(stuck) == without_space(forgotten(stuck))
