# SPDX-License-Identifier: GPL-2.0-or-later
"""The image files of a monitor, and what ``qemu-img`` does with them.

Arguments are those of the program, and so are the dictionaries that are returned (those of
``--output=json``) and the texts of errors, but for "qemu-img: " and the hints on further lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.commands import guest
from model.disks import image_commands
from model.disks.image_map import printed, runs
from model.disks.image_options import LateError, check_backing_format, check_names, check_values
from model.disks.image_session import Request, Session, in_context, known_drivers
from model.graph.sizes import MOST
from model.graph.traversal import length_of
from model.values import image_layout
from model.values.image_layout import ImageError, shown
from model.values.state import EMPTY, FrozenDict, Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from model.disks.image_commands import Comparison
    from model.release.dialect import Dialect
    from model.values.state import BlockState
    from model.values.trace import ImageSpec

    class Holder(Protocol):
        """Who may have image files open: a monitor."""

        @property
        def state(self) -> BlockState:
            """What it holds now."""


GONE_IF_REFUSED = (6, 0)
"""The release since which no qcow2 file is left behind that could not be made."""


class Disk:
    """Where image files lie, by their names, and the ``holders`` that may have some open."""

    def __init__(self) -> None:
        self.files: FrozenDict[str, Image] = EMPTY
        self.holders: list[Holder] = []

    def opened_by(self, name: str) -> str | None:
        """The name of a node that has a file open, None if there is none."""
        for holder in self.holders:
            for node in holder.state.nodes.values():
                if node.filename == name:
                    return node.name
        return None

    def open_elsewhere(self, state: BlockState, own: Holder) -> str | None:
        """A file that a state has open and that another holder has open as well."""
        theirs = {
            node.filename
            for holder in self.holders
            if holder is not own
            for node in holder.state.nodes.values()
        } - {""}
        mine = (node.filename for node in state.nodes.values()) if theirs else ()
        return next((name for name in mine if name in theirs), None)


class Images:
    """The image files beside each other in one directory, as the ``qemu-img`` of a release sees it.

    Every method raises :class:`ImageError`, with one line, for what the release
    refuses and, with a text that begins with "reopencheck: ", for what is not modelled. The files
    are as they were then, but for what a refused :meth:`create` has overwritten already.

    Sizes, offsets and lengths are in bytes; a size may also be a text such as "64K". A ``format``
    of None is found out from the file. With ``force_share`` (``-U``) others may have the image open
    for writing.
    """

    def __init__(self, dialect: Dialect, disk: Disk) -> None:
        self._dialect = dialect
        self.disk = disk

    def __getitem__(self, name: str) -> Image:
        """The image file of that name. Raises KeyError."""
        return self.disk.files[name]

    def __contains__(self, name: object) -> bool:
        return name in self.disk.files

    def __iter__(self) -> Iterator[str]:
        """The names of the image files, sorted."""
        return iter(sorted(self.disk.files))

    def __len__(self) -> int:
        return len(self.disk.files)

    def create(
        self,
        name: str,
        *,
        format: str,  # noqa: A002  # the word of qemu-img and of QMP
        size: int | str | None = None,
        backing: str | None = None,
        backing_format: str | None = None,
        unsafe: bool | None = None,
        **options: object,
    ) -> None:
        """Make an image file; an existing one is overwritten, if no node uses it.

        Without a ``size`` it is that of the backing file. That file need not be there where the
        creation is ``unsafe`` (``-u``); by default it is looked at only for its size, and with
        ``unsafe=False`` in any case, as the program does. Other ``options`` are those of ``-o``
        (``cluster_size=65536``, ``preallocation="full"`` for a raw one). A backing file without a
        format, which ``qemu-img`` takes up to 6.0, is taken for every release: traces have such
        images.
        """
        image_layout.check_name(name)
        image_layout.check_text("format", format)
        for what, given in (("backing file", backing), ("format", backing_format)):
            if given is not None:
                image_layout.check_text(what, given)
        self._check_unused(name)
        self._check_create(name, format, backing, options)
        if unsafe is None:
            unsafe = size is not None
        if backing is not None and not unsafe:
            found = self._look_at(name, backing, backing_format)
            size = found if size is None else size
        if size is None:
            raise ImageError(
                f"{name}: Image creation needs a size parameter: the size of {name!r} is not "
                "given, nor has it a backing file to take it from"
            )
        image = self._make(name, format, image_layout.parse_size(size), backing, backing_format)
        try:
            full, outside = check_values(self._dialect, name, format, options)
            if backing_format is not None:
                check_backing_format(self._dialect, name, backing_format)
        except LateError:
            self._spoil(name, format)
            raise
        if outside:
            raise self._session().leave(outside)
        if full:
            image = attrs.evolve(image, extents=image_layout.overlay((), 0, image.size, 0))
        self._put(image)

    def _make(
        self, name: str, format_: str, size: int, backing: str | None, backing_format: str | None
    ) -> Image:
        """A new image file; where it cannot be, what was there may be gone."""
        try:
            return image_layout.make(
                name, format=format_, size=size, backing=backing, backing_format=backing_format
            )
        except ImageError:
            if format_ == "qcow2" and self._dialect.release >= GONE_IF_REFUSED:
                self._spoil(name, format_)
            raise

    def _spoil(self, name: str, format_: str) -> None:
        """Leave what a program leaves behind that gives up late: an empty file, or none at all."""
        if format_ != "qcow2" or self._dialect.release < GONE_IF_REFUSED:
            self._put(Image(name, "raw", 0, 0))
        elif name in self.disk.files:
            kept = {each: image for each, image in self.disk.files.items() if each != name}
            self.disk.files = FrozenDict(kept)

    def _check_create(
        self, name: str, format_: str, backing: str | None, options: dict[str, object]
    ) -> None:
        """Refuse what the release refuses before it looks at any file."""
        if format_ not in image_layout.FORMATS and format_ not in known_drivers(self._dialect):
            raise ImageError(f"{name}: Unknown file format {shown(format_)}")
        if format_ not in image_layout.FORMATS:
            return
        check_names(name, format_, options)
        if format_ == "raw" and backing is not None:
            raise ImageError(f"{name}: Backing file not supported for file format 'raw'")
        if backing == name:
            raise ImageError(
                f"{name}: Error: Trying to create an image with the same filename as the backing "
                "file"
            )

    def _look_at(self, name: str, backing: str, backing_format: str | None) -> int:
        """Open the backing file of a new image, which others may have open; returns its size."""
        session = Session(self._dialect, self.disk.files)
        try:
            node = session.open(Request(backing, backing_format, forced=True))
        except ImageError as error:
            raise in_context(f"{name}: ", error) from None
        return length_of(session.t, node)

    def from_spec(self, spec: ImageSpec) -> None:
        """Make the image file that a trace asks for; its backing file need not be there.

        Traces may have images that ``qemu-img create`` refuses to make at once, such as one that
        names itself as its backing file. Raises :class:`ImageError`.
        """
        image_layout.check_name(spec.name)
        self._check_unused(spec.name)
        self._put(
            image_layout.make(
                spec.name,
                format=spec.format,
                size=spec.size,
                backing=spec.backing,
                backing_format=spec.backing_format,
            )
        )
        for offset, length, pattern in spec.data:
            self._write(spec.name, offset, length, pattern, beside=False)

    def info(
        self,
        name: str,
        *,
        format: str | None = None,  # noqa: A002
        force_share: bool = False,
    ) -> dict[str, Any]:
        """What ``qemu-img info --output=json`` prints.

        What the host allocated for a file (``actual-size``) nobody knows here: it is 0, as in
        queries, whatever the image holds.
        """
        request = Request(name, format, forced=force_share)
        return image_commands.info(self._session(), request)

    def info_chain(
        self,
        name: str,
        *,
        format: str | None = None,  # noqa: A002
        force_share: bool = False,
    ) -> list[dict[str, Any]]:
        """What ``qemu-img info --backing-chain --output=json`` prints: the first image first."""
        found: list[dict[str, Any]] = []
        seen: set[str] = set()
        following: str | None = name
        while following is not None:
            if following in seen:
                raise ImageError(f"Backing file {shown(following)} creates an infinite loop.")
            seen.add(following)
            found.append(self.info(following, format=format, force_share=force_share))
            following = found[-1].get("full-backing-filename")
            format = found[-1].get("backing-filename-format")  # noqa: A001
        return found

    def map(
        self,
        name: str,
        *,
        format: str | None = None,  # noqa: A002
        start_offset: int = 0,
        max_length: int | None = None,
        force_share: bool = False,
    ) -> list[dict[str, Any]]:
        """What ``qemu-img map --output=json`` prints: where the bytes of a disk lie.

        Holes of files are known in blocks of 4096 bytes, as most file systems have them.
        """
        for what, given in (
            ("start", start_offset),
            ("length", 0 if max_length is None else max_length),
        ):
            image_layout.check_whole(**{what: given})
            if given < 0:
                raise ImageError(f"the {what} of a map is not negative: {shown(given)}")
        session = self._session()
        node = session.open_image(Request(name, format, forced=force_share))
        found = session.run(lambda: runs(session.t, node))
        return printed(self._dialect, found, length_of(session.t, node), start_offset, max_length)

    def compare(
        self,
        first: str,
        second: str,
        *,
        format: str | None = None,  # noqa: A002
        second_format: str | None = None,
        strict: bool = False,
        force_share: bool = False,
    ) -> Comparison:
        """What ``qemu-img compare`` finds: whether a guest reads the same from two images.

        ``strict`` ones also have the same size and the same parts allocated. An exit status of 2
        or more is an error here.
        """
        requests = (
            Request(first, format, forced=force_share),
            Request(second, second_format, forced=force_share),
        )
        return image_commands.compare(self._session(), *requests, strict=strict)

    def resize(
        self,
        name: str,
        size: int | str,
        *,
        format: str | None = None,  # noqa: A002
        shrink: bool = False,
    ) -> None:
        """Give an image another size; "+1M" and "-1M" are relative to that which it has.

        Only with ``shrink`` (``--shrink``) it becomes smaller.
        """
        session = self._session()
        request = Request(name, format)
        wanted = self._new_size(request, size)
        image_commands.resize(session, request, wanted, shrink=shrink)
        self._take(session)

    def _new_size(self, request: Request, size: int | str) -> int:
        sign = size[:1] if isinstance(size, str) else ""
        if not isinstance(size, str) or sign not in ("+", "-") or not sign:
            return size if isinstance(size, int) and size < 0 else image_layout.parse_size(size)
        session = self._session()
        change = image_layout.parse_size(size[1:])
        node = session.open_image(attrs.evolve(request, writable=True))
        return length_of(session.t, node) + (change if sign == "+" else -change)

    def rebase(
        self,
        name: str,
        backing: str | None,
        *,
        backing_format: str | None = None,
        format: str | None = None,  # noqa: A002
        unsafe: bool = False,
    ) -> None:
        """Give an image another backing file; "" or None for none.

        A guest reads the same before and after, unless that is ``unsafe`` (``-u``): then only the
        name is changed, and neither backing file is looked at.
        """
        for what, given in (("backing file", backing), ("format", backing_format)):
            if given is not None:
                image_layout.check_text(what, given)
        session = self._session()
        request = Request(name, format)
        image_commands.rebase(session, request, backing or None, backing_format, unsafe=unsafe)
        self._take(session)

    def read(
        self,
        name: str,
        offset: int,
        length: int,
        *,
        format: str | None = None,  # noqa: A002
        force_share: bool = False,
    ) -> bytes:
        """``length`` bytes from ``offset`` of a virtual disk, its backing files included."""
        image_layout.check_whole(offset=offset, length=length)
        if length > image_layout.MOST_READ:
            raise ImageError(
                f"{shown(length)} bytes are more than {image_layout.MOST_READ} at once"
            )
        session = self._session()
        node = session.open_image(Request(name, format, forced=force_share))
        size = length_of(session.t, node)
        if offset < 0 or length < 0 or offset + length > size:
            raise ImageError(
                f"{shown(length)} bytes from {shown(offset)} do not lie within {name!r} of "
                f"{size} bytes"
            )
        return session.run(lambda: guest.read(session.t, node, offset, length))

    def write(self, name: str, offset: int, length: int, pattern: int) -> None:
        """Write ``length`` bytes of the value ``pattern`` to a virtual disk, as ``qemu-io`` does.

        No node may use the image.
        """
        self._write(name, offset, length, pattern, beside=True)

    def _write(self, name: str, offset: int, length: int, pattern: int, *, beside: bool) -> None:
        """Write to an image ``beside`` the monitors, or as if that was before their start."""
        image_layout.check_text("name", name)
        image = self.disk.files.get(name)
        if image is None:
            raise ImageError(f"no image file is called {shown(name)}")
        image_layout.check_write(image, offset, length, pattern)
        self._check_unused(name)
        session = self._session() if beside else Session(self._dialect, self.disk.files)
        try:
            node = session.open(Request(name, image.format, writable=True))
        except ImageError as error:
            raise in_context(f"{name!r}: ", error) from None
        session.run(lambda: guest.write(session.t, node, offset, length, pattern))
        self._take(session)

    def _session(self) -> Session:
        states = [holder.state for holder in self.disk.holders]
        return Session(self._dialect, self.disk.files, states)

    def _take(self, session: Session) -> None:
        """Close what an operation has opened, and keep the files as it has left them."""
        session.close()
        for name, image in session.t.images.items():
            if image is not self.disk.files.get(name):
                self._put(image)

    def _check_unused(self, name: str) -> None:
        """Raise :class:`ImageError` for an image file that a node has open."""
        node = self.disk.opened_by(name)
        if node is not None:
            raise ImageError(f"{name!r} is in use: node {node!r} has it open")

    def _put(self, image: Image) -> None:
        files = self.disk.files
        if len(files) >= MOST["images"] and image.name not in files:
            raise ImageError(f"there are {len(files)} images already")
        if len(image.extents) > image_layout.MOST_RUNS:
            raise ImageError(
                f"{image.name!r} would have more than {image_layout.MOST_RUNS} runs of bytes"
            )
        self.disk.files = FrozenDict({**files, image.name: image})
