# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetching other releases: with programs that play apt's part, since tests need no network."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from checker.cli.entry import cli
from targets.builds import debian
from targets.builds.binaries import find_daemon
from targets.errors import TargetError

if TYPE_CHECKING:
    from pathlib import Path

LOADER = "usr/lib64/ld-linux-x86-64.so.2"
# The loader of a release starts its daemon: this one plays both.
DAEMON = '#!/bin/sh\necho "qemu-storage-daemon version 10.0.13 (fake)"\n'


def program(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs in place of apt's, which are all that PATH has besides the shell's."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program(
        directory,
        "apt-get",
        f'echo "$@" >> {tmp_path}/calls\n'
        'case "$*" in\n'
        "*indextargets*) echo http://mirror.example/debian ;;\n"
        "*download-only*)\n"
        "  for each; do case $each in Dir::Cache=*) cache=${each#Dir::Cache=} ;; esac; done\n"
        '  touch "$cache/archives/qemu-utils.deb" ;;\n'
        "esac",
    )
    program(directory, "apt-cache", "exit 0")
    program(
        directory,
        "dpkg-deb",
        f'mkdir -p "$3/usr/lib64" "$3/usr/bin"; cp {tmp_path}/daemon "$3/{LOADER}"',
    )
    (tmp_path / "daemon").write_text(DAEMON)
    (tmp_path / "daemon").chmod(0o755)
    (tmp_path / "keys.gpg").touch()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "keys.gpg")
    return directory


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_a_release_is_fetched_once(tools: Path, tmp_path: Path) -> None:
    build, new = debian.install("10.0")
    assert new
    assert (build.release, build.version) == ("10.0", "10.0.13")
    assert debian.find_build("10.0") == build
    asked = calls(tmp_path)
    assert [call.split()[-1] for call in asked] == ["Packages", "update", "qemu-block-extra"]
    again, new = debian.install("10.0")
    assert (again, new) == (build, False)
    assert calls(tmp_path) == asked
    assert [each.name for each in debian.cache().iterdir()] == ["10.0"]


def test_what_an_interrupted_run_left_is_replaced(tools: Path) -> None:
    left = debian.cache() / "10.0"
    (left / "usr/bin").mkdir(parents=True)
    (left / "junk").touch()
    with pytest.raises(TargetError, match=r"no QEMU 10\.0 here: reopencheck qemu install 10\.0"):
        debian.find_build("10.0")
    assert debian.install("10.0")[1]
    assert not (left / "junk").exists()


def test_a_build_that_does_not_run_any_more_is_fetched_again(tools: Path) -> None:
    debian.install("10.0")
    (debian.cache() / "10.0" / LOADER).write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(TargetError, match="not a storage daemon"):
        debian.find_build("10.0")
    assert debian.install("10.0")[1]


def test_what_was_fetched_is_looked_at_first(tools: Path, tmp_path: Path) -> None:
    """Neither another release nor what does not run gets the place of a build."""
    build, _ = debian.install("10.0")
    (debian.cache() / "10.0" / ".unpacked").unlink()
    (tmp_path / "daemon").write_text(DAEMON.replace("10.0.13", "10.1.0"))
    with pytest.raises(TargetError, match=r"has QEMU 10\.1\.0 and not 10\.0$"):
        debian.install("10.0")
    (tmp_path / "daemon").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(TargetError, match="not a storage daemon"):
        debian.install("10.0")
    assert find_daemon(debian.command_line("10.0")) == build
    assert debian.find_installed("10.0") is None


def test_another_release_in_its_place_is_refused(tools: Path) -> None:
    debian.install("10.0")
    loader = debian.cache() / "10.0" / LOADER
    loader.write_text(DAEMON.replace("10.0.13", "10.1.0"))
    with pytest.raises(TargetError, match=r"has QEMU 10\.1\.0 and not 10\.0$"):
        debian.find_build("10.0")


def test_what_a_killed_run_left_goes(tools: Path) -> None:
    left = debian.cache() / ".unpacking-10.0-abcdefgh" / "root"
    left.mkdir(parents=True)
    debian.install("10.0")
    assert [each.name for each in debian.cache().iterdir()] == ["10.0"]


@pytest.mark.parametrize("program_name", ["apt-get", "dpkg-deb"])
def test_an_interrupted_run_leaves_nothing(tools: Path, program_name: str) -> None:
    program(tools, program_name, "kill -TERM $PPID; sleep 20")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            debian.install("10.0")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list(debian.cache().iterdir()) == []


def test_one_run_at_a_time(tools: Path) -> None:
    debian.cache().mkdir(parents=True)
    held = os.open(debian.cache(), os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TargetError, match=r"another run unpacks into .* just now"):
            debian.install("10.0")
    finally:
        os.close(held)
    assert debian.install("10.0")[1]


def test_without_a_network_nothing_is_left(tools: Path) -> None:
    said = (
        "echo 'W: Slow' >&2; echo 'E: Could not resolve mirror.example' >&2; echo 'E: Failed' >&2"
    )
    program(tools, "apt-get", f"{said}; exit 100")
    with pytest.raises(TargetError, match=r"^cannot .*: E: Could not resolve mirror\.example$"):
        debian.install("10.0")
    assert list(debian.cache().iterdir()) == []


def test_elsewhere_than_on_debian(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tools / "dpkg-deb").unlink()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(TargetError, match=r"no dpkg-deb here: .* give its path to --qemu instead"):
        debian.install("10.0")


def test_a_release_that_nobody_has() -> None:
    with pytest.raises(TargetError, match=r"no build of QEMU 9\.9 is known; there are: 5\.2"):
        debian.install("9.9")
    with pytest.raises(TargetError, match=r"no QEMU 9\.9 here: give its path instead"):
        debian.find_build("9.9")


def test_the_commands(tools: Path) -> None:
    run = CliRunner().invoke
    asked = run(cli, ["qemu", "list", "--json", "/nowhere"])
    assert asked.exit_code == 2
    listed = json.loads(asked.output)["builds"]
    unusable = [row["name"] for row in listed if not row["usable"]]
    assert unusable[-4:] == ["5.2", "10.0", "11.1", "/nowhere"]
    first = run(cli, ["qemu", "install", "10.0"])
    assert first.exit_code == 0
    assert f"now in {debian.cache() / '10.0'}" in first.output
    assert "already in" in run(cli, ["qemu", "install", "10.0"]).output
    every = run(cli, ["qemu", "list"])
    assert every.exit_code == 0
    shown = every.output
    assert "ok       10.0: qemu-storage-daemon version 10.0.13 (fake); qemu-10.0" in shown
    assert "MISSING  5.2: there is no QEMU 5.2 here: reopencheck qemu install 5.2" in shown
