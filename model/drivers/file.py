# SPDX-License-Identifier: GPL-2.0-or-later
"""Protocol drivers at the bottom of a graph: file, null-co, null-aio."""

from __future__ import annotations

from posixpath import normpath
from typing import TYPE_CHECKING, Any

import attrs

from model.graph.driver import Driver, FlatOptions, absorb, as_string, sectors
from model.permissions.grants import Permissions
from model.release.rules import effect, guard, hazard, outside
from model.release.scope import Outside
from model.values.private import FileState
from model.values.state import Perm

if TYPE_CHECKING:
    from model.graph.driver import Opener
    from model.graph.transition import Transition
    from model.values.state import Limits, Node

NO_FILE = guard(
    "file.missing",
    "A file that is opened exists.",
    source="7.2",
    text="Could not open '{path}': No such file or directory",
)
DIRECTORY = guard(
    "file.directory",
    "A directory cannot be opened to write.",
    source="7.2",
    text="Could not open '{path}': Is a directory",
)
DIRECTORY_DIRECT = guard(
    "file.directory-direct",
    "A directory cannot be opened for direct access.",
    source="7.2, on the file systems of Linux",
    text="Could not open '{path}': filesystem does not support O_DIRECT",
)
NOT_REGULAR = guard(
    "file.not-regular",
    "What is opened as a file is a regular file.",
    source="7.2",
    text="'file' driver requires '{path}' to be a regular file",
)
PR_MANAGER = guard(
    "file.pr-manager",
    "A persistent reservation manager is an object that exists.",
    source="7.2",
    text="No persistent reservation manager with id '{id}'",
)
NO_PR_MANAGER = guard(
    "file.no-pr-manager",
    "An object that is to manage persistent reservations does so; none of those is modelled.",
    source="7.2",
    text="Object with id '{id}' is not a persistent reservation manager",
    unreachable="the generator names no object that is there, nor a manager",
)
ELSEWHERE = outside(
    "file.elsewhere",
    "A file is one of the images, or lies beside them and does not exist.",
    text="the file {path!r}, which is none of the images, is not modelled",
)
IO_URING = outside(
    "file.io-uring",
    "A file is read and written by threads, or by Linux AIO.",
    text="a file node that uses io_uring is not modelled",
)
NATIVE_AIO = guard(
    "file.aio-native",
    "Linux AIO needs direct access to the file.",
    source="7.2",
    text="aio=native was specified, but it requires cache.direct=on, which was not specified.",
)


CLOSES_DESCRIPTOR = hazard(
    "hazard.pr-manager",
    "A file node is refused for its reservation manager.",
    source="5.2 to 11.1 close descriptor 0 then, which is the next file that is opened",
)


def _plain(path: str) -> str:
    """The shortest name of the same file, as far as names tell: "./sub//hd0" is "sub/hd0"."""
    return path if path.endswith("/") else normpath(path)


_LONGEST_NAME = 255
_LONGEST_PATH = 4095


def is_known(t: Transition, path: str) -> bool:
    """Whether the spec can tell what the host says of a path that leads to none of the images.

    It knows the directory that they lie in, and that nothing else is there.
    """
    if path in _DIRECTORIES or path in DEVICES:
        return True
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        return False
    raw = path.encode(errors="surrogatepass")
    if len(raw) > _LONGEST_PATH or any(len(part) > _LONGEST_NAME for part in raw.split(b"/")):
        return False
    plain = normpath(path)
    return not any(
        image == plain or image.startswith(f"{plain}/") or plain.startswith(f"{image}/")
        for image in t.images
    )


_SAFE_ALIGNMENT = 4096
DEVICES = frozenset({"/dev/null", "/dev/zero"})
_DIRECTORIES = frozenset({".", "..", "/", "./"})
"""Names that are directories wherever the images lie."""


COPIES_LOCKS = effect(
    "file.copies-locks",
    "A new descriptor gets the locks that its node's users ask for, even where locking is off.",
    source="5.2",
)
TAKES_DEVICES = effect(
    "file.takes-devices",
    "A character device is as good as a regular file.",
    source="5.2, which warns of it",
)
FIRST_ACCESS = effect(
    "file.first-access",
    "Whether requests have to be aligned is decided when the file is opened, once and for all.",
    source="5.2",
)
FORGETS_ACCESS = effect(
    "file.forgets-access",
    "A reopen that needs no new descriptor forgets how the old one was opened; a node that "
    "becomes read-only without direct access then goes on with what it has.",
    source="7.2, seen by reads that fail",
)

ASKS_HOST = effect(
    "file.asks-host",
    "The alignment of direct access is what the host says of a file, however that is open.",
    source="11.1; before, it is tried out",
)


class File(Driver):
    """A regular file on the host."""

    name = "file"
    is_protocol = True
    can_reopen = True
    needs_filename = True
    minds_permissions = True
    mutable = frozenset({"x-check-cache-dropped"})
    changes = frozenset({"drop-cache", "x-check-cache-dropped"})
    """Options that the driver can give another value."""
    inert = {
        "aio-max-batch": "how many requests go to the host at once does not change what they do",
        "drop-cache": "it is about the host's cache when a guest moves to another host",
        "x-check-cache-dropped": "it is about the host's cache when a guest moves to another host",
    }
    outside = {
        "aio": Outside(
            "io_uring: hosts differ in whether they have it",
            when="a file is opened with io_uring",
        )
    }
    kinds = {
        "filename": "string",
        "aio": "string",
        "aio-max-batch": "number",
        "locking": "string",
        "pr-manager": "string",
        "drop-cache": "bool",
        "x-check-cache-dropped": "bool",
    }

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Open the file; its length is rounded up to whole sectors."""
        t, ev = opener.t, opener.t.ev
        own = absorb(ev, options, self.kinds)
        node = t.nodes[name]
        if "pr-manager" in own:
            ev.meet(CLOSES_DESCRIPTOR)
            ev.check(PR_MANAGER, own["pr-manager"] in t.objects, id=own["pr-manager"])
            ev.refuse(NO_PR_MANAGER, id=own["pr-manager"])
        path = own["filename"]
        image = t.images.get(path) or t.images.get(_plain(path))
        if image is None and not is_known(t, path):
            ev.leave(ELSEWHERE, "blockdev-add/file.filename", path=path)
        if own.get("aio") == "io_uring":
            ev.leave(IO_URING, "blockdev-add/file.aio")
        if path in _DIRECTORIES or path in DEVICES:
            writes = path in _DIRECTORIES and not (node.read_only or node.auto_read_only)
            ev.check(DIRECTORY, not writes, path=path)
            ev.check(DIRECTORY_DIRECT, not node.no_cache, path=path)
            ev.check(NATIVE_AIO, own.get("aio") != "native")
            if path in _DIRECTORIES or not ev.holds(TAKES_DEVICES):
                ev.refuse(NOT_REGULAR, path=path)
        if image is None and path in DEVICES:
            length = 0
        elif image is None:
            ev.refuse(NO_FILE, path=path)
            length = 0
        else:
            ev.accepted.add(NO_FILE.id)
            length = image.length
        ev.check(NATIVE_AIO, own.get("aio") != "native" or node.no_cache)
        t.change(
            name,
            size=sectors(length),
            filename=path if image is None else image.name,
            private=FileState(
                own.get("locking") != "off",
                node.no_cache,
                _access(node, 0)[0],
                alignment=t.before.direct_alignment if node.no_cache else 1,
                aligns=node.no_cache if ev.holds(FIRST_ACCESS) else None,
            ),
        )

    def measure(self, t: Transition, node: Node) -> int:
        """That of the file, which may have become longer or shorter otherwise."""
        image = t.images.get(node.filename)
        return node.size if image is None else image.length

    def parse_filename(self, opener: Opener, filename: str, options: FlatOptions) -> None:
        """``file:`` before a name is not part of it."""
        if filename.startswith("file:"):
            options["filename"] = filename[len("file:") :]

    def prepare(self, t: Transition, node: Node, options: FlatOptions) -> Any:
        """Two options are the driver's to change; the rest become strings and must stay."""
        own = {key: options.pop(key) for key in list(options) if key in self.kinds}
        for key, value in own.items():
            if key not in self.changes:
                options[key] = as_string(value)
        return node.private

    def probe(self, t: Transition, node: Node, *, direct: bool) -> None:
        """Where it is the new descriptor that is asked, the answer stays whatever comes of it."""
        state: FileState = node.private
        t.ev.check(DIRECTORY_DIRECT, not direct or node.filename not in DEVICES, path=node.filename)
        if state.aligns:
            alignment = t.before.direct_alignment if direct else _SAFE_ALIGNMENT
            t.change(node.name, private=attrs.evolve(state, alignment=alignment))

    def reopened(self, t: Transition, before: Node, after: Node) -> None:
        """A reopen that needs no new descriptor forgets how the old one was opened."""
        state: FileState = t.nodes[after.name].private
        if state.copied is not None:
            writes = _access(after, Permissions(t.nodes, {}).cumulative(after.name)[0])[0]
            state = attrs.evolve(state, writes=writes)
            t.change(after.name, private=state)
        if not (state.direct or after.no_cache or state.aligns):
            return
        perm, _ = Permissions(t.nodes, {}).cumulative(after.name)
        wanted = _access(after, perm)
        known = (False, False) if state.forgotten else _access(before, perm)
        kept = wanted == known and t.ev.holds(FORGETS_ACCESS)
        direct = state.direct if kept else after.no_cache
        # The alignment is probed on the old descriptor; one without direct access tells nothing.
        told = state.direct or t.ev.holds(ASKS_HOST)
        found = t.before.direct_alignment if told else _SAFE_ALIGNMENT
        if state.aligns is not None:
            found = t.before.direct_alignment if after.no_cache else _SAFE_ALIGNMENT
        aligned = after.no_cache if state.aligns is None else state.aligns
        private = attrs.evolve(
            state,
            direct=direct,
            writes=wanted[0],
            forgotten=kept,
            alignment=found if aligned else 1,
        )
        t.change(after.name, private=private)

    def adopt(self, node: Node, prepared: Any) -> Any:
        """How the file is open is settled apart."""
        return node.private

    def settle(self, t: Transition, node: Node, perm: int, *, reopening: bool) -> None:
        """What the file's users require may ask for another descriptor, which is probed anew."""
        state: FileState = node.private
        changes = not reopening and state.writes != _access(node, perm)[0]
        if changes and not state.locking and self.copies_locks(t):
            self.copy_locks(t, node, Permissions(t.nodes, {}).cumulative(node.name))
            state = attrs.evolve(t.nodes[node.name].private, writes=_access(node, perm)[0])
            t.change(node.name, private=state)
        if reopening or not (state.direct or state.forgotten):
            return
        wanted = _access(node, perm)
        known = (False, False) if state.forgotten else (state.writes, state.direct)
        if wanted != known and state.aligns is None:
            private = attrs.evolve(
                state,
                direct=node.no_cache,
                writes=wanted[0],
                forgotten=False,
                alignment=t.before.direct_alignment if node.no_cache else 1,
            )
            t.change(node.name, private=private)

    def copy_locks(self, t: Transition, node: Node, grant: tuple[int, int]) -> None:
        """The node has got another descriptor."""
        t.change(node.name, private=attrs.evolve(node.private, copied=grant))

    def can_resize(self, node: Node) -> bool:
        """A file can."""
        return True

    def reads_badly(self, node: Node) -> bool:
        """Whether small reads fail, since the file is open directly and nobody knows."""
        state: FileState = node.private
        return state.direct and not (node.no_cache if state.aligns is None else state.aligns)

    def settled_for_good(self, node: Node) -> bool:
        """A descriptor stays open."""
        return True

    def locks(self, node: Node) -> bool:
        """Unless ``locking`` is off."""
        return isinstance(node.private, FileState) and node.private.locking

    def copies_locks(self, t: Transition) -> bool:
        """Some releases forget to ask."""
        return t.ev.holds(COPIES_LOCKS)

    def copied_locks(self, node: Node) -> tuple[int, int] | None:
        """Locks from a descriptor before."""
        return node.private.copied if isinstance(node.private, FileState) else None

    def cluster_size(self, node: Node) -> int:
        """None, and it knows."""
        return 0

    def alignment(self, t: Transition, node: Node) -> int:
        """Direct access goes by what the host's file system asks for."""
        state: FileState = node.private
        return state.alignment

    def limit(self, node: Node, merged: Limits) -> Limits:
        """Buffers lie as requests do."""
        state: FileState = node.private
        return merged._replace(memory=state.alignment)


def _access(node: Node, perm: int) -> tuple[bool, bool]:
    """Whether the node's file is to be open for writing, and directly."""
    writes = bool(perm & ~Perm.CONSISTENT_READ) if node.auto_read_only else not node.read_only
    return writes, node.no_cache
