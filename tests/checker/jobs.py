# SPDX-License-Identifier: GPL-2.0-or-later
"""A chain of three images, and a commit along it that sleeps."""

from __future__ import annotations

from typing import Any

from model.values.trace import Command, ImageSpec, Trace

MIB = 1 << 20


def command(execute: str, **arguments: Any) -> Command:
    """A command; underscores in the names of its arguments stand for dashes."""
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    return {"execute": execute, "arguments": named}


def file(name: str) -> dict[str, Any]:
    return {"driver": "file", "filename": name}


def wait(job: str, status: str, **more: int) -> Command:
    return command("reopencheck-wait", id=job, status=status, **more)


IMAGES = (
    ImageSpec("base.raw", "raw", 4 * MIB),
    ImageSpec("mid.qcow2", "qcow2", 4 * MIB, "base.raw", "raw", data=((0, 2 * MIB, 5),)),
    ImageSpec("top.qcow2", "qcow2", 4 * MIB, "mid.qcow2", "qcow2"),
)
BASE = {"driver": "raw", "node-name": "base", "file": file("base.raw")}
MID = {"driver": "qcow2", "node-name": "mid", "file": file("mid.qcow2"), "backing": BASE}
ADD = command("blockdev-add", driver="qcow2", node_name="top", file=file("top.qcow2"), backing=MID)
COMMIT = command(
    "block-commit", job_id="j0", device="top", top_node="mid", base_node="base", speed=1
)
PAUSE = command("job-pause", id="j0")
REOPEN = command(
    "blockdev-reopen",
    options=[{"driver": "qcow2", "node-name": "top", "file": file("top.qcow2"), "backing": None}],
)
CANCEL = command("job-cancel", id="j0")
READ = command("reopencheck-read", node="top")

TRACE = Trace(
    IMAGES,
    (
        ADD,
        COMMIT,
        wait("j0", "running", progress=MIB // 2),
        PAUSE,
        wait("j0", "paused"),
        REOPEN,
        CANCEL,
        wait("j0", "null"),
        READ,
    ),
)
"""A reopen bumps into a job that was put to sleep and paused; then the job is cancelled."""
