# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated bytes from a daemon: what a replay, and a guest's client, make of them.

    python -m tests.fuzz.wire [--inputs N] [--seed S]

Whatever a daemon sends, a replay ends with what was understood and perhaps with how the daemon
was lost, and that can be compared; the NBD client says in one line what is wrong.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

from checker.compare import compare_trace
from model.commands.plugging import PERIPHERAL
from model.values.trace import READ, WAIT, WRITE
from model.release.dialects.qemu_5_2 import QEMU_5_2
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.release.dialects.qemu_system_7_2 import QEMU_SYSTEM_7_2
from targets.closing import Closing
from targets.connection import Connection
from targets.daemon import Daemon, OwnServer
from targets.deaths import Death
from targets.driving import is_own
from targets.nbd import Disk, NBDError
from targets.replay import Exchange
from tests.fuzz.material import generated
from tests.fuzz.mutations import GARBAGE, Mutator
from tests.fuzz.watching import Faults, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from checker.judge import Example, Expectation
    from model.values.trace import Command

GUESTS: Final = (READ, WRITE)
"""Commands that need an NBD server, which these daemons have not."""
SILENCE: Final = 0.01
"""Seconds after which a silent daemon has been silent for long enough here."""

PAUSE: Final = 0.002
"""Seconds without a request after which the daemon goes on by itself."""

_ODD_LINES: Final = (
    *(b"", b"[]", b"null", b"7", b'"x"', b"{}", b"{", b"\xff\xfe", b"QMP>", b"\0" * 100),
    *(b"[" * 5000, b'{"return": ' * 3000, b"9" * 6000, b'{"return": 1e999}', b"x" * 100_000),
    *(b'{"event": null}', b'{"event": 7}', b'{"event": {}}', b'{"event": "SHUTDOWN"}'),
    b'{"event": "JOB_STATUS_CHANGE"}',
    b'{"event": "JOB_STATUS_CHANGE", "data": {}}',
    b'{"event": "JOB_STATUS_CHANGE", "data": []}',
    b'{"event": "JOB_STATUS_CHANGE", "data": {"id": [], "status": {}}}',
    b'{"event": "BLOCK_JOB_ERROR", "data": null}',
    b'{"event": "BLOCK_JOB_ERROR", "data": {"action": "stop"}}',
    b'{"event": "DEVICE_DELETED", "data": {}}',
    b'{"event": "BLOCK_EXPORT_DELETED", "data": 7}',
    *(b'{"return": 7}', b'{"return": []}', b'{"return": {}, "id": 0}', b'{"id": 1}'),
    *(b'{"return": {}, "id": -1}', b'{"return": {}, "id": 1e3}', b'{"return": {}, "id": null}'),
    *(b'{"return": {}, "id": "own1"}', b'{"return": {}, "id": []}', b'{"return": {}, "id": true}'),
    *(b'{"error": {}}', b'{"error": null, "id": 2}', b'{"error": "no", "return": 1, "id": 1}'),
    b'{"return": [{}], "id": "own1"}',
    b'{"return": {"nodes": 1, "edges": null}}',
    b'{"return": {"nodes": [{}], "edges": [{}]}}',
    b'{"QMP": {"version": {}, "capabilities": []}}',
)


class Peer:
    """What stands for a daemon where nothing is asked of it but its connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.nbd = OwnServer("\\0nobody-listens-here")
        self.directory = Path()

    def mark(self) -> None:
        """Nothing is written to standard error."""

    def was_held(self) -> bool:
        """Nobody can stop it."""
        return False

    def autopsy(self, step: int, *, silent: bool) -> Death:
        """It is gone if it is not silent."""
        return Death("hang" if silent else "exit", step)


def lines_of(example: Example) -> list[bytes]:
    """What a daemon sends that does as the model says, where nothing lives in another thread."""
    lines = []
    for number, command in enumerate(example.trace.commands):
        expected = example.expectations[number]
        lines += [json.dumps(message).encode() for message in _messages(number, command, expected)]
    return lines


def _messages(number: int, command: Command, expected: Expectation) -> Iterator[dict[str, Any]]:
    seen = expected.observation
    for event in seen.events:
        yield {"timestamp": {"seconds": 1, "microseconds": 2}, **event}
    if command.get("execute") == WAIT:
        yield from _waited_for(command["arguments"])
    elif not is_own(command):
        yield {**seen.reply, "id": number}
    for answer in (seen.nodes, seen.graph, seen.jobs, seen.exports):
        if answer is not None:
            yield {"return": answer}


def _waited_for(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is heard of a job, or a device, that comes to what is waited for."""
    name, status = arguments["id"], arguments["status"]
    if name.startswith(PERIPHERAL):
        yield {"event": "DEVICE_DELETED", "data": {"path": name}}
        return
    yield {"event": "JOB_STATUS_CHANGE", "data": {"id": name, "status": status}}
    if status == "concluded" or "progress" in arguments:
        progress = arguments.get("progress", 0)
        yield {"return": [{"id": name, "status": status, "current-progress": progress}]}


def examples() -> list[Example]:
    """Short examples of several programs, without guests."""
    found = []
    for dialect in (QEMU_7_2, QEMU_5_2, QEMU_SYSTEM_7_2):
        for each in generated(dialect, 24, 12):
            names = {command.get("execute") for command in each.trace.commands}
            if names.isdisjoint(GUESTS):
                found.append(each)
    return found


def spoiled(lines: Sequence[bytes], mutator: Mutator, random: Random) -> list[bytes]:
    """The lines of a daemon that does not do as it should in a few places."""
    changed = list(lines)
    for _ in range(random.choice((1, 1, 2, 6))):
        at = random.randrange(len(changed)) if changed else 0
        kind = random.randrange(8)
        if kind == 0 or not changed:
            changed.insert(at, random.choice(_ODD_LINES))
        elif kind == 1:
            changed[at] = random.choice(_ODD_LINES)
        elif kind == 2:
            changed[at] = mutator.data(changed[at])
        elif kind == 3:
            del changed[at]
        elif kind == 4:
            changed.insert(random.randrange(len(changed)), changed[at])
        elif kind == 5:
            changed[at] += random.choice((b"\n", b" ", b"\r", *GARBAGE))
        else:
            with contextlib.suppress(ValueError, RecursionError):
                changed[at] = json.dumps(mutator.tree(json.loads(changed[at]))).encode()
    return changed[: random.randrange(len(changed) + 1)] if random.random() < 0.1 else changed


def fuzz(inputs: int, seed: int) -> Faults:
    """Try so many spoiled conversations, on both wires in turn."""
    random = Random(seed)
    sound = [(each, lines_of(each)) for each in examples()]
    mutator = Mutator(random, [c for each, _ in sound for c in each.trace.commands])
    faults = Faults()
    with Server() as server:
        for number in range(inputs):
            if number % 2:
                guest(server, mutator.data(random.choice(HANDSHAKES)), random, faults)
            else:
                example, lines = random.choice(sound)
                # Now and then it does not close the connection, but says no more.
                silent = number % 50 == 0
                converse(example, spoiled(lines, mutator, random), faults, silent=silent)
    return faults


def converse(
    example: Example, lines: Sequence[bytes], faults: Faults, *, silent: bool = False
) -> None:
    """Replay an example's commands on a daemon that answers each request with the next lines."""
    faults.inputs += 1
    data = b"\r\n".join(lines)
    ours, theirs = socket.socketpair()
    talker = threading.Thread(target=_talk, args=(theirs, lines), kwargs={"silent": silent})
    with theirs:
        talker.start()
        with ours, faults.watch(data):
            _replay(example, ours, data, faults, silent=silent)
        talker.join()


def _talk(theirs: socket.socket, lines: Sequence[bytes], *, silent: bool) -> None:
    """Answer each request with all lines up to one that looks like a reply, and what follows it."""
    ends = [at for at, line in enumerate(lines) if b'"return"' in line or b'"error"' in line]
    starts = [0, *ends[1:]]
    with contextlib.suppress(OSError):
        asked = _requests(theirs)
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            next(asked, None)
            theirs.sendall(b"".join(line + b"\r\n" for line in lines[start:end]))
        if not silent:
            theirs.shutdown(socket.SHUT_WR)


def _requests(theirs: socket.socket) -> Iterator[None]:
    """Each request as it has come, whole, or the time after which none is expected any more."""
    text = ""
    decoder = json.JSONDecoder()
    while True:
        if not select.select([theirs], [], [], PAUSE)[0]:
            yield
            continue
        data = theirs.recv(1 << 16)
        if not data:
            return
        text += data.decode()
        while text:
            try:
                _, end = decoder.raw_decode(text)
            except ValueError:
                break
            text = text[end:]
            yield


def _replay(
    example: Example, ours: socket.socket, data: bytes, faults: Faults, *, silent: bool
) -> None:
    commands = example.trace.commands
    peer = cast("Daemon", Peer(Connection(ours)))
    exchange = Exchange(peer, commands, observed=len(commands), patience=SILENCE)
    death = exchange.finish(SILENCE if silent else 5.0)
    seen = exchange.observations()
    exchange.replies()
    exchange.events()
    if death is None and len(seen) != len(commands):
        faults.add("a command without an answer in a replay that ended well", data)
    faults.accepted += death is None
    compare_trace([each.observation for each in example.expectations], seen)


SIZE: Final = 65536
_OPTION: Final = 0x0003E889045565A9


def _handshake(size: int, *, number: int = 0, kinds: Sequence[int] = (3, 1)) -> bytes:
    """What an NBD server sends to a client that reads everything, or writes a little."""
    parts = [b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)]
    for kind in kinds:
        info = struct.pack(">HQH", 0, size, 3) if kind == 3 else b""
        parts.append(struct.pack(">QIII", _OPTION, 7, kind, len(info)) + info)
    reply = struct.pack(">IIQ", 0x67446698, number, 0)
    return b"".join([*parts, reply, b"\1" * min(size, SIZE), reply])


HANDSHAKES: Final = (
    *(_handshake(size) for size in (0, 512, SIZE, 2**32, 2**63, 2**64 - 1)),
    *(_handshake(SIZE, number=number) for number in (1, 22, 2**32 - 1)),
    *(_handshake(512, kinds=kinds) for kinds in ((1,), (3, 3, 1), (2**31 + 6,), (2**32 - 1, 1))),
)


class Server(Closing):
    """A socket on which each client is sent the next bytes that were asked for."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.address = str(Path(self._directory.name) / "socket")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.address)
        self._socket.listen()
        self._data = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._directory.cleanup()

    def says(self, data: bytes) -> None:
        """The next client is sent this."""
        self._data = data

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                client.sendall(self._data)
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass


def guest(server: Server, data: bytes, random: Random, faults: Faults) -> None:
    """Read and write as a guest of a server that sends these bytes whatever it is told."""
    faults.inputs += 1
    server.says(data)
    act: Callable[[Disk], object] = random.choice(
        (Disk.runs, lambda disk: disk.write(0, 512, 1), lambda disk: disk.write(2**63, 1, 255))
    )
    client = socket.socket(socket.AF_UNIX)
    client.connect(server.address)
    with faults.watch(data, NBDError), Disk(client, "disk", within=5.0) as disk:
        act(disk)
        faults.accepted += 1


if __name__ == "__main__":
    sys.exit(main(__doc__, fuzz))
