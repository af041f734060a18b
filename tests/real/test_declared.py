# SPDX-License-Identifier: GPL-2.0-or-later
"""The drivers whose options alone are modelled, as far as a host can open a node of them.

Not luks, though it could: to make a key, QEMU measures how fast the host is, which may fail or take
long. It was run by hand (docs/series/09-runtime-options.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model.values.trace import OBJECT, WAIT
from model.release.dialects import DIALECTS
from model.drivers.declared import NODE
from model.operations.reopen_options import answer
from model.values.programs import STORAGE_DAEMON
from model.values.qdict import flatten
from model.release.translation import translated
from model.values.trace import ImageSpec, Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.release.dialect import Dialect
    from model.values.trace import Command
    from targets.binaries import Build
    from tests.real.replays import Replays

Options = dict[str, Any]
IMAGES = (ImageSpec("hd0.raw", "raw", 0), ImageSpec("hd1.raw", "raw", 1 << 20))


def command(name: str, **arguments: Any) -> Command:
    given = {key.replace("_", "-"): value for key, value in arguments.items()}
    return {"execute": name, "arguments": given}


def secret(name: str) -> Command:
    return command(OBJECT, qom_type="secret", id=name, data="abc")


def file(number: int) -> Command:
    return command("blockdev-add", driver="file", node_name="f", filename=IMAGES[number].name)


def made(driver: str, **options: Any) -> tuple[Command, ...]:
    """A file that gets a format, made by the daemon itself."""
    what = {"driver": driver, "file": "f", "size": 1 << 20}
    what.update({key.replace("_", "-"): value for key, value in options.items()})
    return (
        file(0),
        command("blockdev-create", job_id="j", options=what),
        command(WAIT, id="j", status="concluded"),
        command("job-dismiss", id="j"),
    )


@attrs.frozen
class Opened:
    """How a node is opened, and the options that it is then reopened with, without children."""

    driver: str
    was: Options
    reopens: tuple[Options, ...]
    before: tuple[Command, ...] = ()
    children: Options = attrs.Factory(dict)


DAEMONS = [each for each in DIALECTS.values() if each.program is STORAGE_DAEMON]
"""A system emulator opens no encrypted qcow image."""

AES = {"format": "aes", "key-secret": "s"}
HOST = {"filename": "/dev/null", "locking": "off"}
NODES = [
    Opened("vpc", {}, ({}, {"read-only": True}), made("vpc", force_size=True), {"file": "f"}),
    Opened("qcow", {}, ({}, {"encrypt": AES}), made("qcow"), {"file": "f"}),
    Opened(
        "qcow",
        {"encrypt": AES},
        ({}, {"encrypt": {**AES, "key-secret": "t"}}, {"encrypt": AES}),
        (
            secret("s"),
            secret("t"),
            *made("qcow", encrypt={"format": "qcow", "key-secret": "s"}),
        ),
        {"file": "f"},
    ),
    Opened(
        "replication",
        {"mode": "primary"},
        ({"mode": "primary"}, {"mode": "secondary"}),
        (file(1),),
        {"file": "f"},
    ),
    Opened(
        "host_device",
        {**HOST, "drop-cache": False, "x-check-cache-dropped": True},
        (
            HOST,
            {**HOST, "drop-cache": True},
            {"filename": "/dev/null", "drop-cache": False},
            {**HOST, "filename": "/dev/zero", "drop-cache": False},
            {**HOST, "locking": "auto", "drop-cache": False},
        ),
    ),
]


@pytest.mark.parametrize("opened", NODES, ids=lambda each: each.driver)
@pytest.mark.parametrize("dialect", DAEMONS, ids=lambda each: each.name)
def test_a_declared_driver_answers_as_the_daemon_does(
    dialect: Dialect, opened: Opened, build_of: Callable[[Dialect], Build], replays: Replays
) -> None:
    known = {"driver": opened.driver, "node-name": NODE, **opened.children}
    commands = [*opened.before, command("blockdev-add", **known, **opened.was)]
    start = len(commands)
    commands += [command("blockdev-reopen", options=[{**known, **each}]) for each in opened.reopens]
    trace = translated(Trace(IMAGES, tuple(commands)), dialect.schema)
    seen = replays.replay(build_of(dialect), trace).observations
    replies = [each.reply for each in seen]
    assert all("return" in each for each in replies[:start]), replies[:start]
    said = [each.get("error", {}).get("desc") for each in replies[start:]]
    expected, was = [], flatten(opened.was)
    for each in opened.reopens:
        told = answer(dialect, opened.driver, was, flatten(each))
        expected.append(told)
        if told is None:
            was = flatten(each)
    assert said == expected
    assert any(expected) or opened.driver == "vpc"
