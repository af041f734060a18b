# SPDX-License-Identifier: GPL-2.0-or-later
"""What is sent to a daemon: commands as bytes that are as few as can be, and our queries."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from targets.errors import TargetError

if TYPE_CHECKING:
    from model.values.trace import Command

NODES: Command = {"execute": "query-named-block-nodes", "arguments": {"flat": True}}
GRAPH: Command = {"execute": "x-debug-query-block-graph"}
JOBS: Command = {"execute": "query-block-jobs"}
EXPORTS: Command = {"execute": "query-block-exports"}

# The encoder of the standard library, because a trace may hold what others refuse: numbers
# of any size and lone surrogates.
encode = json.JSONEncoder(separators=(",", ":")).encode


def request_of(command: Command, name: int | str) -> str:
    """A command as it is sent under a name. Raises TargetError if it cannot be written down."""
    try:
        return encode({**command, "id": name})
    except (RecursionError, ValueError) as error:
        raise TargetError(f"a command cannot be sent: {error}") from error


def path_of(command: Command) -> str | None:
    """The path of the Unix socket on which a command lets the NBD server listen."""
    with suppress(KeyError, TypeError):
        return str(command["arguments"]["addr"]["data"]["path"])
    return None
