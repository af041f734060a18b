# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that says what a test has written down, without any process."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.connection import Connection
from targets.daemon import Daemon, OwnServer
from targets.deaths import Death
from targets.replay import Exchange, Replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.values.trace import Command


class ScriptedDaemon(Daemon):
    """Everything that it says is there from the start, and then it hangs up or falls silent.

    At most a socket's buffer (200 KiB) can be said.
    """

    def __init__(self, says: bytes, *, hangs_up: bool = True) -> None:
        ours, self.theirs = socket.socketpair()
        self.connection = Connection(ours)
        self.nbd = OwnServer("nowhere")
        self.directory = Path("/nowhere")
        self.theirs.sendall(says)
        if hangs_up:
            self.theirs.shutdown(socket.SHUT_WR)

    def autopsy(self, step: int, *, silent: bool) -> Death:
        return Death("hang" if silent else "exit", step, status=None if silent else 1)

    def close(self) -> None:
        self.connection.close()
        self.theirs.close()


def lines(*messages: Any) -> bytes:
    """Messages as a daemon sends them; bytes are sent as they are."""
    return b"".join(
        (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\r\n"
        for each in messages
    )


def heard(says: bytes, commands: Sequence[Command], *, observed: int = 0) -> Replay:
    """What comes of commands whose answers are all said before: always a value."""
    daemon = ScriptedDaemon(says)
    try:
        exchange = Exchange(daemon, commands, observed=observed, patience=0.01)
        death = exchange.finish(0.05)
        return Replay(exchange.observations(), death)
    finally:
        daemon.close()
