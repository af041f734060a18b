# SPDX-License-Identifier: GPL-2.0-or-later
"""Dialects say how they differ and no more, and what a release does otherwise is seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import model.release.dialects
from model import Monitor
from model.release.dialects import DIALECTS, PROPOSALS
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.release.dialects.qemu_10_0 import QEMU_10_0
from model.release.rules import all_rules

if TYPE_CHECKING:
    from model.release.dialect import Dialect

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


def rights(monitor: Monitor, parent: str) -> set[str]:
    """What a node requires of its child."""
    graph = run(monitor, "x-debug-query-block-graph")
    number = next(each["id"] for each in graph["nodes"] if each["name"] == parent)
    (edge,) = (each for each in graph["edges"] if each["parent"] == number)
    return set(edge["perm"])


BOTH = {"write", "resize"}
PREALLOCATE = {"driver": "preallocate", "node-name": "n1", "file": "n0"}


@pytest.fixture
def grown(monitor: Monitor) -> Monitor:
    """The qcow2 node n2, above the preallocate node n1, has written behind the end of a file."""
    monitor.images.create("hd0.qcow2", format="qcow2", size="1M")
    add(monitor, "f0", driver="file", filename="hd0.qcow2")
    add(monitor, "n0", driver="raw", file="f0")
    add(monitor, "n1", driver="preallocate", file="n0")
    add(monitor, "n2", driver="qcow2", file="n1")
    monitor.write("n2", 0, 512, 1)
    assert monitor.images["hd0.qcow2"].length > 1 << 20
    return monitor


def test_when_preallocated_space_is_given_back(grown: Monitor) -> None:
    """In the same transaction 10.0 still has it, and a client sees that by what is refused."""
    overlay = {"driver": "qcow2", "node-name": "n2", "file": "n0"}
    said = run(grown, "blockdev-reopen", options=[overlay])
    if newer(grown):
        assert "both required by node 'n1'" in said
        assert rights(grown, "n1") >= BOTH
        assert run(grown, "blockdev-del", node_name="n2") == {}
    else:
        assert said == {}
    assert not rights(grown, "n1")
    assert grown.images["hd0.qcow2"].length < 1 << 20


def test_preallocated_space_that_cannot_be_given_back(grown: Monitor) -> None:
    """10.0 keeps what it preallocated; before, nothing changes for the file."""
    window = {"driver": "raw", "node-name": "n0", "file": "f0", "size": 100 << 20}
    assert run(grown, "blockdev-reopen", options=[window]) == {}
    assert run(grown, "blockdev-del", node_name="n2") == {}
    assert rights(grown, "n1") == (BOTH if newer(grown) else {*BOTH, "consistent-read"})
    if newer(grown):
        prefix = "preallocate-filter: failed to drop write-zero preallocation: "
        fixed = "Cannot resize fixed-size raw disks"
        assert run(grown, "block_resize", node_name="n1", size=1 << 30) == prefix + fixed
        drop = "Failed to drop preallocation: Operation not supported"
        read_only = {**PREALLOCATE, "read-only": True}
        assert run(grown, "blockdev-reopen", options=[read_only]) == drop
        assert rights(grown, "n1") == BOTH


def test_a_preallocate_node_whose_file_has_a_fixed_size(monitor: Monitor) -> None:
    """An error in place of the data's end counts as one, until a reopen looks again."""
    monitor.images.create("hd0.raw", format="raw", size="1M")
    file = {"driver": "file", "filename": "hd0.raw"}
    add(monitor, "n0", driver="raw", file=file, size=65536)
    add(monitor, "n1", driver="preallocate", file="n0")
    said = run(monitor, "block_resize", node_name="n1", size=1000)
    assert said == "Cannot resize fixed-size raw disks"
    assert rights(monitor, "n1") == (BOTH if newer(monitor) else set())
    assert run(monitor, "blockdev-reopen", options=[PREALLOCATE]) == {}
    assert not rights(monitor, "n1")


def test_rights_that_a_refused_reopen_leaves_away(monitor: Monitor) -> None:
    monitor.images.create("hd0.raw", format="raw", size="1M")
    # The file inherits its options, so it is to become read-only, too, and its writers mind.
    file = {"driver": "file", "filename": "hd0.raw", "node-name": "n0"}
    add(monitor, "n1", driver="preallocate", file=file)
    add(monitor, "n2", driver="raw", file="n1")
    writer = {"driver": "blkdebug", "image": "n2", "take-child-perms": ["write", "resize"]}
    assert run(monitor, "blockdev-add", node_name="n3", **writer) == {}
    overlay = {"driver": "raw", "node-name": "n2", "file": "n0"}
    refused = {**PREALLOCATE, "read-only": True}
    assert "Read-only" in run(monitor, "blockdev-reopen", options=[overlay, refused])
    assert monitor.outcome is not None
    lost = {"hazard.preallocate-rights-lost"} if newer(monitor) else set()
    assert monitor.outcome.hazards == lost
    assert rights(monitor, "n1") == (set() if newer(monitor) else BOTH)


def test_what_the_filter_of_a_stream_job_keeps(monitor: Monitor) -> None:
    """In 10.0 it stays until the job is dismissed, and with it the last image that was streamed."""
    monitor.images.create("hd0.qcow2", format="qcow2", size="1M")
    monitor.images.create("hd1.qcow2", format="qcow2", size="1M")
    files = [{"driver": "file", "filename": f"hd{i}.qcow2"} for i in range(2)]
    below = {"driver": "qcow2", "node-name": "n0", "file": files[0]}
    add(monitor, "n1", driver="qcow2", file=files[1], backing=below)
    named = {"device": "n1", "job-id": "j0", "filter-node-name": "f0", "auto-dismiss": False}
    assert run(monitor, "block-stream", **named) == {}
    assert monitor.outcome is not None
    if not newer(monitor):
        assert "hazard.orphaned-filter" in monitor.outcome.hazards
        return
    add(monitor, "n2", driver="raw", file="f0", read_only=True)
    assert run(monitor, "job-dismiss", id="j0") == {}
    assert {"f0", "n0"} <= set(monitor.state.nodes)
    run(monitor, "reopencheck-read", node="n2")
    assert "hazard.copy-on-read-bottom" in monitor.outcome.hazards
    assert run(monitor, "blockdev-del", node_name="n2") == {}
    assert not {"f0", "n0"} & set(monitor.state.nodes)


def test_a_job_does_not_follow_its_target_before_it_has_it() -> None:
    """The source was left in an iothread; the filter takes it to the main loop, alone."""
    monitor = Monitor("qemu-10.0")
    iothread = {"qom-type": "iothread", "id": "io0"}
    assert run(monitor, "object-add", **iothread) == {}
    add(monitor, "n0", **ZEROES)
    add(monitor, "n1", **ZEROES)
    address = {"type": "unix", "data": {"path": "nbd.sock"}}
    assert run(monitor, "nbd-server-start", addr=address) == {}
    fixed = {"type": "nbd", "id": "e0", "node-name": "n1", "iothread": "io0"}
    assert run(monitor, "block-export-add", fixed_iothread=True, **fixed) == {}
    assert "job ID" in run(monitor, "blockdev-mirror", device="n1", target="n0", sync="full")
    assert monitor.state.nodes["n0"].context == "io0"
    said = run(monitor, "blockdev-mirror", job_id="j0", device="n0", target="n1", sync="full")
    assert said == "Cannot change iothread of active block backend"
