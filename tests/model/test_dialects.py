# SPDX-License-Identifier: GPL-2.0-or-later
"""Dialects say how they differ and no more, and what a release does otherwise is seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import model.dialects
from model import Monitor
from model.dialects import DIALECTS, PROPOSALS, QEMU_7_2, QEMU_10_0
from model.rules import all_rules

if TYPE_CHECKING:
    from model.dialect import Dialect

ZEROES = {"driver": "null-co", "read-zeroes": True, "size": 1 << 20}
KNOWN = {rule.id for rule in all_rules()}


LATER = [name for name, dialect in DIALECTS.items() if dialect.release >= (7, 2)]
"""What 5.2 does is in ``test_qemu_5_2``: most of these commands look otherwise there."""


@pytest.fixture(params=LATER)
def monitor(request: pytest.FixtureRequest) -> Monitor:
    return Monitor(str(request.param))


def newer(monitor: Monitor) -> bool:
    return monitor.dialect.release >= (10, 0)


def run(monitor: Monitor, command: str, **arguments: Any) -> Any:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    reply = monitor.execute({"execute": command, "arguments": named})
    return reply["return"] if "return" in reply else reply["error"]["desc"]


def add(monitor: Monitor, name: str, **options: Any) -> None:
    assert run(monitor, "blockdev-add", node_name=name, **options) == {}


def node(monitor: Monitor, name: str) -> dict[str, Any]:
    nodes = run(monitor, "query-named-block-nodes", flat=True)
    found: dict[str, Any] = next(each for each in nodes if each["node-name"] == name)
    return found


@pytest.mark.parametrize("dialect", [*DIALECTS.values(), *PROPOSALS.values()])
def test_a_dialect_names_rules_that_there_are(dialect: Dialect) -> None:
    assert dialect.absent <= KNOWN
    assert set(dialect.texts) <= KNOWN


def test_a_difference_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"does not differ from qemu-7\.2 in 'reopen\.unchanged'"):
        QEMU_7_2.derive("new", gains=("reopen.unchanged",))
    with pytest.raises(ValueError, match=r"does not differ from qemu-7\.2 in 'query\.active'"):
        QEMU_7_2.derive("new", loses=("query.active",))


@pytest.mark.parametrize("module", ["qemu_10_0.py", "qemu_11_1.py"])
def test_a_later_dialect_is_small(module: str) -> None:
    """The rules stand in the model; a module of a release is a fraction of it."""
    root = Path(model.dialects.__file__).parents[1]
    whole = sum(len(path.read_text()) for path in root.rglob("*.py"))
    own = len((root / "dialects" / module).read_text())
    assert own < 0.15 * whole


def test_the_schema_is_that_of_the_release() -> None:
    assert QEMU_10_0.schema.release.startswith("10.0.")
    assert not QEMU_7_2.schema.knows("blockdev-set-active")
    assert QEMU_10_0.schema.knows("blockdev-set-active")


def test_what_a_query_shows(monitor: Monitor) -> None:
    monitor.images.create("hd0.raw", format="raw", size="1M")
    add(monitor, "n0", driver="file", filename="hd0.raw")
    info = node(monitor, "n0")
    assert info.get("active") is (True if newer(monitor) else None)
    specific = {"type": "file", "data": {}} if newer(monitor) else None
    assert info["image"].get("format-specific") == specific


def test_where_a_mirror_takes_its_notes(monitor: Monitor) -> None:
    add(monitor, "n0", **ZEROES)
    add(monitor, "n1", **ZEROES)
    names = {"device": "n0", "target": "n1", "filter-node-name": "f0"}
    assert run(monitor, "blockdev-mirror", job_id="j0", sync="full", **names) == {}
    noted = [name for name in ("n0", "f0") if "dirty-bitmaps" in node(monitor, name)]
    assert noted == (["f0"] if newer(monitor) else ["n0"])
    (job,) = run(monitor, "query-block-jobs")
    assert job.get("actively-synced") is (False if newer(monitor) else None)


def test_who_gives_space_back(monitor: Monitor) -> None:
    """A mirror writes zeroes to a target that is not to unmap."""
    monitor.images.create("hd0.qcow2", format="qcow2", size="1M")
    monitor.images.write("hd0.qcow2", 0, 65536, 1)
    file = {"driver": "file", "filename": "hd0.qcow2"}
    add(monitor, "n0", **ZEROES)
    add(monitor, "n1", driver="qcow2", file=file)
    run(monitor, "blockdev-mirror", job_id="j0", sync="full", device="n0", target="n1")
    assert bool(monitor.state.images["hd0.qcow2"].free) is not newer(monitor)


def test_who_blocks_a_resize(monitor: Monitor) -> None:
    add(monitor, "n0", **ZEROES)
    add(monitor, "n1", **ZEROES)
    run(monitor, "blockdev-mirror", job_id="j0", sync="full", device="n0", target="n1")
    busy = "Node 'n0' is busy: block device is in use by block job: mirror"
    expected = busy if newer(monitor) else "Device '(null)' is in use"
    assert run(monitor, "block_resize", node_name="n0", size=512) == expected


def test_when_a_filter_looks_at_its_length(monitor: Monitor) -> None:
    monitor.images.create("hd0.raw", format="raw", size="1M")
    add(monitor, "n0", driver="file", filename="hd0.raw")
    add(monitor, "n1", driver="raw", file="n0")
    run(monitor, "block_resize", node_name="n0", size=2 << 20)
    before = node(monitor, "n1")["image"]["virtual-size"]
    assert before == (1 << 20 if monitor.dialect is QEMU_10_0 else 2 << 20)
    options = {"driver": "raw", "node-name": "n1", "file": "n0"}
    assert run(monitor, "blockdev-reopen", options=[options]) == {}
    assert node(monitor, "n1")["image"]["virtual-size"] == 2 << 20


def test_a_size_that_is_negative(monitor: Monitor) -> None:
    monitor.images.create("hd0.raw", format="raw", size="1M")
    add(monitor, "n0", driver="file", filename="hd0.raw")
    said = run(monitor, "blockdev-add", node_name="n1", driver="raw", file="n0", offset=-1)
    new = "Value '-1' is out of range for parameter 'offset'"
    old = "Parameter 'offset' expects a non-negative number below 2^64"
    assert said == (new if newer(monitor) else old)


def test_a_list_that_reaches_a_node_twice(monitor: Monitor) -> None:
    add(monitor, "n0", **ZEROES)
    options = {**ZEROES, "node-name": "n0"}
    assert run(monitor, "blockdev-reopen", options=[options, options]) == {}
    assert monitor.outcome is not None
    stays = monitor.dialect is QEMU_10_0
    assert monitor.outcome.hazards == ({"hazard.stays-drained"} if stays else set())
