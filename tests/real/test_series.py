# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of the series: what the releases do where its letter decided otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from model.values.trace import OBJECT
from model.release.dialects import DIALECTS
from model.release.dialects.series_v1 import SERIES_V1
from model.monitor import Monitor, Outcome
from model.release.translation import translated
from model.values.trace import ImageSpec, Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.release.dialect import Dialect
    from model.values.trace import Command
    from targets.binaries import Build
    from tests.real.replays import Replays

IMAGES = tuple(ImageSpec(f"hd{n}.qcow2", "qcow2", 1 << 20) for n in range(3))


def command(name: str, **arguments: Any) -> Command:
    return {"execute": name, "arguments": arguments}


def image(name: str, **options: Any) -> dict[str, Any]:
    file = {"driver": "file", "filename": f"{name}.qcow2", "node-name": f"{name}f"}
    return {"driver": "qcow2", "node-name": name, "file": file, **options}


def trace_of(moved: str, dialect: Dialect) -> Trace:
    """A chain whose backing file is to be replaced, where one of the two is in an iothread."""
    commands = (
        command(OBJECT, **{"qom-type": "iothread", "id": "io0"}),
        command("blockdev-add", **image("hd0", backing=image("hd1", backing=None))),
        command("blockdev-add", **image("hd2", backing=None)),
        command("x-blockdev-set-iothread", **{"node-name": moved, "iothread": "io0"}),
        command("blockdev-reopen", options=[image("hd0", backing="hd2")]),
    )
    return translated(Trace(IMAGES, commands), dialect.schema)


def told(moved: str, dialect: Dialect) -> Outcome:
    """What the spec says of the last command."""
    monitor = Monitor(dialect)
    for each in IMAGES:
        monitor.images.create(each.name, format=each.format, size=each.size)
    for given in trace_of(moved, dialect).commands:
        monitor.execute(given)
    assert monitor.outcome is not None
    return monitor.outcome


either = pytest.mark.parametrize("moved", ["hd0", "hd2"])


@either
def test_the_series_refuses_a_backing_file_in_another_context(moved: str) -> None:
    error = told(moved, SERIES_V1).reply["error"]
    assert error["desc"] == "Cannot use a new backing file with a different AioContext"


@either
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda each: each.name)
def test_no_release_does(
    dialect: Dialect, moved: str, build_of: Callable[[Dialect], Build], replays: Replays
) -> None:
    """One is moved to the other; 5.2 and 7.2 may end over it, as the spec says."""
    trace = trace_of(moved, dialect)
    replay = replays.replay(build_of(dialect), trace)
    outcome = told(moved, dialect)
    assert outcome.reply == {"return": {}}
    assert (replay.death is not None) is ("hazard.unlocked-iothread" in outcome.hazards)
    if replay.death is None:
        assert replay.observations[-1].reply == {"return": {}}
        names = {node["node-name"] for node in replay.observations[-1].nodes or []}
        assert "hd1" not in names
        assert len(replay.observations) == len(trace.commands)
