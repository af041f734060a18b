# SPDX-License-Identifier: GPL-2.0-or-later
"""What each wall keeps a real process from, and that the same succeeds where it is trusted away."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model.release.dialects.qemu_5_2 import QEMU_5_2
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.release.dialects.qemu_10_0 import QEMU_10_0
from model.release.dialects.qemu_11_1 import QEMU_11_1
from model.release.dialects.qemu_system_7_2 import QEMU_SYSTEM_7_2
from model.values.programs import EMULATOR
from model.values.trace import ImageSpec, Trace
from targets.binaries import Build, find_driven, find_qemu_img
from targets.daemon import Daemon
from targets.errors import TargetError
from targets.images import ImageStore
from targets.launching import CPU_SECONDS, DESCRIPTORS, PROCESSES, behind, tool
from targets.pool import Pool, Target
from targets.process import run
from targets.replay import replay
from targets.walls import DISK, NAMES, Walls, trusting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from model.release.dialect import Dialect

GIB = 1 << 30
UP = Walls()
RELEASES = (QEMU_5_2, QEMU_7_2, QEMU_10_0, QEMU_11_1, QEMU_SYSTEM_7_2)
NOTHING = Trace((), ({"execute": "query-version"},))


def without(*names: str) -> Walls:
    return trusting(names)


@contextmanager
def started(build: Build, walls: Walls, place: Path) -> Iterator[Daemon]:
    with Daemon(attrs.evolve(build, walls=walls), place) as daemon:
        yield daemon


def ask(daemon: Daemon, *commands: dict[str, Any]) -> list[Any]:
    """The replies; the description of an error instead of it."""
    shown = replay(daemon, Trace((), commands), observe=False)
    replies = [each.reply for each in shown.observations]
    return [reply.get("error", {}).get("desc", "success") for reply in replies]


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def printed(walls: Walls, *argv: str) -> str:
    done = run(argv, walls, 20.0)
    assert done.end is not None
    assert done.end.status == 0, done
    return done.stdout.strip()


def file_node(path: Path | str, **more: Any) -> dict[str, Any]:
    arguments = {"driver": "file", "node-name": "n", "filename": str(path), **more}
    return {"execute": "blockdev-add", "arguments": arguments}


def gone(pid: int) -> bool:
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_every_wall_stands_here() -> None:
    # Where one does not, what follows would show nothing.
    assert UP.up == set(NAMES)


# What each wall stops


def test_mount_hides_what_is_not_needed(build: Build, tmp_path: Path) -> None:
    outside = tmp_path / "outside.raw"
    outside.write_bytes(bytes(1024))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with started(build, UP, scratch) as daemon:
        (said,) = ask(daemon, file_node(outside))
        assert said.endswith("No such file or directory")
    with started(build, without("mount"), scratch) as daemon:
        assert ask(daemon, file_node(outside)) == ["success"]


def test_mount_makes_what_is_seen_read_only(build: Build, tmp_path: Path) -> None:
    wrapper = script(tmp_path / "qsd", f'exec {build.argv[0]} "$@"')
    beside = tmp_path / "beside.raw"
    beside.write_bytes(bytes(1024))
    wrapped = attrs.evolve(build, argv=(wrapper,))
    with started(wrapped, UP, tmp_path) as daemon:
        (said,) = ask(daemon, file_node(beside))
        assert said.endswith("Read-only file system")
        assert ask(daemon, file_node(beside, **{"read-only": True})) == ["success"]
    with started(wrapped, without("mount"), tmp_path) as daemon:
        assert ask(daemon, file_node(beside)) == ["success"]


def test_mount_shows_no_home_and_no_devices() -> None:
    seen = printed(UP, "/bin/ls", "/", "/dev")
    assert {"home", "root", "mnt", "vda", "sda", "kvm"}.isdisjoint(seen.split())
    assert "root" in printed(without("mount"), "/bin/ls", "/").split()


@pytest.mark.parametrize("walls", [UP, trusting(("pid",))])
def test_mount_keeps_the_machine_s_settings(walls: Walls) -> None:
    # Root owns these, and needs no privilege to change them for the whole machine.
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness"):
        tried = ("/bin/sh", "-c", f"[ -e {path} ] && ! [ -w {path} ] && echo kept")
        assert printed(walls, *tried) == "kept"
    assert ".proc" in printed(walls, "/bin/ls", "-a", "/") or "pid" in walls.trusted
    assert printed(walls, "/bin/sh", "-c", "ls /.proc 2>/dev/null | wc -l") == "0"


def test_network_keeps_servers_to_themselves(build: Build, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(port)}}
    serve = {"execute": "nbd-server-start", "arguments": {"addr": address}}

    def reached() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    with started(build, UP, tmp_path) as daemon:
        ask(daemon, serve)
        assert not reached()
    with started(build, without("network"), tmp_path) as daemon:
        assert ask(daemon, serve) == ["success"]
        assert reached()


def test_network_keeps_abstract_sockets_away(build: Build, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        name = f"reopencheck-test-{os.getpid()}"
        server.bind(f"\0{name}")
        server.listen()
        server.setblocking(False)
        path = {"type": "unix", "path": name, "abstract": True}
        node = {"driver": "nbd", "node-name": "n", "server": path}
        connect = {"execute": "blockdev-add", "arguments": node}
        with started(build, UP, tmp_path) as daemon:
            (said,) = ask(daemon, connect)
            assert "Connection refused" in said
            with pytest.raises(BlockingIOError):
                server.accept()
        with started(build, without("network"), tmp_path) as daemon:
            daemon.connection.send(b'{"execute":"query-version"}')
            daemon.connection.receive(10)
            # Nobody greets it here: it waits, and that is what there is to see.
            daemon.connection.send(json.dumps(connect).encode())
            server.setblocking(True)
            server.settimeout(10)
            connection, _ = server.accept()
            connection.close()


def test_pid_ends_what_leaves_the_process_group(build: Build, tmp_path: Path) -> None:
    note = "setsid sleep 1000 </dev/null >/dev/null 2>&1 &"
    wrapper = script(tmp_path / "qsd", f'{note}\nexec {build.argv[0]} "$@"')
    wrapped = attrs.evolve(build, argv=(wrapper,))

    def left_by(walls: Walls) -> list[int]:
        with started(wrapped, walls, tmp_path) as daemon:
            pids: list[int] = []
            for _ in range(1000):
                pids = sleeping_in(daemon.directory)
                if pids:
                    break
                time.sleep(0.01)
            assert len(pids) == 1
        return [pid for pid in pids if not gone_now(pid)]

    assert left_by(UP) == []
    (left,) = left_by(without("pid"))
    os.kill(left, signal.SIGKILL)
    assert gone(left)


def sleeping_in(place: Path) -> list[int]:
    """The processes that sleep in a directory."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if says(process) == "sleep" and (process / "cwd").samefile(place):
                found.append(int(process.name))
    return found


def says(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return ""


def gone_now(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_pid_shows_no_other_process() -> None:
    assert "1" in printed(UP, "/bin/ls", "/proc").split()
    assert str(os.getpid()) not in printed(UP, "/bin/ls", "/proc").split()
    assert str(os.getpid()) in printed(without("pid"), "/bin/ls", "/proc").split()


@pytest.mark.parametrize(("wall", "kind"), [("user", "user"), ("ipc", "ipc"), ("network", "net")])
def test_namespaces_are_its_own(wall: str, kind: str) -> None:
    ours = str(Path(f"/proc/self/ns/{kind}").readlink())
    assert printed(UP, "/bin/readlink", f"/proc/self/ns/{kind}") != ours
    if wall != "user" or os.geteuid() == 0:
        assert printed(without(wall), "/bin/readlink", f"/proc/self/ns/{kind}") == ours


def test_privileges_are_given_up() -> None:
    grep = ("/bin/grep", "-E", "CapBnd|CapEff|NoNewPrivs", "/proc/self/status")
    words = printed(UP, *grep).split()
    assert [int(words[1], 16), int(words[3], 16), words[5]] == [0, 0, "1"]
    words = printed(without("privileges"), *grep).split()
    assert int(words[1], 16) != 0
    assert words[5] == "0"


def test_memory_is_bounded(emulator: Build, tmp_path: Path) -> None:
    memory = {"qom-type": "memory-backend-ram", "id": "m", "size": 20 * GIB, "reserve": False}
    add = {"execute": "object-add", "arguments": memory}
    with started(emulator, UP, tmp_path) as daemon:
        (said,) = ask(daemon, add)
        assert "Cannot allocate memory" in said
    with started(emulator, without("memory"), tmp_path) as daemon:
        assert ask(daemon, add) == ["success"]


def test_processes_are_bounded() -> None:
    forks = "i=0; while [ $i -lt 400 ]; do sleep 5 & i=$((i+1)); done; kill %1; echo all"

    def forked(up: frozenset[str]) -> str:
        argv = behind((tool("sh"), "-c", forks), up, directory="/", processes=320)
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()

    assert forked(UP.up) != "all"
    assert forked(without("processes").up) == "all"
    bound = Path("/proc/sys/kernel/pid_max")
    assert printed(UP, "/bin/cat", str(bound)) == str(PROCESSES)
    assert int(bound.read_text()) > PROCESSES


def test_descriptors_are_bounded() -> None:
    opens = """
import os
count = 0
try:
    while count < 10000:
        os.open("/dev/null", os.O_RDONLY)
        count += 1
except OSError as error:
    pass
print(count)
"""
    argv = (sys.executable, "-I", "-S", "-c", opens)
    assert 0 < int(printed(UP, *argv)) < DESCRIPTORS
    limits = ("/bin/grep", "Max open files", "/proc/self/limits")
    assert printed(without("descriptors"), *limits).split() != printed(UP, *limits).split()


@pytest.mark.parametrize(
    ("wall", "name", "value"),
    [("cpu", "Max cpu time", str(CPU_SECONDS)), ("core", "Max core file size", "0")],
)
def test_other_limits(wall: str, name: str, value: str) -> None:
    words = ("/bin/sh", "-c", f"ulimit -c unlimited; exec grep '{name}' /proc/self/limits")
    assert printed(UP, *words).rpartition(name)[2].split()[-2] == value
    assert wall in NAMES


def test_the_disk_is_bounded(build: Build, tmp_path: Path) -> None:
    size = DISK + (64 << 20)
    made = [
        {
            "execute": "blockdev-create",
            "arguments": {
                "job-id": "j",
                "options": {
                    "driver": "file",
                    "filename": "big",
                    "size": size,
                    "preallocation": "falloc",
                },
            },
        }
    ]
    with started(build, UP, tmp_path) as daemon:
        ask(daemon, *made)
        for _ in range(1000):
            if not daemon.alive:
                break
            time.sleep(0.01)
        death = replay(daemon, NOTHING).death
        assert death is not None
        assert death.kind == "disturbed"
        assert "scratch directory grew" in death.detail
    assert list(tmp_path.iterdir()) == []
    with started(build, without("disk"), tmp_path) as daemon:
        ask(daemon, *made)
        time.sleep(1)
        assert replay(daemon, NOTHING).death is None


# Death is told as it is


@pytest.mark.parametrize("walls", [UP, trusting(("all",))])
@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (signal.SIGABRT, "crash"),
        (signal.SIGSEGV, "crash"),
        (signal.SIGKILL, "disturbed"),
        (signal.SIGTERM, "disturbed"),
        (signal.SIGXCPU, "disturbed"),
    ],
)
def test_a_signal_is_told_through_the_walls(
    build: Build, tmp_path: Path, walls: Walls, number: signal.Signals, kind: str
) -> None:
    with started(build, walls, tmp_path) as daemon:
        assert replay(daemon, NOTHING).death is None
        os.kill(daemon.pid, number)
        # One that is asked while it leaves on SIGTERM may hang, which is another matter.
        for _ in range(3000):
            if not daemon.alive:
                break
            time.sleep(0.01)
        death = replay(daemon, NOTHING).death
        assert death is not None
        assert death.kind == kind
        # The storage daemon leaves in order on SIGTERM.
        assert death.signal == (None if number == signal.SIGTERM else number.name)


def test_one_that_was_told_to_quit_is_not_disturbed(build: Build, tmp_path: Path) -> None:
    with started(build, UP, tmp_path) as daemon:
        death = replay(daemon, Trace((), ({"execute": "quit"}, *NOTHING.commands))).death
        assert death is not None
        assert (death.kind, death.status) == ("exit", 0)


def test_a_crash_behind_a_wrapper_is_a_crash(build: Build, tmp_path: Path) -> None:
    wrapper = script(tmp_path / "qsd", f'{build.argv[0]} "$@"')
    with started(attrs.evolve(build, argv=(wrapper,)), trusting(("all",)), tmp_path) as daemon:
        os.kill(daemon.pid, signal.SIGSEGV)
        death = replay(daemon, NOTHING).death
        assert death is not None
        assert (death.kind, death.signal) == ("crash", "SIGSEGV")


def test_a_start_that_somebody_disturbs_is_tried_again(build: Build, tmp_path: Path) -> None:
    count = tmp_path / "count"
    kill = f'echo x >> {count}; [ "$(wc -l < {count})" -gt 2 ] || kill -KILL $$'
    wrapper = script(tmp_path / "qsd", f'{kill}\nexec {build.argv[0]} "$@"')
    bare = attrs.evolve(build, argv=(wrapper,), walls=without("mount"))
    with Target(bare, parent=tmp_path) as target:
        assert target.run(NOTHING).death is None
    assert count.read_text() == "x\nx\nx\n"
    count.unlink()
    always = script(tmp_path / "always", "kill -KILL $$")
    with pytest.raises(TargetError, match=r"does not start: .*SIGKILL from outside"):
        Daemon(attrs.evolve(build, argv=(always,)), tmp_path)


# Nothing is left


@pytest.mark.parametrize("walls", [UP, trusting(("all",))])
def test_a_wrapper_that_does_not_exec_leaves_nothing(
    build: Build, tmp_path: Path, walls: Walls
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    wrapper = script(tmp_path / "qsd", f'{build.argv[0]} "$@"\nexit $?')
    with started(attrs.evolve(build, argv=(wrapper,)), walls, place) as daemon:
        pid = daemon.pid
        assert says(Path(f"/proc/{pid}")) == "qemu-storage-da"
        assert replay(daemon, NOTHING).death is None
    assert gone(pid)
    assert list(place.iterdir()) == []


RUNS = """
import sys, time
from targets.binaries import find_daemon
from targets.daemon import Daemon
from targets.walls import trusting
daemon = Daemon(find_daemon(sys.argv[2], trusting(sys.argv[3:])), sys.argv[1])
guard = daemon._process._guard.pid
print(daemon.pid, guard, daemon.directory, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("trusted", [(), ("all",)])
@pytest.mark.parametrize("with_guard", [False, True])
def test_a_killed_tool_leaves_nothing_after_the_next_start(
    build: Build, tmp_path: Path, trusted: Sequence[str], *, with_guard: bool
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    wrapper = script(tmp_path / "qsd", f'{build.argv[0]} "$@"')
    words = [sys.executable, "-c", RUNS, str(place), wrapper, *trusted]
    # Its sockets have a place of their own, which is there as well then.
    environment = {**os.environ, "TMPDIR": str(place)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid, guard, directory = parent.stdout.readline().split()
        if with_guard:
            os.kill(int(guard), signal.SIGKILL)
        parent.kill()
    if not with_guard:
        assert gone(int(pid))
    with started(build, UP, place) as daemon:
        assert gone(int(pid))
        assert not Path(directory).exists()
        assert list(place.iterdir()) == [daemon.directory]
    assert list(place.iterdir()) == []


def test_what_made_images_ends_with_the_target(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    trace = Trace((ImageSpec("hd0", "raw", 1024, data=((0, 512, 1),)),), NOTHING.commands)
    target, pool = Target(build), Pool[None](build, 1)
    target.run(trace)
    pool.submit(trace, None)
    assert [each.replay.death for each in pool.drain()] == [None]
    assert list(tmp_path.iterdir())
    target.close()
    pool.close()
    assert list(tmp_path.iterdir()) == []
    target.run(trace)
    target.close()
    assert list(tmp_path.iterdir()) == []


# Programs that misbehave


def test_a_program_that_prints_without_end(tmp_path: Path) -> None:
    flood = script(tmp_path / "qemu-storage-daemon", "exec yes qemu-storage-daemon")
    with pytest.raises(TargetError, match="prints without end"):
        find_driven(flood)
    errors = script(tmp_path / "errors", "exec yes >&2")
    with pytest.raises(TargetError, match="prints without end"):
        find_driven(errors)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("exec yes", "prints without end"),
        ("exec yes >&2", "prints without end"),
        ("exit 0", "no image was made"),
        ("exit 3", "status 3"),
        ("echo out of luck >&2; exit 1", "out of luck"),
        ("kill -SEGV $$", "SIGSEGV"),
        ("kill -KILL $$", "SIGKILL"),
        ("kill -KILL $PPID; sleep 60", "SIGKILL"),
    ],
)
def test_a_qemu_img_that_misbehaves_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    version = 'case $1 in --version) echo "qemu-img version 7.2.22"; exit;; esac'
    build = find_qemu_img(script(tmp_path / "qemu-img", f"{version}\n{text}"))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(TargetError, match=says) as caught:
        ImageStore(build).create(out, [ImageSpec("hd0", "raw", 1024)])
    assert "\n" not in str(caught.value)
    assert list(out.iterdir()) == []


def test_a_qemu_img_that_hangs_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targets.images._CREATE_WITHIN", 0.3)
    version = 'case $1 in --version) echo "qemu-img version 7.2.22"; exit;; esac'
    build = find_qemu_img(script(tmp_path / "qemu-img", f"{version}\nsleep 1000"))
    with pytest.raises(TargetError, match="did not end within"):
        ImageStore(build).create(tmp_path, [ImageSpec("hd0", "raw", 1024)])


def test_a_qemu_img_that_fills_the_disk_is_one_line(tmp_path: Path) -> None:
    text = f"fallocate -l {DISK + (64 << 20)} big; sleep 60"
    version = 'case $1 in --version) echo "qemu-img version 7.2.22"; exit;; esac'
    build = find_qemu_img(script(tmp_path / "qemu-img", f"{version}\n{text}"))
    with pytest.raises(TargetError, match="fills the disk"):
        ImageStore(build).create(tmp_path, [ImageSpec("hd0", "raw", 1024)])


def test_a_daemon_s_errors_are_bounded(build: Build, tmp_path: Path) -> None:
    flood = "yes flood | head -c 9000000 >&2"
    wrapper = script(tmp_path / "qsd", f'{flood}\nexec {build.argv[0]} "$@"')
    with started(attrs.evolve(build, argv=(wrapper,)), UP, tmp_path) as daemon:
        for _ in range(1000):
            size = os.fstat(daemon._stderr.fileno()).st_size
            if size < 1 << 20:
                break
            time.sleep(0.01)
        assert size < 1 << 20
        daemon.mark()
        assert replay(daemon, NOTHING).death is None
        assert daemon.stderr_tail() == ()


def test_a_daemon_s_memory_in_use_is_bounded(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("targets.daemon.IN_USE", 1 << 20)
    with started(build, UP, tmp_path) as daemon:
        for _ in range(1000):
            if not daemon.alive:
                break
            time.sleep(0.01)
        death = daemon.autopsy(0, silent=False)
    assert (death.kind, death.limit) == ("disturbed", True)
    assert death.detail == "it uses more than 1048576 bytes of memory"


def test_the_memory_in_use_of_a_short_program_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ImageSpec("hd0", "qcow2", 1 << 20)
    store = ImageStore(find_qemu_img())
    monkeypatch.setattr("targets.process.IN_USE", 1)
    with pytest.raises(TargetError, match=r"\A.*qemu-img uses \d+ bytes of memory and more"):
        find_qemu_img()
    with pytest.raises(TargetError, match=r"\Aimage 'hd0': .*qemu-img uses \d+ bytes of memory"):
        store.create(tmp_path, [image])
    store.close()
    store = ImageStore(find_qemu_img(walls=without("memory")))
    store.create(tmp_path, [image])
    store.close()
    assert (tmp_path / "hd0").stat().st_size > 0


# All that is driven runs behind them


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_every_release_does_the_same_behind_walls(
    build_of: Callable[[Dialect], Build], tmp_path: Path, release: Dialect
) -> None:
    build = build_of(release)
    images = (ImageSpec("hd0", "qcow2", 1 << 20, data=((0, 65536, 7),)),)
    file = {"driver": "file", "node-name": "f", "filename": "hd0"}
    add = {
        "execute": "blockdev-add",
        "arguments": {"driver": "qcow2", "node-name": "a", "file": file},
    }
    read = {"execute": "reopencheck-read", "arguments": {"node": "a"}}
    shown = []
    for walls in (UP, trusting(("all",))):
        with Target(attrs.evolve(build, walls=walls), parent=tmp_path) as target:
            replayed = target.run(Trace(images, (add, read)))
        assert replayed.death is None
        shown.append(replayed.observations)
    for a, b in zip(*shown, strict=True):
        assert (a.reply, a.nodes, a.graph) == (b.reply, b.nodes, b.graph)
    assert shown[0][1].reply == {"return": [[0, 65536, 7]]}


@pytest.fixture(scope="module")
def emulator() -> Build:
    return find_driven(EMULATOR.binary)
