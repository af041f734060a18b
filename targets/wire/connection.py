# SPDX-License-Identifier: GPL-2.0-or-later
"""A bare QMP connection: bytes out, lines in, never blocked in both directions at once.

QEMU's own client (``qemu.qmp``) waits for each reply and costs more than the daemon does;
docs/decisions/0001-bare-socket.md has the figures.
"""

from __future__ import annotations

import contextlib
import select
import socket

from targets.wire.listening import SilenceError, listen
from targets.wire.messages import MOST_ANSWERS, MOST_LINE, ProtocolError, TooMuchError

__all__ = ["Connection", "ConnectionLostError", "SilenceError"]

_CHUNK = 1 << 18
_END = b"\r\n"


class ConnectionLostError(Exception):
    """The other end closed the connection."""


class Connection:
    """One connected stream socket; bytes that the kernel does not take yet wait here."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        sock.setblocking(False)
        self._sock = sock
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._received = 0
        self.listened = 0.0
        """Seconds that the last `receive` spent listening."""

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
        """Listen up to `timeout` seconds for complete lines and return them, at least one.

        Sends what is still waiting meanwhile. Raises ConnectionLostError when the other end
        has closed and every line is read, SilenceError when the time is over, ProtocolError
        when a line does not end (`messages.MOST_LINE`), and TooMuchError when there is no end of
        lines (`messages.MOST_ANSWERS`).
        """
        self.listened = 0.0
        while True:
            events = select.POLLIN | (select.POLLOUT if self._outgoing else 0)
            try:
                self.listened += listen(self.fileno(), events, timeout - self.listened)
            except SilenceError:
                self.listened = timeout
                raise
            if self._outgoing:
                self._flush()
            lines = self._read()
            if lines:
                return lines

    def available(self) -> list[bytes]:
        """Return the complete lines that have arrived, perhaps none, without waiting.

        Raises ConnectionLostError when the other end has closed and every line is read, and
        ProtocolError and TooMuchError as `receive` does.
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
        self._received += len(data)
        if self._received > MOST_ANSWERS:
            raise TooMuchError(f"more than {MOST_ANSWERS >> 20} MiB in answer to one trace")
        # Whether a line ends is seen from what is new: a long one is not searched again and again.
        split = bytes(self._incoming[-1:]) + data
        self._incoming += data
        if _END not in split:
            if len(self._incoming) > MOST_LINE:
                raise ProtocolError(f"a line of more than {MOST_LINE >> 20} MiB")
            return []
        *lines, rest = bytes(self._incoming).split(_END)
        self._incoming = bytearray(rest)
        return lines

    def drain(self) -> None:
        """Throw away the lines that have arrived, and begin to count for another trace."""
        with contextlib.suppress(ConnectionLostError, ProtocolError, TooMuchError):
            while self._read():
                pass
        self._received = 0
