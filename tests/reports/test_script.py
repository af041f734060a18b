# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripts without a daemon: a stand-in answers, so only the shell is put to the test."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import pytest

from model.values.trace import ImageSpec, Observation
from reports import script
from reports.values import Difference, Step
from tests.reports.samples import FINDING

if TYPE_CHECKING:
    from pathlib import Path

Run = Callable[[str], subprocess.CompletedProcess[str]]

STAND_IN = """#!/bin/sh
echo '{"QMP": {"version": {}}}'
n=0
while IFS= read -r line; do
    case $line in
    *qmp_capabilities*) echo '{"return": {}}' ;;
    *quit*) echo '{"return": {}}'; echo "bye" >&2; exit 3 ;;
    *'"id": "nodes"'*) echo '{"return": ["the nodes"], "id": "nodes"}' ;;
    *'"id": "graph"'*) echo '{"return": {"the": "graph"}, "id": "graph"}' ;;
    *) n=$((n + 1)); echo '{"event": "X"}'
       echo '{"return": {"answer": '$n'}, "id": "step-'$n'"}' ;;
    esac
done
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script with the stand-ins for both programs."""
    daemon = tmp_path / "daemon"
    daemon.write_text(STAND_IN, encoding="utf-8")
    daemon.chmod(0o755)
    images = tmp_path / "img"
    images.write_text('#!/bin/sh\necho "$@" >>"$LOG"\n', encoding="utf-8")
    images.chmod(0o755)

    def do(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-s"],
            input=text,
            env={
                **os.environ,
                "QSD": str(daemon),
                "QEMU_IMG": str(images),
                "LOG": str(tmp_path / "log"),
                "TMPDIR": str(tmp_path),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return do


def test_shows_each_reply_beside_what_was_expected(run: Run, tmp_path: Path) -> None:
    done = run(script.render(FINDING))
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith('1  {"execute": "blockdev-add"')
    assert lines[1:3] == [
        '  expected  {"return": {}}',
        '  got       {"return": {"answer": 1}, "id": "step-1"}',
    ]
    assert "$(no such) `node`" in lines[3]
    assert lines[5] == '  got       {"return": {"answer": 2}, "id": "step-2"}'
    assert '  got       {"return": ["the nodes"], "id": "nodes"}' in lines
    assert '  got       {"return": {"the": "graph"}, "id": "graph"}' in lines
    assert lines[-2:] == ["the daemon ended with status 3", "  stderr    bye"]
    log = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert log == [
        "create -q -f raw base.raw 65536",
        "create -q -f qcow2 -u -b base.raw -F raw hd0.qcow2 1048576",
    ]
    assert not list(tmp_path.glob("reopencheck.*")), "the scratch directory is removed"


def test_tells_where_a_difference_beyond_the_reply_is(run: Run) -> None:
    finding = attrs.evolve(
        FINDING, difference=Difference(1, "nodes[a].ro", expected=False, got=True)
    )
    done = run(script.render(finding))
    assert "the difference is at nodes[a].ro:\n  expected  false\n  seen      true\n" in done.stdout


def test_it_starts_what_was_compared() -> None:
    text = script.render(attrs.evolve(FINDING, dialect="qemu-system-7.2"))
    assert "QSD=${QSD:-qemu-system-x86_64}\n" in text
    assert "-machine pc" in text
    for dialect in ("qemu-7.2", "one that is gone"):
        text = script.render(attrs.evolve(FINDING, dialect=dialect))
        assert "QSD=${QSD:-qemu-storage-daemon}\n" in text


def test_a_hang_is_ended(run: Run) -> None:
    done = run(script.render(attrs.evolve(FINDING, kind="hang", difference=None)))
    assert "the daemon ended with status 3" in done.stdout


def test_no_finding_is_hurt_by_odd_text() -> None:
    text = script.render(attrs.evolve(FINDING, title="a\nrm -rf x"), "a\nb")
    assert "\nrm" not in text
    assert text.startswith("#!/bin/sh\n# a rm -rf x\n")


@pytest.mark.parametrize("odd", [None, 5, "x", [], {}, {"data": 5}, {"data": []}, {"data": {}}])
def test_the_odd_address_of_a_server_is_no_socket(odd: object) -> None:
    """What a journal holds may say that a daemon has accepted anything."""
    command = {"execute": "nbd-server-start", "arguments": {"addr": odd}}
    read = {"execute": "reopencheck-read", "arguments": {"node": "n"}}
    seen = Observation({"return": {}}, [], {})
    steps = (Step(command, seen, seen), Step(read, seen, seen))
    text = script.render(attrs.evolve(FINDING, steps=steps))
    assert "read_node step-2 '\"n\"' ''\n" in text


def test_the_words_of_an_image_are_words_for_the_shell() -> None:
    odd = ImageSpec("a; b", "raw; touch c", 512, data=((0, 512, 1),))
    text = script.render(attrs.evolve(FINDING, images=(odd,)))
    written = [line for line in text.splitlines() if line.startswith(("$QEMU_IMG", "$QEMU_IO"))]
    assert len(written) == 2
    for line in written:
        assert {"raw; touch c", "a; b"} <= set(shlex.split(line))


def test_objects_are_there_from_the_start(run: Run) -> None:
    """A trace of a release that makes no objects later: the daemon is started with them."""
    made = {"execute": "reopencheck-object", "arguments": {"qom-type": "iothread", "id": "io0"}}
    limits = {"qom-type": "throttle-group", "id": "a,b", "x-iops-total": 5}
    other = {"execute": "reopencheck-object", "arguments": limits}
    steps = (Step(made, FINDING.steps[0].expected), Step(other), *FINDING.steps)
    difference = attrs.evolve(FINDING.difference or Difference(0, "", 1, 2), step=3)
    text = script.render(attrs.evolve(FINDING, steps=steps, difference=difference))
    words = "--object iothread,id=io0 --object throttle-group,id=a,,b,x-iops-total=5"
    assert f"\nset -- {words}\n" in text
    done = run(text)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("got       (the daemon was started with it)\n") == 2
    waits = {"execute": "reopencheck-wait", "arguments": {"id": "j", "status": "null"}}
    driven = script.render(attrs.evolve(FINDING, steps=(Step(made), Step(waits)), difference=None))
    assert '"$@" <requests' in driven
    assert "reopencheck-object" not in driven.split("the nodes and the graph")[0].split("tell ")[1]
