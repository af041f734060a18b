# SPDX-License-Identifier: GPL-2.0-or-later
"""From builders to commands: the mix of right, near-valid and invalid ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from model.speaking import spoken
from strategies.builders import (
    add_node,
    beside_jobs,
    devices,
    exports,
    graph_commands,
    guest_io,
    jobs,
    reopen,
)
from strategies.builders.scene import Scene
from strategies.choices.weights import NEAR_VALID
from strategies.near_valid.malformed import malformed
from strategies.near_valid.table import spoil

if TYPE_CHECKING:
    from model.trace import Command

T = TypeVar("T")
Build = Callable[[Scene], dict[str, Any]]


def _new(build: Callable[[Scene], dict[str, Any]]) -> Build:
    def arguments(scene: Scene) -> dict[str, Any]:
        name = scene.fresh_name()
        return {**build(scene), "node-name": name}

    return arguments


def _reopen(build: Callable[[Scene], list[dict[str, Any]]]) -> Build:
    def arguments(scene: Scene) -> dict[str, Any]:
        options = build(scene)
        # Before there was a list, one node was reopened at a time.
        return {
            "options": options if scene.dialect.schema.knows("blockdev-reopen") else options[:1]
        }

    return arguments


BUILDERS: Final[dict[str, tuple[str, Build]]] = {
    "add_protocol": ("blockdev-add", _new(add_node.protocol)),
    "add_chain": ("blockdev-add", _new(add_node.chain)),
    "add_format": ("blockdev-add", _new(add_node.format_by_reference)),
    "add_filter": ("blockdev-add", _new(add_node.filter_by_reference)),
    "add_quorum": ("blockdev-add", _new(add_node.quorum)),
    "add_blkverify": ("blockdev-add", _new(add_node.blkverify)),
    "delete": ("blockdev-del", graph_commands.deletion),
    "reopen_options": ("blockdev-reopen", _reopen(reopen.one)),
    "reopen_as_it_is": ("blockdev-reopen", _reopen(reopen.as_it_is)),
    "reopen_less": ("blockdev-reopen", _reopen(reopen.less)),
    "reopen_backing": ("blockdev-reopen", _reopen(reopen.backing)),
    "reopen_file": ("blockdev-reopen", _reopen(reopen.file)),
    "reopen_several": ("blockdev-reopen", _reopen(reopen.several)),
    "reopen_swap": ("blockdev-reopen", _reopen(reopen.swap_backing)),
    "reopen_children": ("blockdev-reopen", _reopen(reopen.children)),
    "snapshot": ("blockdev-snapshot", graph_commands.snapshot),
    "change_quorum": ("x-blockdev-change", graph_commands.quorum_child),
    "add_throttle_group": ("object-add", graph_commands.throttle_group),
    "add_iothread": ("object-add", graph_commands.iothread),
    "delete_object": ("object-del", graph_commands.object_deletion),
    "resize": ("block_resize", graph_commands.resize),
    "query_nodes": ("query-named-block-nodes", graph_commands.query_nodes),
    "query_graph": ("x-debug-query-block-graph", lambda _: {}),
    "add_tower": ("blockdev-add", _new(add_node.tower)),
    "reopen_busy": ("blockdev-reopen", _reopen(beside_jobs.reopen)),
    "reopen_frozen": ("blockdev-reopen", _reopen(beside_jobs.reopen_frozen)),
    "commit": ("block-commit", jobs.commit),
    "active_commit": ("block-commit", jobs.active_commit),
    "stream": ("block-stream", jobs.stream),
    "mirror": ("blockdev-mirror", jobs.mirror),
    "backup": ("blockdev-backup", jobs.backup),
    "delete_export": ("block-export-del", exports.export_deletion),
    "add_device": ("device_add", devices.device),
    "add_controller": ("device_add", devices.controller),
    "add_disk": ("device_add", devices.disk),
    "delete_device": ("device_del", devices.deletion),
    "set_iothread": ("x-blockdev-set-iothread", exports.move),
}
"""What each rule of the machine sends: its command and the builder of its arguments."""

CHOOSERS: Final[dict[str, Callable[[Scene], Command]]] = {
    "job_verb": jobs.any_verb,
    **{f"job_{name}": jobs.verb(name) for name in jobs.VERBS},
    "job_ending": jobs.ending,
    "bump": beside_jobs.bump,
    "add_export": exports.exporting,
    "nbd_server": exports.server,
    "query_jobs": jobs.query,
    "query_disks": devices.query,
    "read": guest_io.read_one,
    "write": guest_io.write_one,
}
"""What the other rules send: the builder chooses the command, too."""

_TO_MALFORM: Final = (
    "add_chain",
    "add_filter",
    "add_quorum",
    "add_protocol",
    "delete",
    "add_throttle_group",
    "add_iothread",
    "delete_object",
    "query_nodes",
    "delete_export",
)
_TO_MALFORM_WITH_NODES: Final = (
    "reopen_options",
    "reopen_children",
    "reopen_several",
    "snapshot",
    "change_quorum",
    "resize",
    "commit",
    "stream",
    "mirror",
    "backup",
    "add_export",
    "set_iothread",
)
_TO_MALFORM_WITH_JOBS: Final = ("job_verb", "job_verb", "nbd_server")


def build(scene: Scene, kind: str, *, near_valid: int = NEAR_VALID) -> Command:
    """The next command of one kind: right as far as the state tells, or one thing wrong in it."""
    if kind in CHOOSERS:
        chosen = CHOOSERS[kind](scene)
        command, arguments = chosen["execute"], chosen.get("arguments", {})
        near_valid = near_valid // 2
    else:
        command, make = BUILDERS[kind]
        arguments = make(scene)
    if scene.choose.chance(near_valid):
        spoil(scene, command, arguments)
    return (
        {"execute": command, "arguments": _owned(arguments)} if arguments else {"execute": command}
    )


def build_malformed(scene: Scene) -> Command:
    """An invalid command."""
    kinds: tuple[str, ...] = _TO_MALFORM
    if scene.nodes:
        kinds += _TO_MALFORM_WITH_NODES
    if scene.jobs():
        kinds += _TO_MALFORM_WITH_JOBS
    right = build(scene, scene.choose.one_of(kinds), near_valid=0)
    right = spoken(right, scene.dialect.schema)
    return _owned(malformed(scene.choose, right))


def _owned(value: T) -> T:
    """A copy: builders put values of their tables into commands, and a trace owns what it holds."""
    if isinstance(value, dict):
        return {key: _owned(each) for key, each in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [_owned(each) for each in value]  # type: ignore[return-value]
    return value
