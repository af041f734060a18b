# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that are none, or other ones than were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.values.programs import EMULATOR
from model.values.trace import ImageSpec
from targets.builds.binaries import find_daemon, find_driven, find_qemu_img
from targets.builds.image_store import ImageStore
from targets.errors import TargetError

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


def test_the_system_emulator_is_driven_but_is_no_storage_daemon(tmp_path: Path) -> None:
    text = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"
    path = str(script(tmp_path / "emulator", f"echo '{text}'"))
    build = find_driven(path)
    assert (build.version, build.program) == ("7.2.22", EMULATOR)
    with pytest.raises(TargetError, match="not a storage daemon: "):
        find_daemon(path)
    other = str(script(tmp_path / "other", "echo qemu-img version 7.2.22"))
    with pytest.raises(TargetError, match="not a storage daemon or a system emulator: "):
        find_driven(other)
    daemon = str(script(tmp_path / "daemon", "echo qemu-storage-daemon version 7.2.22"))
    assert find_driven(daemon) == find_daemon(daemon)


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "tool", "echo qemu-img version 7.2.22")
    monkeypatch.chdir(tmp_path)
    assert find_qemu_img("./tool").argv == (str(tmp_path / "tool"),)


def test_a_missing_qemu_img(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="no such binary in PATH: qemu-img"):
        ImageStore().create(tmp_path, [ImageSpec("hd0", "raw", 0)])
