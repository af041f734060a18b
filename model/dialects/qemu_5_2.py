# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU 5.2."""

from __future__ import annotations

from model.dialects.qemu_7_2 import QEMU_7_2

QEMU_5_2 = QEMU_7_2.derive(
    "qemu-5.2",
    (5, 2),
    gains=(
        "export.stays-and-tells",
        "file.copies-locks",
        "hazard.backing-conflict",
        "hazard.cycle-unnoticed",
        "hazard.descriptor-closed",
        "hazard.export-tells-twice",
        "hazard.filter-outlives-mirror",
        "job.own-backend",
        "permissions.from-each-node",
        "permissions.gets-writer",
        "permissions.graph-mod",
        "permissions.not-allowed",
        "permissions.used",
        "query.bitmap-status",
        "query.encryption-key-missing",
        "resize.file-limit",
    ),
    loses=(
        "backup.filter-is-a-driver",
        "context.abort-returns",
        "file.forgets-access",
        "graph.abort-reorders",
        "job.block-jobs-say-why",
        "job.completes-in-standby",
        "job.pause-wakes",
        "mirror.filter-passes-on",
        "permissions.conflict",
        "raw.gives-back",
        "raw.names-window",
        "reopen.file-too",
        "reopen.forgets-backing",
        "reopen.links-first",
        "resize.maximum",
        "stream.filter",
    ),
    texts={
        "commit.unknown-base": "Base '{base}' not found",
        "graph.cycle": "Making '{child}' a {name} file of '{parent}' would create a cycle",
        "mirror.granularity-power": "Parameter 'granularity' expects power of 2",
        "mirror.replaces-unknown": "Node name '{node}' not found",
        "node-name.form": "Invalid node name",
        "node-name.taken": "Duplicate node name",
        "quorum.threshold-low": "Parameter 'vote-threshold' expects value >= 1",
        "node.unknown": "Cannot find node {node}",
        "node.unknown-reference": "Cannot find device={device} nor node_name={node}",
        "options.size-range": "Value '{value}' is out of range for parameter '{key}'",
        "permissions.read-only-reopen": "Cannot make block node read-only, there is a writer on it",
        "reopen.frozen": "Cannot change '{name}' link from '{parent}' to '{child}'",
        "reopen.implicit-child": "Cannot change backing link if '{node}' has an implicit "
        "backing file",
        "stream.unknown-base": "Base '{base}' not found",
        "reopen.node-name-missing": "Node name not specified",
        "reopen.unknown-child": "Cannot find device= nor node_name={node}",
        "reopen.unknown-node": "Cannot find node named '{node}'",
    },
)
