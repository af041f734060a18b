# SPDX-License-Identifier: GPL-2.0-or-later
"""What `targets` refuses without any daemon: wrong binaries, wrong images, lost connections."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from model.trace import ImageSpec, Trace
from targets.binaries import find_daemon, find_qemu_img
from targets.connection import Connection, ConnectionLostError, SilenceError
from targets.errors import TargetError
from targets.images import ImageStore, contained_name
from targets.pool import Pool
from targets.reset import needs_restart, removals

if TYPE_CHECKING:
    from pathlib import Path


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_binary_that_does_not_exist() -> None:
    with pytest.raises(TargetError, match=r"^no such binary in PATH: no-such-daemon$"):
        find_daemon("no-such-daemon")
    with pytest.raises(TargetError, match=r"^no such binary: /nowhere/qsd$"):
        find_daemon("/nowhere/qsd")
    with pytest.raises(TargetError, match="empty"):
        find_daemon("")
    with pytest.raises(TargetError, match="cannot read the command line"):
        find_daemon("'unbalanced")


def test_a_binary_that_is_not_executable(tmp_path: Path) -> None:
    plain = tmp_path / "qsd"
    plain.write_text("")
    with pytest.raises(TargetError, match="not executable: "):
        find_daemon(str(plain))
    with pytest.raises(TargetError, match="a directory"):
        find_daemon(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "echo hello",
        "exit 3",
        "echo qemu-img version 7.2.22",
        "echo qemu-storage-daemon version 7.2.22; exit 1",
        "echo qemu-storage-daemon version banana",
        "kill -SEGV $$",
    ],
)
def test_a_binary_that_is_no_storage_daemon(tmp_path: Path, text: str) -> None:
    wrong = script(tmp_path / "wrong", text)
    with pytest.raises(TargetError, match="not a storage daemon: ") as caught:
        find_daemon(str(wrong))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_run(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF broken")
    broken.chmod(0o755)
    with pytest.raises(TargetError, match="cannot run "):
        find_daemon(str(broken))


def test_versions_and_spaces_in_paths(tmp_path: Path) -> None:
    text = "qemu-storage-daemon version 11.1.0-rc2 (Debian 1:11.1.0~rc2)"
    path = script(tmp_path / "with space", f"echo '{text}'; echo Copyright")
    build = find_daemon(str(path))
    assert (build.version, build.release, build.text) == ("11.1.0-rc2", "11.1", text)
    assert build.argv == (str(path),)
    again = find_daemon(f"'{path}' --extra")
    assert again.argv == (str(path), "--extra")


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "tool", "echo qemu-img version 7.2.22")
    monkeypatch.chdir(tmp_path)
    assert find_qemu_img("./tool").argv == (str(tmp_path / "tool"),)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../hd0", "/etc/passwd", "a/b", "a/../b", "-hd0", ".hd0", "nbd:x"),
        *("json:{}", "nbd://host/x", "hd0\n", "hd0\0", "hd 0", "~", "x" * 300, "a\\b", "$HOME"),
    ],
)
def test_a_name_that_could_leave_the_scratch_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(TargetError, match="scratch directory"):
        contained_name(name)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    store = ImageStore()
    for image in (ImageSpec(name, "raw", 0), ImageSpec("hd0", "qcow2", 0, name, "raw")):
        with pytest.raises(TargetError):
            store.create(scratch, [image])
    assert list(scratch.iterdir()) == []
    assert list(tmp_path.iterdir()) == [scratch]


@pytest.mark.parametrize("name", ["hd0.qcow2", "a", "A_1-b.raw", "_x", "x" * 200])
def test_a_name_that_stays(name: str) -> None:
    assert contained_name(name) == name


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (ImageSpec("hd0", "vhdx", 0), "unknown format"),
        (ImageSpec("hd0", "raw", -1), "size"),
        (ImageSpec("hd0", "raw", 1 << 60), "size"),
    ],
)
def test_an_image_that_is_not_made(tmp_path: Path, image: ImageSpec, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        ImageStore().create(tmp_path, [image])


def test_a_missing_qemu_img(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="no such binary in PATH: qemu-img"):
        ImageStore().create(tmp_path, [ImageSpec("hd0", "raw", 0)])


def test_a_pool_needs_a_daemon(tmp_path: Path) -> None:
    build = find_daemon(str(script(tmp_path / "x", "echo qemu-storage-daemon version 7.2.22")))
    with pytest.raises(TargetError, match="pool of 0"):
        Pool[int](build, 0)


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


def test_removals_go_by_the_names_in_the_trace() -> None:
    trace = Trace(
        (),
        (
            {"execute": "object-add", "arguments": {"qom-type": "iothread", "id": "t0"}},
            {"execute": "blockdev-add", "arguments": {"node-name": "a"}},
            {"execute": "blockdev-add", "arguments": {"node-name": "b"}},
            {"execute": "blockdev-add", "arguments": {"node-name": 7}},
            {"execute": "blockdev-add"},
            {"execute": "blockdev-add", "arguments": []},
            {},
        ),
    )
    assert [list(each.get("arguments", {}).values()) for each in removals(trace)] == [
        ["b"],
        ["a"],
        ["t0"],
        [True],
    ]


def test_only_effects_that_stay_need_a_restart() -> None:
    trace = Trace((), ({"execute": "nbd-server-start"}, {"execute": "query-jobs"}, {"foo": 1}))
    error = {"error": {"class": "GenericError", "desc": ""}}
    assert not needs_restart(trace, [error, {"return": []}, error])
    assert needs_restart(trace, [{"return": {}}])
