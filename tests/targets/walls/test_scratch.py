# SPDX-License-Identifier: GPL-2.0-or-later
"""What a killed run left is removed by the next one, and nothing else is."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from targets.builds.debian import cache
from targets.errors import TargetError
from targets.walls.scratch import PREFIX, Scratch, for_sockets, home, occupied, sweep, temporary
from targets.walls.visible import trees

MAKES_ONE_AND_DIES = """
import os, signal, sys
from targets.walls.scratch import Scratch
print(Scratch(sys.argv[1]).path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def left_behind(place: Path) -> Path:
    """A directory whose owner was killed."""
    words = [sys.executable, "-c", MAKES_ONE_AND_DIES, str(place)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    path = Path(done.stdout.strip())
    assert path.is_dir()
    return path


def test_it_is_there_until_it_is_closed(tmp_path: Path) -> None:
    with Scratch(tmp_path) as scratch:
        (scratch.path / "directory").mkdir()
        (scratch.path / "directory" / "file").write_text("x")
        assert list(tmp_path.iterdir()) == [scratch.path]
    assert list(tmp_path.iterdir()) == []
    scratch.close()


def test_what_a_killed_owner_left_goes(tmp_path: Path) -> None:
    left = left_behind(tmp_path)
    (left / "file").write_text("x")
    assert sweep(tmp_path) == 1
    assert not left.exists()


def test_a_new_scratch_directory_sweeps_first(tmp_path: Path) -> None:
    left = left_behind(tmp_path)
    with Scratch(tmp_path) as scratch:
        assert list(tmp_path.iterdir()) == [scratch.path]
    assert not left.exists()


def test_every_command_sweeps_first(tmp_path: Path) -> None:
    left = left_behind(tmp_path)
    words = [sys.executable, "-m", "checker.cli", "rules", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    assert not left.exists()


def test_what_has_an_owner_stays(tmp_path: Path) -> None:
    with Scratch(tmp_path) as scratch:
        assert sweep(tmp_path) == 0
        assert scratch.path.is_dir()


def test_what_somebody_holds_stays_though_we_do_not_see_him(tmp_path: Path) -> None:
    left = left_behind(tmp_path)
    held = os.open(left, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert sweep(tmp_path) == 0
        assert left.is_dir()
    finally:
        os.close(held)
    assert sweep(tmp_path) == 1


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    name = left_behind(tmp_path).name
    sweep(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("x")
    # A link of that name, a file, and names that are not quite so.
    (tmp_path / name).symlink_to("elsewhere")
    (tmp_path / f"{name}x").write_text("")
    for other in (f"x{name}", f"{PREFIX}notes", f"{name}.old"):
        (tmp_path / other).mkdir()
    before = sorted(tmp_path.iterdir())
    assert sweep(tmp_path) == 0
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "elsewhere" / "file").exists()


def test_what_still_runs_in_it_is_ended(tmp_path: Path) -> None:
    left = left_behind(tmp_path)
    words = ["sleep", "1000"]
    with subprocess.Popen(words, cwd=left) as orphan, subprocess.Popen(words, cwd="/") as other:
        sweep(tmp_path)
        assert orphan.wait(10) == -9
        assert other.poll() is None
        other.kill()


def test_sockets_get_a_short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with for_sockets() as scratch:
        assert len(str(scratch.path / "nbd")) < 108
        assert not scratch.path.is_relative_to(deep)
        assert scratch.path.stat().st_mode & 0o077 == 0


def test_no_place_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot make a scratch directory"):
        Scratch(tmp_path / "missing")


def test_bytes_on_the_disk_are_counted_not_lengths(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    empty = occupied(tmp_path)
    with (tmp_path / "below" / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert occupied(tmp_path) - empty < 1 << 20
    with (tmp_path / "below" / "full").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 21)
    assert occupied(tmp_path) - empty >= 1 << 21
    assert occupied(tmp_path / "missing") == 0


def test_a_relative_place_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", ".")
    with Scratch() as scratch, for_sockets() as sockets:
        assert scratch.path.parent == sockets.path.parent == tmp_path
    monkeypatch.chdir("/")


def test_a_place_with_a_line_break_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "a\nb"
    broken.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(broken))
    assert sweep() == 0
    with pytest.raises(TargetError, match=r"\A.*line break.*set TMPDIR to another directory\Z"):
        temporary()


def test_no_place_at_all_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/proc/nowhere"])
    assert sweep() == 0
    with pytest.raises(
        TargetError, match=r"\Athere is no place for temporary files: set TMPDIR.*\Z"
    ):
        temporary()


def test_a_user_without_a_home_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert home() == Path("/")
    assert cache() == Path("/.cache/reopencheck/qemu")
    assert trees(("/bin/sh",)) == ()
