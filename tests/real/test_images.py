# SPDX-License-Identifier: GPL-2.0-or-later
"""Images written from a template are the images that ``qemu-img`` makes."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from model.values.trace import ImageSpec, Trace
from targets.binaries import find_qemu_img
from targets.errors import TargetError

if TYPE_CHECKING:
    from pathlib import Path

    from targets.images import ImageStore
    from targets.pool import Target

MIB = 1 << 20


def info(path: Path) -> dict[str, Any]:
    words = ["info", "--output=json", str(path)]
    answer = subprocess.check_output([*find_qemu_img().argv, *words])
    found: dict[str, Any] = json.loads(answer)
    return found


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
@pytest.mark.parametrize("size", [0, 1000, MIB, 1 << 40])
def test_the_file_is_the_one_that_qemu_img_makes(
    tmp_path: Path, images: ImageStore, kind: str, size: int
) -> None:
    expected = tmp_path / "expected"
    words = ["create", "-q", "-f", kind, str(expected), str(size)]
    subprocess.run([*find_qemu_img().argv, *words], check=True)
    images.create(tmp_path, [ImageSpec("hd0", kind, size)])
    made = tmp_path / "hd0"
    assert made.stat().st_size == expected.stat().st_size
    if made.stat().st_size < 10 * MIB:
        assert made.read_bytes() == expected.read_bytes()
    assert made.stat().st_blocks <= expected.stat().st_blocks + 8


@pytest.mark.parametrize("backing_format", ["qcow2", "raw"])
def test_a_backing_file_is_recorded_though_it_does_not_exist_yet(
    tmp_path: Path, images: ImageStore, backing_format: str
) -> None:
    images.create(tmp_path, [ImageSpec("hd1", "qcow2", MIB, "hd0", backing_format)])
    found = info(tmp_path / "hd1")
    assert found["backing-filename"] == "hd0"
    assert found["backing-filename-format"] == backing_format


def test_a_backing_file_without_a_format_is_recorded_without_one(
    tmp_path: Path, images: ImageStore, target: Target
) -> None:
    specs = (ImageSpec("hd0", "qcow2", MIB), ImageSpec("hd1", "qcow2", MIB, "hd0"))
    images.create(tmp_path, specs)
    found = info(tmp_path / "hd1")
    assert found["backing-filename"] == "hd0"
    assert "backing-filename-format" not in found
    file = {"driver": "file", "filename": "hd1"}
    add = {"driver": "qcow2", "node-name": "n", "file": file}
    seen = target.run(Trace(specs, ({"execute": "blockdev-add", "arguments": add},)))
    nodes = seen.observations[0].nodes
    assert nodes is not None
    assert sorted(node["drv"] for node in nodes) == ["file", "file", "qcow2", "qcow2"]


def test_what_qemu_img_refuses_is_one_clear_line(tmp_path: Path, images: ImageStore) -> None:
    with pytest.raises(TargetError, match=r"image 'hd1': .+"):
        images.create(tmp_path, [ImageSpec("hd1", "raw", MIB, "hd0", "raw")])


def read(path: Path, kind: str, length: int) -> bytes:
    """What a guest reads."""
    flat = path.with_suffix(".flat")
    words = ["convert", "-f", kind, "-O", "raw", path.name, flat.name]
    subprocess.run([*find_qemu_img().argv, *words], check=True, cwd=path.parent)
    return flat.read_bytes()[:length]


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_data_are_what_qemu_io_writes(tmp_path: Path, images: ImageStore, kind: str) -> None:
    data = ((1000, 70_000, 1), (65_536, 100, 0), (MIB - 5, 5, 255))
    expected = bytearray(MIB)
    for offset, length, pattern in data:
        expected[offset : offset + length] = bytes([pattern]) * length
    images.create(tmp_path, [ImageSpec("hd0", kind, MIB, data=data)])
    assert read(tmp_path / "hd0", kind, MIB) == expected
    plain = tmp_path / "plain"
    words = ["create", "-q", "-f", kind, plain.name, str(MIB)]
    subprocess.run([*find_qemu_img().argv, *words], check=True, cwd=tmp_path)
    commands = [w for run in data for w in ("-c", "write -P {2} {0} {1}".format(*run))]
    subprocess.run(["qemu-io", "-f", kind, *commands, plain.name], check=True, cwd=tmp_path)
    assert (tmp_path / "hd0").read_bytes() == plain.read_bytes()


def test_what_is_copied_up_is_never_that_of_another_image(
    tmp_path: Path, images: ImageStore
) -> None:
    for pattern in (1, 2):
        scratch = tmp_path / str(pattern)
        scratch.mkdir()
        base = ImageSpec("hd0", "qcow2", MIB, data=((0, MIB, pattern),))
        middle = ImageSpec("hd1", "qcow2", MIB, "hd0", "qcow2")
        top = ImageSpec("hd2", "qcow2", MIB, "hd1", "qcow2", ((0, 10, 7), (131_072, 65_536, 8)))
        images.create(scratch, [base, middle, top])
        (scratch / "hd0").unlink()
        images.create(scratch, [ImageSpec("hd0", "qcow2", MIB)])
        seen = read(scratch / "hd2", "qcow2", MIB)
        assert seen[:65_536] == bytes([7]) * 10 + bytes([pattern]) * 65_526
        assert seen[65_536:131_072] == bytes(65_536)
        assert seen[131_072:196_608] == bytes([8]) * 65_536


def test_data_need_the_backing_file_first(tmp_path: Path, images: ImageStore) -> None:
    top = ImageSpec("hd1", "qcow2", MIB, "hd0", "qcow2", ((0, 10, 7),))
    with pytest.raises(TargetError, match=r"image 'hd1': .+"):
        images.create(tmp_path, [top])


@pytest.mark.parametrize(
    "data", [((0, 2048, 1),), ((-512, 512, 1),), ((0, 0, 1),), ((0, 512, 256),), ((0, 512, -1),)]
)
def test_data_that_cannot_be_written(
    tmp_path: Path, images: ImageStore, data: tuple[tuple[int, int, int], ...]
) -> None:
    with pytest.raises(TargetError, match="image 'hd0': "):
        images.create(tmp_path, [ImageSpec("hd0", "raw", 1024, data=data)])
