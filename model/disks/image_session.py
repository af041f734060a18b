# SPDX-License-Identifier: GPL-2.0-or-later
"""An image file opened for a moment, as ``qemu-img`` opens it: by a process of its own.

What it may do is decided by the locks of those who have the file open. What it then reads and
writes is worked out on a graph with nothing but that image and its backing files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from model.commands import COMMANDS
from model.disks.shutdown import shut_down
from model.edits import block_backends
from model.graph.driver import driver_of
from model.graph.transition import Transition
from model.release.rules import NotModelledError, Refusal, outside
from model.values import image_layout
from model.values.deep import room_for
from model.values.image_layout import FORMATS, ImageError
from model.values.state import BlockState, Perm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from model.release.dialect import Dialect
    from model.values.state import FrozenDict, Image, Node

T = TypeVar("T")

UNMODELLED = outside(
    "images.unmodelled",
    "What a client of the library does with an image file is something that the spec follows.",
    text="{what} is not modelled",
)

OWN_LOCK = 'Failed to get shared "write" lock'
_LEVELS = 8
"""An image takes so many levels of calls above those of its backing files."""


@attrs.frozen
class Request:
    """How an image is opened.

    ``format`` is None where it is to be found out. ``forced``: others may write meanwhile (``-U``).
    ``chain``: with its backing files.
    """

    name: str
    format: str | None = None
    writable: bool = False
    forced: bool = False
    chain: bool = True


class Session:
    """Images that are open for one operation, and what becomes of the files.

    ``files`` are the image files by name, ``states`` those of the monitors that may have some of
    them open.
    """

    def __init__(
        self,
        dialect: Dialect,
        files: FrozenDict[str, Image],
        states: Iterable[BlockState] = (),
    ) -> None:
        self.dialect = dialect
        self._files = files
        self.t = Transition(BlockState(images=files), dialect.evaluation())
        self._states = [state for state in states if state.nodes]

    def leave(self, what: str) -> ImageError:
        """The error for something that the spec does not follow."""
        return ImageError(UNMODELLED.text.format(what=what))

    def run(self, work: Callable[[], T]) -> T:
        """Do a piece of work on the graph.

        Raises :class:`ImageError` where QEMU refuses it, where it has a defect, or
        where the spec ends.
        """
        with room_for(len(self.t.images) + _LEVELS):
            try:
                found = work()
            except NotModelledError as end:
                raise ImageError(end.text) from None
            except Refusal as refusal:
                raise ImageError(refusal.text) from None
            except ImageError as error:
                raise self.leave(f"what is done with an image here ({error})") from None
        for hazard in sorted(self.t.ev.hazards):
            raise self.leave(f"an image file where a release has the defect {hazard!r}")
        return found

    def open(self, request: Request) -> str:
        """Open an image; returns the name of its node.

        Raises :class:`ImageError` with what the block layer says.
        """
        name, given = request.name, request.format
        image_layout.check_text("name", name)
        if given is not None and given not in FORMATS:
            image_layout.check_text("format", given)
            if given in known_drivers(self.dialect):
                raise self.leave(f"an image file as one of {given!r}")
            raise ImageError(f"Unknown driver {image_layout.shown(given)}")
        image = self.t.images.get(name)
        if image is None:
            if ":" in name:
                raise self.leave(f"an image that is no plain file, {image_layout.shown(name)}")
            raise ImageError(
                f"Could not open {image_layout.shown(name)}: No such file or directory"
            )
        if request.chain:
            self._check_end(request, image)
        for state in self._states:
            self._meet(state, request)
        return self.run(lambda: _open(self.t, request, image))

    def _check_end(self, request: Request, image: Image) -> None:
        """Raise :class:`ImageError` where an image comes again among those below it.

        Who writes to it is in his own way then; others open files for ever.
        """
        seen: list[str] = []
        format_: str | None = request.format or image.format
        below: Image | None = image
        while below is not None and below.name not in seen:
            seen.append(below.name)
            if format_ != "qcow2":
                return
            format_ = below.backing_format
            below = self.t.images.get(below.backing or "")
            format_ = format_ or (below.format if below is not None else None)
        if below is None or format_ != "qcow2":
            return
        if request.writable and below is image:
            raise ImageError(len(seen) * "Could not open backing file: " + OWN_LOCK)
        raise self.leave(f"a chain of images without an end, that of {image.name!r},")

    def open_image(self, request: Request) -> str:
        """Open an image as what a command is about, which is what the error says then.

        Raises :class:`ImageError`.
        """
        try:
            return self.open(request)
        except ImageError as error:
            raise in_context(
                f"Could not open {image_layout.shown(request.name)}: ", error
            ) from None

    def close(self) -> None:
        """Close every image: what was kept in memory is written to the files.

        Raises :class:`ImageError`.
        """
        self.run(lambda: shut_down(self.t))

    def _meet(self, state: BlockState, request: Request) -> None:
        """Open an image beside those that a monitor has open, as far as that is noticed."""
        other = Session(self.dialect, self._files)
        beside = attrs.evolve(state, images=self._files)
        other.t = Transition(beside, self.dialect.evaluation())
        image = self.t.images[request.name]
        top = other.run(lambda: _open(other.t, request, image))
        mine = {node.filename for node in chain(other.t, top)} - {""}
        for node in state.nodes.values():
            if node.driver != "file" or node.filename not in mine:
                continue
            changes = request.writable and node.filename == request.name
            if changes or _may_have_written(state, node):
                raise self.leave(
                    f"an image file, {node.filename!r}, that node {node.name!r} has open as well"
                )


def in_context(prefix: str, error: ImageError) -> ImageError:
    """An error of QEMU's, with what was being done; one of the spec stays as it is."""
    text = str(error)
    return error if text.startswith("reopencheck: ") else ImageError(prefix + text)


def known_drivers(dialect: Dialect) -> frozenset[str]:
    """What the release calls its drivers."""
    schema = dialect.schema
    return frozenset(schema.values(f"{schema.commands['blockdev-add']}.driver"))


def _open(t: Transition, request: Request, image: Image) -> str:
    """Open an image in a graph. Raises ``Refusal`` or ``NotModelledError``."""
    name = "image"
    while name in t.nodes:
        name += "_"
    options: dict[str, Any] = {
        "driver": request.format or image.format,
        "node-name": name,
        "read-only": not request.writable,
        "file": {"driver": "file", "filename": request.name},
    }
    if request.forced:
        options["force-share"] = True
    if not request.chain and options["driver"] == "qcow2":
        options["backing"] = None
    COMMANDS["blockdev-add"](t, options)
    perm = Perm.CONSISTENT_READ
    if request.writable:
        perm |= Perm.WRITE | Perm.RESIZE
    block_backends.take(t, f"image:{name}", name, (perm, Perm.ALL), context="")
    return name


def chain(t: Transition, top: str) -> Iterator[Node]:
    """An image, its file, its backing file and so on: all nodes that it reads from."""
    pending = [top]
    while pending:
        node = t.nodes[pending.pop()]
        yield node
        pending.extend(link.child for link in node.children)


def _may_have_written(state: BlockState, file: Node) -> bool:
    """Whether a node above a file keeps something in a cache that is not in the file."""
    above = [state.nodes[key[0]] for key in file.parents if len(key) == 2]  # noqa: PLR2004
    return any(not node.read_only and driver_of(node.driver).supports_backing for node in above)
