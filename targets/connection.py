# SPDX-License-Identifier: GPL-2.0-or-later
"""A bare QMP connection: bytes out, lines in, never blocked in both directions at once.

QEMU's own client (``qemu.qmp``) waits for each reply and costs more than the daemon does;
docs/decisions/0001-bare-socket.md has the figures.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time

_CHUNK = 1 << 18


class ConnectionLostError(Exception):
    """The other end closed the connection."""


class SilenceError(Exception):
    """Nothing complete arrived in time."""


class Connection:
    """One connected stream socket; bytes that the kernel does not take yet wait here."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        sock.setblocking(False)
        self._sock = sock
        self._outgoing = bytearray()
        self._incoming = b""

    def close(self) -> None:
        """Close the socket; whatever was not sent or read is lost."""
        self._sock.close()

    def send(self, data: bytes) -> None:
        """Send what the kernel takes at once and keep the rest for `receive`. Never blocks.

        A connection that the other end closed is noticed by the next `receive`, after
        everything that had arrived until then.
        """
        self._outgoing += data
        self._flush()

    def receive(self, timeout: float) -> list[bytes]:
        """Wait up to `timeout` seconds for complete lines and return them, at least one.

        Sends what is still waiting meanwhile. Raises ConnectionLostError when the other end
        has closed and every line is read, SilenceError when the time is over.
        """
        poll = select.poll()
        deadline = time.monotonic() + timeout
        while True:
            poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise SilenceError
            poll.poll(remaining * 1000)
            if self._outgoing:
                self._flush()
            lines = self._read()
            if lines:
                return lines

    def available(self) -> list[bytes]:
        """Return the complete lines that have arrived, perhaps none, without waiting.

        Raises ConnectionLostError when the other end has closed and every line is read.
        """
        self._flush()
        return self._read()

    def fileno(self) -> int:
        """Return the socket's descriptor, for those who wait for several connections at once."""
        return self._sock.fileno()

    def _flush(self) -> None:
        if not self._outgoing:
            return
        try:
            sent = self._sock.send(self._outgoing, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            # The peer is gone; what it said before is still to be read.
            self._outgoing.clear()
            return
        del self._outgoing[:sent]

    def _read(self) -> list[bytes]:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ConnectionLostError from error
        if not data:
            raise ConnectionLostError
        *lines, self._incoming = (self._incoming + data).split(b"\r\n")
        return lines

    def drain(self) -> None:
        """Throw away what has arrived."""
        self._incoming = b""
        with contextlib.suppress(ConnectionLostError):
            while self._read():
                pass
