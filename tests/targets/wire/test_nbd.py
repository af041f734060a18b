# SPDX-License-Identifier: GPL-2.0-or-later
"""An NBD server that lies, or closes at any byte, is an error in one line."""

from __future__ import annotations

import random
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from targets.wire.nbd import Disk, NBDError, connected

if TYPE_CHECKING:
    from pathlib import Path

GREETING = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)
MAGIC = 0x0003E889045565A9


def option(kind: int, data: bytes = b"", *, magic: int = MAGIC, length: int | None = None) -> bytes:
    return struct.pack(">QIII", magic, 7, kind, len(data) if length is None else length) + data


def export(size: int) -> bytes:
    return option(3, struct.pack(">HQH", 0, size, 0))


ACK = option(1)
REPLY = struct.pack(">IIQ", 0x67446698, 0, 0)


def read(says: bytes) -> list[list[int]]:
    """Read a whole disk from a server that has said everything, and closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(says)
        theirs.shutdown(socket.SHUT_WR)
        with Disk(ours, "x", 0.2) as disk:
            return disk.runs()


def test_a_disk_is_read() -> None:
    data = bytes(600) + b"\7" * 424
    assert read(GREETING + export(1024) + ACK + REPLY + data) == [[600, 1024, 7]]
    assert read(GREETING + ACK) == []


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"NBDMAGIC\0\0\0\0", "lost"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no newstyle"),
        (GREETING + option(1, magic=0), "other than a reply to an option"),
        (GREETING + option(3, length=0xFFFFFFFF), "other than a reply to an option"),
        (GREETING + option((1 << 31) + 6, b"no such\xff export"), "no such"),
        (GREETING + option((1 << 31) + 6), "NBD refusal"),
        (GREETING + option(3, b"\0") * 200, "replies without end"),
        (GREETING + export(1 << 62) + ACK + REPLY, "lost"),
        (GREETING + export(10) + ACK + b"x" * 100, "other than a simple reply"),
        (GREETING + export(10) + ACK + struct.pack(">IIQ", 0x67446698, 5, 0), "NBD error 5"),
    ],
)
def test_a_server_that_lies(says: bytes, told: str) -> None:
    with pytest.raises(NBDError, match=told) as caught:
        read(says)
    assert "\n" not in str(caught.value)


def test_a_server_that_closes_at_any_byte() -> None:
    whole = GREETING + export(100) + ACK + REPLY + b"\1" * 100
    assert read(whole) == [[0, 100, 1]]
    for length in range(len(whole)):
        with pytest.raises(NBDError):
            read(whole[:length])


def test_any_bytes_are_a_disk_or_an_error() -> None:
    chance = random.Random(3)  # noqa: S311  # repeatable on purpose
    whole = bytearray(GREETING + export(2000) + ACK + REPLY + bytes(2000))
    wrong = 0
    for _ in range(500):
        spoilt = whole[:]
        for _ in range(chance.randrange(1, 4)):
            spoilt[chance.randrange(80)] = chance.randrange(256)
        try:
            read(bytes(spoilt))
        except NBDError:
            wrong += 1
    assert wrong > 100


def test_a_server_that_says_nothing_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(NBDError, match="timed out"):
        Disk(ours, "x", 0.05)


def test_a_server_that_takes_nothing_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(GREETING + export(1 << 30) + ACK)
        with Disk(ours, "x", 0.05) as disk, pytest.raises(NBDError, match="timed out"):
            disk.write(0, 1 << 30, 1)


def test_places_that_no_disk_has() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(GREETING + export(1 << 30) + ACK)
        with Disk(ours, "x", 0.05) as disk:
            for offset in (-1, 1 << 64):
                with pytest.raises(NBDError, match="no place"):
                    disk.write(offset, 1, 1)


def test_a_path_that_is_longer_than_an_address(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 200)
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        (tmp_path / "short").symlink_to(directory)
        server.bind(str(tmp_path / "short" / "s"))
        server.listen()
        thread = threading.Thread(target=server.accept)
        thread.start()
        connected(str(directory / "s")).close()
        thread.join()
    with pytest.raises(NBDError, match="no NBD connection"):
        connected(str(directory / "nobody"))
