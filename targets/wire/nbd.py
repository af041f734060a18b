# SPDX-License-Identifier: GPL-2.0-or-later
"""As much of an NBD client as a guest needs that reads and writes whole nodes.

Newstyle negotiation with fixed options, simple replies (the NBD protocol, doc/proto.md).
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
from pathlib import Path

from targets.closing import Closing
from targets.wire.listening import SilenceError, listen

MOST_BYTES = 1 << 32
"""What the reads of a trace may come to together, in bytes (4 GiB): more take minutes."""

_ADDRESS_BYTES = 108
_NEWSTYLE = b"NBDMAGICIHAVEOPT"
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_GO = 7
_INFO = 3
_ACK = 1
_REFUSED = 1 << 31
_REPLY_TO_OPTION = 0x0003E889045565A9
_REQUEST, _SIMPLE_REPLY = 0x25609513, 0x67446698
_READ, _WRITE, _FLUSH = 0, 1, 3
_CHUNK = 1 << 19
_ZEROES = bytes(_CHUNK)
_MOST_TOLD = 1 << 16
"""Bytes of the longest text that a server may send while it negotiates."""
_MOST_OPTIONS = 100
_SIZE_AT = (2, 10)
_STEP_WITHIN = 5.0
_BLOCK = 4096
_RUN = re.compile(rb"([^\0])\1*")

Runs = list[list[int]]
"""``[start, end, value]`` of every run of equal bytes that are not zero."""


class NBDError(Exception):
    """The server refused something, or what came is no NBD."""


class OutOfPatienceError(NBDError):
    """A guest has waited for as long as it may all in all, though the server goes on answering."""


class Disk(Closing):
    """An export that a client is connected to. A context manager."""

    def __init__(self, sock: socket.socket, export: str, within: float) -> None:
        """Negotiate over a connected socket, which is closed in the end.

        `within` is how many seconds of listening may be spent all in all, of which `left` is what
        remains; no single wait takes longer than five. Raises NBDError.
        """
        sock.setblocking(False)
        self._sock = sock
        self.left = within
        self.size = 0
        try:
            self._negotiate(export.encode())
        except BaseException:
            self._sock.close()
            raise

    def close(self) -> None:
        """Close the connection; may be called again."""
        self._sock.close()

    def runs(self) -> Runs:
        """Read the whole disk and return what is not zero. Raises NBDError."""
        found: Runs = []
        for start in range(0, self.size, _CHUNK):
            length = min(_CHUNK, self.size - start)
            self._request(_READ, start, length)
            data = self._receive(length)
            if data != (_ZEROES if length == _CHUNK else bytes(length)):
                add_runs(found, start, data)
        return found

    def write(self, offset: int, length: int, pattern: int) -> None:
        """Write `length` bytes of the value `pattern`, and make it last. Raises NBDError."""
        end = offset + length
        for start in range(offset, end, _CHUNK):
            count = min(_CHUNK, end - start)
            self._request(_WRITE, start, count, bytes([pattern]) * count)
        self._request(_FLUSH, 0, 0)

    def _request(self, kind: int, offset: int, length: int, data: bytes = b"") -> None:
        try:
            head = struct.pack(">IHHQQI", _REQUEST, 0, kind, 0, offset, length)
        except struct.error as error:
            raise NBDError(f"no place on a disk: {offset}") from error
        self._send(head + data)
        magic, number, _ = struct.unpack(">IIQ", self._receive(16))
        if magic != _SIMPLE_REPLY:
            raise NBDError("the server sends something other than a simple reply")
        if number:
            raise NBDError(f"NBD error {number}")

    def _negotiate(self, export: bytes) -> None:
        name = struct.pack(">I", len(export)) + export
        choice = struct.pack(">II", _GO, len(name) + 2) + name + struct.pack(">H", 0)
        flags = struct.pack(">I", _FIXED_NEWSTYLE | _NO_ZEROES)
        self._send(flags + b"IHAVEOPT" + choice)
        if self._receive(18)[:16] != _NEWSTYLE:
            raise NBDError("the server is no newstyle NBD server")
        for _ in range(_MOST_OPTIONS):
            magic, _, kind, length = struct.unpack(">QIII", self._receive(20))
            if magic != _REPLY_TO_OPTION or length > _MOST_TOLD:
                raise NBDError("the server sends something other than a reply to an option")
            data = self._receive(length)
            if kind & _REFUSED:
                raise NBDError(data.decode(errors="replace") or f"NBD refusal {kind}")
            if kind == _INFO and data[:2] == b"\0\0" and len(data) >= _SIZE_AT[1]:
                (self.size,) = struct.unpack(">Q", data[slice(*_SIZE_AT)])
            if kind == _ACK:
                return
        raise NBDError("the server sends replies without end")

    def _wait(self, event: int) -> None:
        within = min(self.left, _STEP_WITHIN)
        try:
            self.left -= listen(self._sock.fileno(), event, within)
        except SilenceError:
            self.left -= within
            if within < _STEP_WITHIN:
                raise OutOfPatienceError("timed out: a guest has waited for long enough") from None
            raise NBDError("the NBD connection is lost: timed out") from None

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)
            except OSError as error:
                raise NBDError(f"the NBD connection is lost: {error}") from error

    def _receive(self, length: int) -> bytes:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            try:
                count = self._sock.recv_into(view)
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            except OSError as error:
                raise NBDError(f"the NBD connection is lost: {error}") from error
            if not count:
                raise NBDError("the NBD connection is lost")
            view = view[count:]
        return bytes(data)


def connected(address: str) -> socket.socket:
    """A socket that is connected to a server at a Unix socket. Raises NBDError.

    `address` is a path of any length, although the system's have only 108 bytes.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(_STEP_WITHIN)
    try:
        _connect(sock, address)
    except OSError as error:
        sock.close()
        raise NBDError(f"no NBD connection: {error}") from error
    return sock


def _connect(sock: socket.socket, address: str) -> None:
    if len(os.fsencode(address)) < _ADDRESS_BYTES:
        sock.connect(address)
        return
    path = Path(address)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def add_runs(found: Runs, start: int, data: bytes) -> None:
    """Add the runs of `data`, which lies at `start`; the last run found may go on."""
    for at in range(0, len(data), _BLOCK):
        block = data[at : at + _BLOCK]
        first = block[:1]
        if block == first * len(block):
            spans = [(0, len(block))] if first != b"\0" else []
        else:
            spans = [match.span() for match in _RUN.finditer(block)]
        for low, high in spans:
            run = [start + at + low, start + at + high, block[low]]
            if found and found[-1][1:] == [run[0], run[2]]:
                found[-1][1] = run[1]
            else:
                found.append(run)
