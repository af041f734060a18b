# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings and summaries as the checker would fill them."""

from __future__ import annotations

from typing import Any

from model.values.trace import ImageSpec, Observation
from reports.values import Difference, Finding, RuleUse, Step, Summary

ADD = {
    "execute": "blockdev-add",
    "arguments": {
        "driver": "qcow2",
        "node-name": "it's",
        "file": {"driver": "file", "filename": "hd0.qcow2"},
    },
}
REOPEN = {"execute": "blockdev-del", "arguments": {"node-name": "$(no such) `node`"}}

NODES: list[dict[str, Any]] = [
    {"node-name": "it's", "drv": "qcow2", "ro": True},
    {"node-name": "#block012", "drv": "file", "ro": False},
]
GRAPH: dict[str, Any] = {
    "nodes": [
        {"id": 2, "type": "block-driver", "name": "it's"},
        {"id": 1, "type": "block-driver", "name": "#block012"},
    ],
    "edges": [
        {
            "parent": 2,
            "child": 1,
            "name": "file",
            "perm": ["write", "consistent-read"],
            "shared-perm": ["resize"],
        }
    ],
}
ADDED = Observation({"return": {}}, NODES, GRAPH)

FINDING = Finding(
    kind="divergence",
    signature="blockdev-del | reply",
    title="blockdev-del: reply: expected success, got 'x'",
    images=(
        ImageSpec("base.raw", "raw", 65536),
        ImageSpec("hd0.qcow2", "qcow2", 1048576, "base.raw", "raw"),
    ),
    steps=(
        Step(ADD, ADDED, ADDED),
        Step(
            REOPEN,
            Observation({"return": {}}, [], {"nodes": [], "edges": []}),
            Observation({"error": {"class": "GenericError", "desc": "x | y"}}, NODES, GRAPH),
        ),
    ),
    difference=Difference(1, "reply", {"return": {}}, {"error": {}}),
    case_file="out/cases/x.json",
    occurrences=3,
    release="7.2.22",
    dialect="qemu-7.2",
    seed=5,
)

SUMMARY = Summary(
    command="diff",
    release="7.2.22",
    dialect="qemu-7.2",
    seed=5,
    examples=10,
    commands=100,
    accepted=60,
    refused=40,
    divergences=3,
    seconds=2.0,
    rules=(
        RuleUse("a.one", "One holds.", "guard", 5, 2),
        RuleUse("a.two", "Two holds.", "guard", 1, 0),
        RuleUse("a.three", "Three holds.", "effect"),
        RuleUse("a.four", "Four holds.", "guard", unreachable="nobody gets there"),
    ),
    findings=(FINDING,),
    target="qemu-storage-daemon version 7.2.22",
    notes=("a note",),
)
