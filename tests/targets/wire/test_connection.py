# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection to a monitor: lines in, bytes out."""

from __future__ import annotations

import socket

import pytest

from targets.wire.connection import Connection, ConnectionLostError, SilenceError


def test_lines_are_put_together_and_sending_never_blocks() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    with theirs:
        with pytest.raises(SilenceError):
            connection.receive(0.01)
        theirs.sendall(b"one\r\ntw")
        assert connection.receive(1) == [b"one"]
        theirs.sendall(b"o\r\nthree\r\n")
        assert connection.receive(1) == [b"two", b"three"]
        connection.send(b"x" * 5_000_000)  # far more than a socket holds
        received = len(theirs.recv(1 << 20))
        theirs.sendall(b"go on\r\n")
        assert connection.receive(1) == [b"go on"]
        theirs.settimeout(1)
        while received < 5_000_000:
            received += len(theirs.recv(1 << 20))
            theirs.sendall(b".\r\n")
            connection.receive(1)
        theirs.sendall(b"last\r\n")
    connection.send(b"to nobody")
    assert connection.receive(1)[-1] == b"last"
    with pytest.raises(ConnectionLostError):
        connection.receive(1)
    connection.close()
