# SPDX-License-Identifier: GPL-2.0-or-later
"""The face for users of the library: what its page promises, and what is said at its edges."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import model
from model import (
    BlockState,
    ClosedError,
    ImageError,
    Monitor,
    find_dialect,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = (Path(__file__).parents[2] / "docs" / "library.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
MIB = 1 << 20


def test_the_examples_of_the_page_run_as_they_stand() -> None:
    assert len(EXAMPLES) > 4
    known: dict[str, Any] = {}
    for example in EXAMPLES:
        exec(compile(example, "docs/library.md", "exec"), known)  # noqa: S102  # our own page


def test_a_wrong_example_would_be_noticed() -> None:
    wrong = EXAMPLES[0].replace('"return": {}', '"return": 1')
    assert wrong != EXAMPLES[0]
    with pytest.raises(AssertionError):
        exec(compile(wrong, "docs/library.md", "exec"), {})  # noqa: S102


def test_the_page_names_all_that_is_exported() -> None:
    table = PAGE.partition("| name | what it is |")[2].partition("## A monitor")[0]
    missing = {name for name in model.__all__ if f"`{name}`" not in table}
    assert not missing


def test_everything_that_is_exported_is_there_and_documented() -> None:
    for name in model.__all__:
        value = getattr(model, name)
        if isinstance(value, type):
            assert value.__doc__, name


def add(name: str, **more: Any) -> dict[str, Any]:
    options = {"driver": "qcow2", "node-name": name, "file": {"driver": "file", "filename": name}}
    return {"execute": "blockdev-add", "arguments": {**options, **more}}


@pytest.fixture
def monitor() -> Monitor:
    made = Monitor("qemu-10.0")
    made.images.create("a", format="qcow2", size=MIB)
    return made


def test_a_refused_operation_changes_no_file(monitor: Monitor) -> None:
    before = monitor.state
    calls: tuple[Callable[[], None], ...] = (
        lambda: monitor.images.resize("a", 1000, shrink=True),
        lambda: monitor.images.rebase("a", "none", backing_format="raw"),
        lambda: monitor.images.create("b", format="qcow2", backing="none", backing_format="raw"),
        lambda: monitor.images.create("b", format="qcow2", size=MIB, cluster_size=4096),
        lambda: monitor.images.create("b", format="vmdk", size=MIB),
    )
    for refused in calls:
        with pytest.raises(ImageError) as error:
            refused()
        assert "\n" not in str(error.value)
        assert monitor.state is before


ODD: tuple[Any, ...] = (1.5, [], {}, b"x", "\ud800", "foo", "1\n2", object())


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_odd_arguments_are_one_clear_line(monitor: Monitor, odd: Any) -> None:
    images = monitor.images
    create = {"name": "b", "format": "qcow2", "size": MIB}
    calls: list[tuple[Any, dict[str, Any]]] = [
        (images.info, {"name": odd}),
        (images.info, {"name": "a", "format": odd}),
        (images.map, {"name": "a", "start_offset": odd}),
        (images.map, {"name": "a", "max_length": odd}),
        (images.map, {"name": "a", "start_offset": -1}),
        (images.compare, {"first": "a", "second": odd}),
        (images.read, {"name": "a", "offset": odd, "length": 1}),
        (images.read, {"name": "a", "offset": 0, "length": 10**5000}),
        (images.resize, {"name": "a", "size": odd}),
        (images.resize, {"name": "a", "size": "+"}),
        (images.resize, {"name": "a", "size": True}),
        (images.resize, {"name": "a", "size": None}),
        (images.resize, {"name": "a", "size": 10**5000}),
        (images.rebase, {"name": "a", "backing": odd, "backing_format": "qcow2"}),
        (images.create, {**create, "backing": odd, "unsafe": False}),
        *(
            (images.create, {**create, key: odd})
            for key in ("cluster_size", "refcount_bits", "preallocation", "lazy_refcounts")
        ),
    ]
    for call, arguments in calls:
        with pytest.raises(ImageError) as error:
            call(**arguments)
        assert len(str(error.value)) < 400
        assert "\n" not in str(error.value)


def test_a_map_costs_no_more_for_a_larger_image(monitor: Monitor) -> None:
    monitor.images.create("large", format="qcow2", size="1024T")
    monitor.images.write("large", 1 << 49, 512, 1)
    assert [part["data"] for part in monitor.images.map("large")] == [False, True, False]
    assert monitor.images.compare("large", "a").text == (
        f"Warning: Image size mismatch!\nContent mismatch at offset {1 << 49}!"
    )


def test_the_files_of_a_closed_monitor_are_clean(monitor: Monitor) -> None:
    monitor.images.create("b", format="qcow2", size=MIB)
    assert "return" in monitor.execute(add("b", **{"lazy-refcounts": True}))
    monitor.write("b", 0, 512, 1)
    assert monitor.images["b"].dirty
    monitor.close()
    monitor.close()
    assert not monitor.images["b"].dirty
    assert monitor.state == BlockState(images=monitor.state.images)
    for asked in (
        lambda: monitor.execute(add("b")),
        lambda: monitor.read("b", 0, 1),
        lambda: monitor.write("b", 0, 1, 1),
    ):
        with pytest.raises(ClosedError, match="is closed"):
            asked()
    assert monitor.images.read("b", 0, 1) == b"\x01"


def test_everybody_sees_what_anybody_does_to_a_file(monitor: Monitor) -> None:
    other = Monitor("qemu-7.2", images=monitor.images)
    other.images.resize("a", 2 * MIB)
    assert monitor.images["a"].size == monitor.state.images["a"].size == 2 * MIB
    monitor.execute(add("a"))
    monitor.execute({"execute": "block_resize", "arguments": {"node-name": "a", "size": 3 * MIB}})
    assert other.state.images["a"].size == 3 * MIB
    assert not other.state.nodes


def test_a_guest_s_request_is_told_of_as_a_command_is(monitor: Monitor) -> None:
    null = {"driver": "null-co", "node-name": "n", "size": MIB}
    monitor.execute({"execute": "blockdev-add", "arguments": null})
    before = monitor.outcome
    monitor.write("n", 0, 512, 1)
    assert monitor.outcome is not before
    assert monitor.outcome is not None
    assert monitor.outcome.reply == {"return": {}}


def test_the_end_of_5_2_is_not_modelled_where_tables_are_in_a_cache() -> None:
    for release, unmodelled in (("5.2", {"process.unflushed"}), ("7.2", set())):
        with Monitor(find_dialect(f"qemu-{release}")) as monitor:
            monitor.images.create("a", format="qcow2", size=MIB)
            monitor.execute(add("a"))
            monitor.write("a", 0, 512, 1)
        assert monitor.outcome is not None
        assert monitor.outcome.unmodelled == unmodelled
        assert monitor.outcome.ok is not bool(unmodelled)
        assert monitor.images.read("a", 0, 1) == b"\x01"
