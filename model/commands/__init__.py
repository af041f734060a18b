# SPDX-License-Identifier: GPL-2.0-or-later
"""The QMP commands, one function each: ``(transition, arguments) -> return value or None``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from model.commands.driving import DRIVING, READ, WAIT, WRITE
from model.commands.jobs import VERBS, query_block_jobs, query_jobs
from model.commands.nodes import (
    blockdev_add,
    blockdev_del,
    blockdev_reopen,
    blockdev_snapshot,
    x_blockdev_change,
)
from model.commands.objects import object_add, object_del
from model.commands.queries import (
    query_named_block_nodes,
    query_nothing,
    x_debug_query_block_graph,
)
from model.commands.resizing import block_resize
from model.graph import Transition

Handler = Callable[[Transition, dict[str, Any]], Any]

COMMANDS: dict[str, Handler] = {
    "block_resize": block_resize,
    "blockdev-add": blockdev_add,
    "blockdev-del": blockdev_del,
    "blockdev-reopen": blockdev_reopen,
    "blockdev-snapshot": blockdev_snapshot,
    "object-add": object_add,
    "object-del": object_del,
    "query-block": query_nothing,
    "query-block-exports": query_nothing,
    "query-block-jobs": query_block_jobs,
    "query-jobs": query_jobs,
    "query-named-block-nodes": query_named_block_nodes,
    "x-blockdev-change": x_blockdev_change,
    "x-debug-query-block-graph": x_debug_query_block_graph,
    **VERBS,
}

__all__ = ["COMMANDS", "DRIVING", "READ", "WAIT", "WRITE", "Handler"]
