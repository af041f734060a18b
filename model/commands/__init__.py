# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP commands, one function each: ``(transition, arguments) -> return value or None``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from model.commands.block_resize import block_resize
from model.commands.devices import device_add, device_del
from model.commands.exports import (
    block_export_add,
    block_export_del,
    nbd_server_start,
    nbd_server_stop,
    query_block_exports,
)
from model.commands.harness import DRIVING
from model.commands.iothreads import x_blockdev_set_iothread
from model.commands.job_verbs import VERBS, query_block_jobs, query_jobs
from model.commands.nodes import (
    blockdev_add,
    blockdev_del,
    blockdev_reopen,
    blockdev_snapshot,
    x_blockdev_change,
    x_blockdev_reopen,
)
from model.commands.objects import object_add, object_del
from model.commands.queries import (
    query_block,
    query_named_block_nodes,
    x_debug_query_block_graph,
)
from model.graph.transition import Transition
from model.jobs.backup import blockdev_backup
from model.jobs.commit import block_commit
from model.jobs.mirror_start import blockdev_mirror
from model.jobs.stream import block_stream
from model.values.trace import OBJECT, READ, WAIT, WRITE

Handler = Callable[[Transition, dict[str, Any]], Any]

COMMANDS: dict[str, Handler] = {
    "block-export-add": block_export_add,
    "block-export-del": block_export_del,
    "block-commit": block_commit,
    "block-stream": block_stream,
    "block_resize": block_resize,
    "blockdev-add": blockdev_add,
    "blockdev-backup": blockdev_backup,
    "blockdev-del": blockdev_del,
    "blockdev-mirror": blockdev_mirror,
    "blockdev-reopen": blockdev_reopen,
    "blockdev-snapshot": blockdev_snapshot,
    "device_add": device_add,
    "device_del": device_del,
    "nbd-server-start": nbd_server_start,
    "nbd-server-stop": nbd_server_stop,
    "object-add": object_add,
    "object-del": object_del,
    "query-block": query_block,
    "query-block-exports": query_block_exports,
    "query-block-jobs": query_block_jobs,
    "query-jobs": query_jobs,
    "query-named-block-nodes": query_named_block_nodes,
    "x-blockdev-change": x_blockdev_change,
    "x-blockdev-reopen": x_blockdev_reopen,
    "x-blockdev-set-iothread": x_blockdev_set_iothread,
    "x-debug-query-block-graph": x_debug_query_block_graph,
    **VERBS,
}

__all__ = ["COMMANDS", "DRIVING", "OBJECT", "READ", "WAIT", "WRITE", "Handler"]
