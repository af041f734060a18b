# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU 5.2."""

from __future__ import annotations

from model.dialects.qemu_7_2 import QEMU_7_2

QEMU_5_2 = QEMU_7_2.derive(
    "qemu-5.2",
    (5, 2),
    gains=(
        "job.own-backend",
        "permissions.from-each-node",
        "permissions.graph-mod",
        "query.bitmap-status",
        "query.encryption-key-missing",
    ),
    loses=(
        "backup.filter-is-a-driver",
        "mirror.filter-passes-on",
        "raw.gives-back",
        "reopen.file-too",
        "reopen.links-first",
        "stream.filter",
    ),
    texts={
        "graph.cycle": "Making '{child}' a {name} file of '{parent}' would create a cycle",
        "node-name.form": "Invalid node name",
        "node-name.taken": "Duplicate node name",
        "node.unknown": "Cannot find node {node}",
        "node.unknown-reference": "Cannot find device={device} nor node_name={node}",
        "options.size-range": "Value '{value}' is out of range for parameter '{key}'",
        "reopen.frozen": "Cannot change '{name}' link from '{parent}' to '{child}'",
        "reopen.implicit-child": "Cannot change backing link if '{node}' has an implicit "
        "backing file",
        "reopen.node-name-missing": "Node name not specified",
        "reopen.unknown-child": "Cannot find device= nor node_name={node}",
        "reopen.unknown-node": "Cannot find node named '{node}'",
    },
)
