# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that are not made, and names that lead out of the scratch directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.values.trace import ImageSpec
from targets.builds.image_store import ImageStore, contained_name
from targets.errors import TargetError

if TYPE_CHECKING:
    from pathlib import Path


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
