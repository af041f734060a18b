# SPDX-License-Identifier: GPL-2.0-or-later
"""Which walls there are, which need others, what a process sees, and how it is started."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from targets.errors import TargetError
from targets.walls import standing as module
from targets.walls.launching import NAMESPACES, behind
from targets.walls.standing import NAMES, Walls, probe, trusting, with_what_they_need
from targets.walls.visible import trees

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def probed_anew() -> Iterator[None]:
    yield
    probe.cache_clear()


def test_walls_are_taken_down_by_name() -> None:
    assert trusting(()) == Walls()
    assert trusting(("network", "cpu")).trusted == {"network", "cpu"}
    assert trusting(("all",)).trusted == set(NAMES)
    assert trusting(("all",)).up == frozenset()
    with pytest.raises(TargetError, match=r"^there is no wall 'moat'; there are: user, mount"):
        trusting(("cpu", "moat"))


def test_what_needs_another_wall_falls_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    every = frozenset(NAMES)
    monkeypatch.setattr("targets.walls.launching.linux", lambda: (6, 14))
    assert with_what_they_need(every, root=False) == every
    without = every - {"user"}
    assert with_what_they_need(without, root=True) == without
    assert with_what_they_need(without, root=False) == without - {"processes", *NAMESPACES}
    for wall in ("pid", "mount"):
        monkeypatch.setattr("os.geteuid", lambda: 0)
        assert with_what_they_need(every - {wall}) == every - {wall, "processes"}
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        assert with_what_they_need(every - {wall}) == every - {wall}
    # Root's processes are not counted, and their ids not bounded for a namespace alone.
    monkeypatch.setattr("targets.walls.launching.linux", lambda: (6, 1))
    assert with_what_they_need(every) == every
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert with_what_they_need(every) == every - {"processes"}
    assert "pid_max" not in " ".join(behind(("/bin/true",), every, directory="/"))


def test_where_nothing_is_allowed_the_limits_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(up: frozenset[str]) -> str:
        return "unshare failed: Operation not permitted" if up else ""

    probe.cache_clear()
    monkeypatch.setattr(module, "_trial", refused)
    found = probe()
    assert {name for name, each in found.items() if each.stands} == {
        *("memory", "descriptors", "cpu", "core", "disk")
    }
    assert found["user"].why == "unshare failed: Operation not permitted"
    assert found["user"].hint
    assert all(each.stands or each.why for each in found.values())
    probe.cache_clear()


def test_one_wall_that_cannot_stand_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(up: frozenset[str]) -> str:
        return "no network namespaces" if "network" in up else ""

    probe.cache_clear()
    monkeypatch.setattr(module, "_trial", no_network)
    standing = {name for name, each in probe().items() if each.stands}
    assert set(NAMES) - standing == {"network"}
    probe.cache_clear()


def test_probing_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def trial(_up: frozenset[str]) -> str:
        nonlocal count
        count += 1
        return ""

    probe.cache_clear()
    monkeypatch.setattr(module, "_trial", trial)
    assert Walls().up == Walls().up
    assert count == 1


def test_without_walls_nothing_stands_in_between() -> None:
    argv = behind(("/bin/echo", "a b", "$HOME"), frozenset(), directory="/")
    assert subprocess.check_output(argv) == b"a b $HOME\n"
    assert "unshare" not in " ".join(argv)


@pytest.mark.parametrize("mark", [".git", ".unpacked"])
def test_a_build_is_seen_with_its_tree(tmp_path: Path, mark: str) -> None:
    tree = tmp_path / "tree"
    (tree / "build").mkdir(parents=True)
    (tree / mark).mkdir()
    program = tree / "build" / "qemu-storage-daemon"
    program.write_text("")
    assert trees((str(program),)) == (str(tree),)
    words = ("/usr/bin/env", f"--library-path={tree}/build:/usr/lib", "relative", "/no/such")
    assert trees(words) == (str(tree),)


def test_the_system_s_own_needs_nothing_more() -> None:
    assert trees(("/usr/bin/env", "/bin/sh", "/etc/passwd", "/dev/null", "/")) == ()


def test_a_script_is_seen_with_what_it_names(tmp_path: Path) -> None:
    for name in ("build", "script"):
        (tmp_path / name / ".git").mkdir(parents=True)
    build, script = tmp_path / "build" / "qsd", tmp_path / "script" / "wrapper"
    build.write_text("")
    script.write_text(f'#!/bin/sh\n{build} "$@"\n')
    assert trees((str(script),)) == (str(build.parent), str(script.parent))


def test_a_link_is_seen_with_where_it_leads(tmp_path: Path) -> None:
    for name in ("build", "links"):
        (tmp_path / name / ".git").mkdir(parents=True)
    (tmp_path / "build" / "qsd").write_text("")
    link = tmp_path / "links" / "qsd"
    link.symlink_to("../build/qsd")
    assert trees((str(link),)) == (str(tmp_path / "build"), str(tmp_path / "links"))


def test_a_home_is_never_seen_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for path in ("home/qsd", "home/src/qemu/build/qsd"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    assert trees((str(tmp_path / "home/src/qemu/build/qsd"),)) == (str(tmp_path / "home/src"),)
    assert trees((str(tmp_path / "home/qsd"),)) == (str(tmp_path / "home/qsd"),)
