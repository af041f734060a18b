# SPDX-License-Identifier: GPL-2.0-or-later
"""The spec and the real daemon agree on hand-written scenarios, step by step."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from checker.compare import compare_trace
from model import Monitor
from tests.real.scenarios import KIB, MIB, SCENARIOS, add, file, image, node, resize

if TYPE_CHECKING:
    from pathlib import Path

    from model.values.trace import ImageSpec
    from targets.images import ImageStore
    from targets.pool import Target


@pytest.mark.parametrize("name", SCENARIOS)
def test_spec_and_daemon_agree(shared: Target, name: str) -> None:
    trace = SCENARIOS[name]
    monitor = Monitor("qemu-7.2")
    for spec in trace.images:
        monitor.images.from_spec(spec)
    # The daemon's connection has negotiated before the first command.
    monitor.execute({"execute": "query-version"})
    expected = []
    for command in trace.commands:
        monitor.execute(command)
        expected.append(monitor.observe())
    seen = shared.run(trace)
    assert seen.death is None, f"{name}: {trace.commands[min(seen.death.step, 99)]}"
    found = compare_trace(expected, seen.observations)
    assert found is None, f"{name}, step {found.step}: {trace.commands[found.step]}\n{found}"


# What a guest reads and writes, against qemu-io

_BYTES = re.compile(r"[0-9a-f]+:  ((?:[0-9a-f]{2} ){1,16})")

Write = tuple[int, int, int]
"""Offset, length, pattern."""

LAYERS = (
    image("hd0.qcow2"),
    image("hd1.qcow2", backing="hd0.qcow2"),
    image("hd2.qcow2", 2 * MIB, backing="hd1.qcow2"),
    image("short.raw", 51_200),
    image("over.qcow2", backing="short.raw", backing_format="raw"),
    image("odd.raw", 1000),
    image("odd.qcow2", backing="odd.raw", backing_format="raw"),
)


def qemu_io(directory: Path, spec: ImageSpec, *commands: str) -> str:
    """Run commands of qemu-io on an image file and return what it prints."""
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(
        ["qemu-io", "-f", spec.format, *words, spec.name],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def read(directory: Path, spec: ImageSpec, offset: int, length: int) -> bytes:
    """Read bytes of an image's virtual disk with qemu-io."""
    lines = qemu_io(directory, spec, f"read -v {offset} {length}").splitlines()
    return b"".join(bytes.fromhex(m[1]) for line in lines if (m := _BYTES.match(line)))


@pytest.mark.parametrize(
    ("name", "writes"),
    [
        ("hd0.qcow2", [(0, MIB, 1)]),
        ("hd0.qcow2", [(0, 1, 1), (65_535, 2, 2), (MIB - 1, 1, 3)]),
        ("hd1.qcow2", [(100, 5000, 4), (3 * 65_536, 65_536, 0)]),
        ("hd2.qcow2", [(MIB - 512, 1024, 5), (2 * MIB - 512, 512, 6), (0, 70 * KIB, 7)]),
        ("over.qcow2", [(51_000, 400, 8), (0, 1, 9)]),
        ("odd.qcow2", [(990, 20, 8), (5, 5, 9)]),
        ("short.raw", [(0, 51_200, 1)]),
    ],
)
def test_images_take_writes_as_qemu_io_makes_them(
    images: ImageStore, tmp_path: Path, name: str, writes: list[Write]
) -> None:
    below: dict[str, Write] = {
        "hd0.qcow2": (0, MIB, 0x11),
        "hd1.qcow2": (65_536, 1024, 0x22),
        "short.raw": (0, 51_200, 0x33),
        "odd.raw": (0, 1000, 0x44),
    }
    specs = {spec.name: spec for spec in LAYERS}
    images.create(tmp_path, LAYERS)
    monitor = Monitor("qemu-7.2")
    for spec in LAYERS:
        monitor.images.from_spec(spec)
    for target, write in [
        *((each, w) for each, w in below.items() if each != name),
        *((name, w) for w in writes),
    ]:
        offset, length, pattern = write
        qemu_io(tmp_path, specs[target], f"write -P {pattern} {offset} {length}")
        monitor.images.write(target, offset, length, pattern)
    spec = specs[name]
    below_file = {"driver": "file", "filename": name}
    monitor.execute(add(node(spec.format, "n", file=below_file)))
    size = spec.size // 512 * 512
    assert monitor.read("n", 0, size) == read(tmp_path, spec, 0, size)
    real = (tmp_path / name).stat().st_size
    assert monitor.images[name].length == real


@pytest.mark.parametrize("zeroes", ["off", "on", "unmap"])
def test_zeroes_are_detected_as_qemu_io_detects_them(
    images: ImageStore, tmp_path: Path, zeroes: str
) -> None:
    specs = LAYERS[:2]
    images.create(tmp_path, specs)
    monitor = Monitor("qemu-7.2")
    for spec in specs:
        monitor.images.from_spec(spec)
    qemu_io(tmp_path, specs[0], f"write -P 9 0 {MIB}")
    monitor.images.write("hd0.qcow2", 0, MIB, 9)
    below = file("hd1.qcow2")
    options = {"discard": "unmap", "detect_zeroes": zeroes}
    monitor.execute(add(node("qcow2", "n", file=below, **options)))
    script = [
        (0, 65_536, 0),
        (65_536, 100, 0),
        (3 * 65_536, 2 * 65_536, 0),
        (4 * 65_536, 65_536, 5),
        (4 * 65_536, 65_536, 0),
        (5 * 65_536, 65_536, 6),
        (MIB - 512, 512, 0),
    ]
    flat = f"driver=qcow2,file.filename=hd1.qcow2,discard=unmap,detect-zeroes={zeroes}"
    words = [w for o, n, p in script for w in ("-c", f"write -P {p} {o} {n}")]
    subprocess.run(
        ["qemu-io", *words, "--image-opts", flat], cwd=tmp_path, check=True, capture_output=True
    )
    for offset, length, pattern in script:
        monitor.write("n", offset, length, pattern)
    assert monitor.read("n", 0, MIB) == read(tmp_path, specs[1], 0, MIB)
    assert monitor.images["hd1.qcow2"].length == (tmp_path / "hd1.qcow2").stat().st_size


def test_what_was_cut_off_shows_again_up_to_its_cluster(images: ImageStore, tmp_path: Path) -> None:
    spec = image("hd0.qcow2")
    images.create(tmp_path, (spec,))
    monitor = Monitor("qemu-7.2")
    monitor.images.from_spec(spec)
    monitor.execute(add(node("qcow2", "n", file=file("hd0.qcow2"))))
    monitor.write("n", 0, MIB, 5)
    for size in (100 * KIB, MIB):
        monitor.execute(resize("n", size))
    qemu_io(tmp_path, spec, f"write -P 5 0 {MIB}", f"truncate {100 * KIB}", f"truncate {MIB}")
    assert monitor.read("n", 0, MIB) == read(tmp_path, spec, 0, MIB)
    assert monitor.images["hd0.qcow2"].length == (tmp_path / "hd0.qcow2").stat().st_size
