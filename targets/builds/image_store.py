# SPDX-License-Identifier: GPL-2.0-or-later
"""Image files as ``qemu-img`` makes them, at the price of a file copy.

Starting ``qemu-img`` costs some ten milliseconds, a trace needs up to six images and
runs in about thirty: so each kind of image is made once, kept as its data extents, and
written out from memory from then on. ``qemu-io`` writes the data that an image begins with.
"""

from __future__ import annotations

import os
import re
import struct
import threading
import weakref
from typing import TYPE_CHECKING, TypeAlias

import attrs

from targets.builds.binaries import ALL, Build, find_qemu_img, find_qemu_io
from targets.builds.tool_shell import Room
from targets.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from model.values.trace import ImageSpec
    from targets.walls.standing import Walls

FORMATS = ("qcow2", "raw")
MAX_SIZE = 1 << 50
"""The largest image that is made, in bytes: beyond it the tables alone fill the memory."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_CREATE_WITHIN = 60.0
_MOST_IN_A_BYTE = 255
_MOST_TEMPLATES = 400
_CLUSTER = 65536
_BLOCK = 4096

_QCOW2_MAGIC = b"QFI\xfb"
_EXTENSION_BACKING_FORMAT = 0xE2792ACA
_EXTENSION_END = 0


@attrs.frozen
class _Template:
    """A file's length and its data: (offset, bytes, how many times); all else is a hole."""

    length: int
    extents: tuple[tuple[int, bytes, int], ...]


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


_Kind: TypeAlias = "tuple[ImageSpec, ...]"
"""What makes an image what it is: its specification, and those of what it copies data from."""


class ImageStore:
    """Makes image files from their specifications; may be shared by targets and threads."""

    def __init__(
        self,
        qemu_img: Build | None = None,
        qemu_io: Build | None = None,
        walls: Walls = ALL,
    ) -> None:
        """Remember the programs to use; by default those in PATH, looked up when needed.

        Those run behind `walls`; what they leave behind goes with the store.
        """
        self._programs = {"qemu-img": qemu_img, "qemu-io": qemu_io}
        self._walls = walls
        self._rooms: dict[str, Room] = {}
        self._templates: dict[_Kind, _Template] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """End what runs for it; it may be used again, and what it has made is kept."""
        with self._lock:
            for room in self._rooms.values():
                room.close()

    def create(self, directory: Path, images: Iterable[ImageSpec]) -> None:
        """Write the image files into a directory.

        An image with data is written to as soon as it is made, so a backing file comes before.
        Raises TargetError for a name that leaves the directory, an unknown format, a size
        that is negative or too large, a doubled name, data that lie elsewhere than in the image,
        or when ``qemu-img`` or ``qemu-io`` refuses.
        """
        made: dict[str, ImageSpec] = {}
        for image in images:
            if image.name in made:
                raise TargetError(f"two images have the name {image.name!r}")
            made[image.name] = image
            _write(directory / contained_name(image.name), self._template(image, made))

    def _template(self, image: ImageSpec, made: dict[str, ImageSpec]) -> _Template:
        kind = _kind(image, made)
        with self._lock:
            template = self._templates.pop(kind, None)
        if template is None:
            template = self._write_data(kind) if image.data else self._make(image)
        with self._lock:
            # Those that were used last: images with data of their own rarely come again.
            while len(self._templates) >= _MOST_TEMPLATES:
                del self._templates[next(iter(self._templates))]
            self._templates[kind] = template
        return template

    def _write_data(self, kind: _Kind) -> _Template:
        """Let ``qemu-io`` write to an image that stands beside its backing files."""
        image, *below = kind
        words = ["-f", image.format]
        for offset, length, pattern in image.data:
            _check_run(image, offset, length, pattern)
            words += ["-c", f"write -q -P {pattern} {offset} {length}"]
        room = self._room("qemu-io", find_qemu_io)
        with room.directory() as scratch:
            self.create(scratch, (*reversed(below), attrs.evolve(image, data=())))
            _run(room, [*words, image.name], image.name, scratch)
            return _read(scratch / image.name, image.name)

    def _make(self, image: ImageSpec) -> _Template:
        if image.format not in FORMATS:
            raise TargetError(f"image {image.name!r}: unknown format {image.format!r}")
        if not 0 <= image.size <= MAX_SIZE:
            raise TargetError(f"image {image.name!r}: size {image.size} is not in 0..{MAX_SIZE}")
        words = ["create", "-q", "-f", image.format]
        if image.backing is not None:
            # -u: the backing file need not exist yet. Current releases insist on -F even
            # then, so an image that does not say its backing format is made in two steps.
            words += ["-u", "-b", contained_name(image.backing), "-F"]
            words += [contained_name(image.backing_format or "raw")]
        room = self._room("qemu-img", find_qemu_img)
        with room.directory() as scratch:
            path = scratch / "image"
            _run(room, [*words, str(path), str(image.size)], image.name, scratch)
            template = _read(path, image.name)
        if image.backing is not None and image.backing_format is None:
            return _without_backing_format(template)
        return template

    def _room(self, name: str, find: Callable[..., Build]) -> Room:
        """Where a program runs; it is looked up, and started, when it is needed first."""
        with self._lock:
            room = self._rooms.get(name)
            if room is None:
                program = self._programs[name] or find(walls=self._walls)
                room = self._rooms[name] = Room(program)
                weakref.finalize(self, room.close)
            return room


def _kind(image: ImageSpec, made: dict[str, ImageSpec]) -> _Kind:
    """What a template is kept for: the images below count only where data are copied up."""
    if not image.data:
        return (attrs.evolve(image, name=""),)
    chain = [image]
    while (below := made.get(chain[-1].backing or "")) is not None and below not in chain:
        chain.append(below)
    if all(offset % _CLUSTER == length % _CLUSTER == 0 for offset, length, _ in image.data):
        chain[1:] = [attrs.evolve(below, data=()) for below in chain[1:]]
    return tuple(chain)


def _check_run(image: ImageSpec, offset: int, length: int, pattern: int) -> None:
    if offset < 0 or length <= 0 or offset + length > image.size:
        raise TargetError(
            f"image {image.name!r}: {length} bytes from {offset} do not lie within {image.size}"
        )
    if not 0 <= pattern <= _MOST_IN_A_BYTE:
        raise TargetError(f"image {image.name!r}: the pattern {pattern} is not a byte (0 to 255)")


def _run(room: Room, words: Sequence[str], name: str, directory: Path) -> None:
    """Let a program work on an image. Raises TargetError, in one line, when it fails."""
    try:
        done = room.run(words, directory, _CREATE_WITHIN)
    except TargetError as error:
        raise TargetError(f"image {name!r}: {error}") from error
    if done.flooded:
        raise TargetError(f"image {name!r}: {room.program} prints without end")
    if done.end is None:
        raise TargetError(
            f"image {name!r}: {room.program} did not end within {_CREATE_WITHIN:.0f} s"
        )
    if done.end.status != 0:
        how = done.end.signal_name or f"it ended with status {done.end.status}"
        raise TargetError(f"image {name!r}: {done.said or f'{room.program} failed: {how}'}")


def _read(path: Path, name: str) -> _Template:
    """Return the extents of the file that a program has made for an image. Raises TargetError."""
    try:
        return _extents(path)
    except OSError as error:
        raise TargetError(
            f"image {name!r}: no image was made, though the program says so: "
            f"{error.strerror or error}"
        ) from error


def _extents(path: Path) -> _Template:
    """Return a file's data extents as the file system knows them.

    Not its non-zero bytes: ``qemu-img`` allocates the first block of a raw file on
    purpose, since the alignment that direct I/O needs is probed there.
    """
    extents: list[tuple[int, bytes, int]] = []
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        position = 0
        while position < length:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: a hole up to the end
                break
            position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            extents += _folded(start, os.pread(file.fileno(), position - start, start))
    return _Template(length, tuple(extents))


def _folded(start: int, data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield data as extents in which blocks of one byte's value are kept as that byte.

    Images with data are many, and there is little in them.
    """
    begin = 0
    while begin < len(data):
        first = data[begin : begin + 1]
        end = begin
        while (block := data[end : end + _BLOCK]) and block == first * len(block):
            end += len(block)
        if end > begin:
            yield start + begin, first, end - begin
        else:
            end = begin + _BLOCK
            yield start + begin, data[begin:end], 1
        begin = end


def _write(path: Path, template: _Template) -> None:
    try:
        with path.open("xb", buffering=0) as file:
            file.truncate(template.length)
            if template.extents and template.extents[0][1].startswith(_QCOW2_MAGIC):
                # As qemu-img and qemu-io leave it: qcow2 looks for zeroes in its file if there is
                # much less of it on the disk than there are clusters.
                os.posix_fallocate(file.fileno(), 0, template.length)
            for offset, data, times in template.extents:
                os.pwrite(file.fileno(), data * times, offset)
    except OSError as error:
        raise TargetError(f"image {path.name!r}: {error.strerror or error}") from error


def _without_backing_format(template: _Template) -> _Template:
    """Return a qcow2 template whose header no longer states the backing file's format.

    The header extensions (type, length, data padded to eight bytes; docs/interop/qcow2.txt)
    follow the header; those behind the removed one move up, the backing file's name stays.
    """
    (start, head, _), *rest = template.extents
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
    return _Template(template.length, ((0, head, 1), *rest))
