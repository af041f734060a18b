# SPDX-License-Identifier: GPL-2.0-or-later
"""A monitor that any request can be sent to: what the experiments of an import ask."""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from model.values.programs import STORAGE_DAEMON, Program
from targets.errors import TargetError
from targets.walls.process import Process, descriptor_to_pass
from targets.walls.scratch import Scratch
from targets.walls.standing import Walls
from targets.wire.connection import Connection, ConnectionLostError, SilenceError
from targets.wire.messages import Message, ProtocolError, TooMuchError, greeting, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from model.values.trace import Json

PROBE = "zz-probe"
"""A member, and a value, that no release knows."""

_REPLY_SECONDS = 20.0
_PIPELINED = 50
_SEES_FILES = Walls(frozenset({"mount"}))
SENSELESS = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What is raised where a daemon's answers are not of the form that they have in every release."""


class SchemaImportError(TargetError):
    """The daemon could not be asked, or answered what cannot be interpreted."""


class BareMonitor:
    """A connection that sends any request and drops events. ``release`` is like "7.2.22"."""

    def __init__(self, connection: socket.socket, program: str) -> None:
        self._connection = Connection(connection)
        self._lines: deque[bytes] = deque()
        self._program = program
        with self._understood():
            version: Any = greeting(self._receive())["version"]
            self.release = "{major}.{minor}.{micro}".format(**version["qemu"])
        self.send({"execute": "qmp_capabilities"})

    def send(self, request: Json) -> Message:
        """The reply to one request, whatever that is. Raises `SchemaImportError`."""
        return self.send_all([request])[0]

    def send_all(self, requests: Sequence[Json]) -> list[Message]:
        """The replies to requests that are sent without waiting for each other's."""
        replies: list[Message] = []
        for start in range(0, len(requests), _PIPELINED):
            chunk = requests[start : start + _PIPELINED]
            lines = b"".join(
                json.dumps(request, separators=(",", ":")).encode() + b"\n" for request in chunk
            )
            self._connection.send(lines)
            while len(replies) < start + len(chunk):
                message = self._receive()
                if "event" not in message:
                    replies.append(message)
        return replies

    def _receive(self) -> Message:
        with self._understood():
            while not self._lines:
                self._lines += self._connection.receive(_REPLY_SECONDS)
            return read(self._lines.popleft())

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Raise `SchemaImportError` where the daemon is silent, gone, or says what is no QMP."""
        try:
            yield
        except SilenceError as error:
            raise SchemaImportError(f"{self._program} does not answer") from error
        except ConnectionLostError as error:
            raise SchemaImportError(f"{self._program} closed the connection") from error
        except (ProtocolError, TooMuchError) as error:
            raise SchemaImportError(f"{self._program} says {error}") from error
        except SENSELESS as error:
            raise SchemaImportError(f"{self._program} does not speak QMP") from error


@contextmanager
def bare_monitor(
    argv: Sequence[str], program: Program = STORAGE_DAEMON, walls: Walls = _SEES_FILES
) -> Iterator[BareMonitor]:
    """Start a build of a program in an empty scratch directory, and end it after use.

    By default it sees the files of whoever sends the requests.

    Raises `SchemaImportError` when it cannot be started or asked.
    """
    ours, theirs = socket.socketpair()
    with ExitStack() as stack:
        stack.enter_context(ours)
        with theirs:
            passed = descriptor_to_pass(theirs.fileno())
        try:
            command = (*argv, *program.arguments(f"socket,fd={passed}"))
            scratch = stack.enter_context(Scratch())
            process = Process(command, walls, scratch.path, pass_fds=(passed,))
        except TargetError as error:
            raise SchemaImportError(str(error)) from error
        finally:
            os.close(passed)
        stack.callback(process.close)
        monitor = BareMonitor(ours, argv[0])
        yield monitor
        # Where it is killed instead, `unshare` says on our standard error that it cannot follow.
        with suppress(SchemaImportError):
            monitor.send({"execute": "quit"})
            process.wait(_REPLY_SECONDS)
