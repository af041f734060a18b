# SPDX-License-Identifier: GPL-2.0-or-later
"""Image files as ``qemu-img`` makes them, at the price of a file copy.

Starting ``qemu-img`` costs some ten milliseconds, a trace needs up to six images and
runs in about thirty: so each kind of image is made once, kept as its data extents, and
written out from memory from then on.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from targets.binaries import Build, find_qemu_img
from targets.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.trace import ImageSpec

FORMATS = ("qcow2", "raw")
MAX_SIZE = 1 << 50
"""The largest image that is made, in bytes: beyond it the tables alone fill the memory."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_CREATE_WITHIN = 60.0

_QCOW2_MAGIC = b"QFI\xfb"
_EXTENSION_BACKING_FORMAT = 0xE2792ACA
_EXTENSION_END = 0


@attrs.frozen
class _Template:
    """A file's length and its data extents (offset, bytes); everything else is a hole."""

    length: int
    extents: tuple[tuple[int, bytes], ...]


def contained_name(name: str) -> str:
    """Return an image name unchanged if it can only mean a file in the current directory.

    A case may come from a stranger, and QEMU reads file names that hold a colon as
    protocols (``nbd://``, ``json:{}``): only letters, digits, ``_``, ``.`` and ``-`` pass,
    without a leading dot or dash, up to 200 characters. Raises TargetError otherwise.
    """
    if _NAME.fullmatch(name) is None:
        raise TargetError(
            f"image name {name!r} may leave the scratch directory: "
            "use letters, digits, '_', '.' and '-' only"
        )
    return name


class ImageStore:
    """Makes image files from their specifications; may be shared by targets and threads."""

    def __init__(self, qemu_img: Build | None = None) -> None:
        """Remember the ``qemu-img`` to use; by default the one in PATH, looked up when needed."""
        self._qemu_img = qemu_img
        self._templates: dict[tuple[str, int, str | None, str | None], _Template] = {}
        self._lock = threading.Lock()

    def create(self, directory: Path, images: Iterable[ImageSpec]) -> None:
        """Write the image files into a directory.

        Raises TargetError for a name that leaves the directory, an unknown format, a size
        that is negative or too large, a doubled name, or when ``qemu-img`` refuses.
        """
        names: set[str] = set()
        for image in images:
            if image.name in names:
                raise TargetError(f"two images have the name {image.name!r}")
            names.add(image.name)
            _write(directory / contained_name(image.name), self._template(image))

    def _template(self, image: ImageSpec) -> _Template:
        key = (image.format, image.size, image.backing, image.backing_format)
        with self._lock:
            template = self._templates.get(key)
            if template is None:
                template = self._templates[key] = self._make(image)
            return template

    def _make(self, image: ImageSpec) -> _Template:
        if image.format not in FORMATS:
            raise TargetError(f"image {image.name!r}: unknown format {image.format!r}")
        if not 0 <= image.size <= MAX_SIZE:
            raise TargetError(f"image {image.name!r}: size {image.size} is not in 0..{MAX_SIZE}")
        if self._qemu_img is None:
            self._qemu_img = find_qemu_img()
        words = ["create", "-q", "-f", image.format]
        if image.backing is not None:
            # -u: the backing file need not exist yet. Current releases insist on -F even
            # then, so an image that does not say its backing format is made in two steps.
            words += ["-u", "-b", contained_name(image.backing), "-F"]
            words += [contained_name(image.backing_format or "raw")]
        with tempfile.TemporaryDirectory(prefix="reopencheck-") as scratch:
            path = Path(scratch) / "image"
            _run(self._qemu_img, [*words, str(path), str(image.size)], image.name)
            template = _read(path)
        if image.backing is not None and image.backing_format is None:
            return _without_backing_format(template)
        return template


def _run(qemu_img: Build, words: list[str], name: str) -> None:
    try:
        done = subprocess.run(
            [*qemu_img.argv, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CREATE_WITHIN,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        raise TargetError(f"image {name!r}: qemu-img cannot run: {error}") from error
    if done.returncode != 0:
        line = done.stderr.strip().partition("\n")[0]
        raise TargetError(f"image {name!r}: {line or 'qemu-img failed'}")


def _read(path: Path) -> _Template:
    """Return a file's data extents as the file system knows them.

    Not its non-zero bytes: ``qemu-img`` allocates the first block of a raw file on
    purpose, since the alignment that direct I/O needs is probed there.
    """
    extents: list[tuple[int, bytes]] = []
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        position = 0
        while position < length:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: a hole up to the end
                break
            position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            extents.append((start, os.pread(file.fileno(), position - start, start)))
    return _Template(length, tuple(extents))


def _write(path: Path, template: _Template) -> None:
    try:
        with path.open("xb", buffering=0) as file:
            file.truncate(template.length)
            for offset, data in template.extents:
                os.pwrite(file.fileno(), data, offset)
    except OSError as error:
        raise TargetError(f"image {path.name!r}: {error.strerror or error}") from error


def _without_backing_format(template: _Template) -> _Template:
    """Return a qcow2 template whose header no longer states the backing file's format.

    The header extensions (type, length, data padded to eight bytes; docs/interop/qcow2.txt)
    follow the header; those behind the removed one move up, the backing file's name stays.
    """
    (start, head), *rest = template.extents
    if start != 0 or not head.startswith(_QCOW2_MAGIC):
        raise TargetError("qemu-img made something else than a qcow2 header")
    (name_offset,) = struct.unpack_from(">Q", head, 8)
    (position,) = struct.unpack_from(">I", head, 100)
    while position + 8 <= name_offset:
        kind, size = struct.unpack_from(">II", head, position)
        if kind == _EXTENSION_END:
            break
        following = position + 8 + (size + 7) // 8 * 8
        if kind == _EXTENSION_BACKING_FORMAT:
            moved = head[following:name_offset].ljust(name_offset - position, b"\0")
            head = head[:position] + moved + head[name_offset:]
            break
        position = following
    return _Template(template.length, ((0, head), *rest))
