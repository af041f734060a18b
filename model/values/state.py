# SPDX-License-Identifier: GPL-2.0-or-later
"""The block graph as a value.

A :class:`BlockState` holds what a storage daemon holds between two commands:
nodes with their child links, objects, and the image files that lie on disk.
Everything that follows from these (permissions, blocked operations, file names,
reference counts) is derived by pure functions elsewhere and is not stored twice.

Order is state too. QEMU keeps the children of a node and its parents in lists
with the newest first, a failed command may leave them in another order, and the
order decides which of several errors a client reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import networkx as nx

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """A dictionary that can be hashed and not changed; equal whatever its insertion order."""

    __slots__ = ("_hash",)

    _hash: int

    def __hash__(self) -> int:  # type: ignore[override]  # dict sets it to None
        try:
            return self._hash
        except AttributeError:
            self._hash = hash(frozenset(self.items()))
            return self._hash

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("a block state is immutable; make a new one")

    __setitem__ = __delitem__ = _refuse
    clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenDict, (dict(self),))


Options = FrozenDict[str, Any]
"""Flat options as QEMU's dictionary has them: ``{"cache.direct": False, "cache-size": 4096}``."""

EMPTY: FrozenDict[Any, Any] = FrozenDict()


class Role:
    """What a child is to its parent (``BdrvChildRole``): plain integers, since these are hot."""

    DATA = 1
    METADATA = 2
    FILTERED = 4
    COW = 8
    PRIMARY = 16
    IMAGE = DATA | METADATA | PRIMARY
    FILTER = FILTERED | PRIMARY


class Perm:
    """Permissions on a node (``BLK_PERM_*``)."""

    CONSISTENT_READ = 1
    WRITE = 2
    WRITE_UNCHANGED = 4
    RESIZE = 8
    GRAPH_MOD = 16
    ALL = 31


UNNAMED = "an unnamed block device"
"""What error texts call a block backend."""

Grant = tuple[int, int]
"""``(required, shared)`` as sums of :class:`Perm`."""

LinkKey = tuple[str, str]
"""A link is known by its parent's node name and the name of the child."""


class Use(NamedTuple):
    """A parent of a node that is no node itself: what one user of the graph holds on to.

    ``user`` is the user's key in :attr:`BlockState.users` and ``name`` that of the link, both as
    in a :data:`LinkKey`. ``perm`` and ``shared`` are sums of :class:`Perm`; nobody derives them.
    A link that ``stays`` does not follow when its node is replaced. ``description`` is what
    error texts call the user.
    """

    user: str
    name: str
    perm: int
    shared: int
    stays: bool
    description: str

    @property
    def label(self) -> str:
        """The name as QEMU has it: a job calls several of its links the same."""
        return self.name.partition("#")[0]


class Limits(NamedTuple):
    """What a node says of requests, in bytes; 0 where it says nothing.

    ``discard`` and ``zeroes`` are alignments, and so is ``memory``, that of buffers. ``transfer``,
    ``most_discard`` and ``most_zeroes`` are the most that a request may ask for.
    """

    discard: int = 0
    transfer: int = 0
    memory: int = 512
    zeroes: int = 0
    most_discard: int = 0
    most_zeroes: int = 0


NO_LIMITS = Limits()


@attrs.frozen
class Link:
    """An edge of the graph, held in its parent's ``children``.

    ``frozen`` counts who has frozen it, which in a dialect where that is a flag is never above one.
    ``kept`` is what the parent goes on requiring and sharing (sums of :class:`Perm`) where
    QEMU did not work that out anew, and None where it did.
    """

    parent: str
    name: str
    child: str
    role: int
    frozen: int = 0
    kept: tuple[int, int] | None = None

    @property
    def key(self) -> LinkKey:
        """The pair that names this link in its child's ``parents``."""
        return (self.parent, self.name)


class Bitmap(NamedTuple):
    """A note of the parts of a node that somebody has still to see to.

    ``dirty`` are sorted, disjoint ranges ``(start, end)`` of bytes, whole multiples of
    ``granularity``. What is written to the node is noted down where the bitmap is ``recording``.
    ``owner`` is the key of the user, or the name of the filter, that it belongs to.
    """

    owner: str
    granularity: int
    recording: bool
    dirty: tuple[tuple[int, int], ...] = ()


@attrs.frozen(slots=False)
class Node:
    """An open block node.

    ``options`` are the effective options and ``explicit`` those that a client
    gave; both are flat and without children. ``children`` and ``parents`` have
    the newest first. ``size`` is the length in bytes that the driver last
    reported; drivers of variable length ask their file instead. ``filename`` is the name of the
    image file that the node has open. ``private`` is the driver's own state. ``context`` is the
    iothread that the node lives in, "" for the main loop. Links to a node that is ``never_frozen``
    (the filter of a job) cannot be frozen. ``bitmaps`` have the newest first. What is read through
    a node that ``copies_on_read`` it gets for itself. ``limits`` are kept only where a dialect
    shows them.
    """

    name: str
    driver: str
    options: Options = EMPTY
    explicit: Options = EMPTY
    read_only: bool = False
    auto_read_only: bool = False
    no_cache: bool = False
    no_flush: bool = False
    unmap: bool = False
    detect_zeroes: str = "off"
    force_share: bool = False
    inherits_from: str | None = None
    implicit: bool = False
    monitor_owned: bool = False
    children: tuple[Link, ...] = ()
    parents: tuple[LinkKey | Use, ...] = ()
    context: str = ""
    never_frozen: bool = False
    size: int = 0
    filename: str = ""
    backing_file: str = ""
    backing_format: str = ""
    auto_backing_file: str = ""
    bitmaps: tuple[Bitmap, ...] = ()
    copies_on_read: bool = False
    private: Any = None
    limits: Limits = NO_LIMITS

    def link(self, name: str) -> Link | None:
        """The child link called ``name``, or None."""
        for link in self.children:
            if link.name == name:
                return link
        return None


def changed(node: Node, changes: dict[str, Any]) -> Node:
    """``attrs.evolve`` for nodes at a tenth of the price: every step of the spec makes some."""
    new = object.__new__(Node)
    new.__dict__.update(node.__dict__)
    new.__dict__.update(changes)
    return new


@attrs.frozen
class Image:
    """An image file on disk, coarsely: enough for what a guest reads through any chain.

    ``size`` is the virtual size and ``length`` that of the file itself, both in bytes.
    A qcow2 image has allocated the first ``clusters`` clusters but for those in ``free``:
    an L1 table of ``l1_entries``, the L2 tables ``l2_tables`` and the clusters ``data`` of a
    guest, which map an index to the cluster of the file where it lies; those in ``zeroed`` are
    marked as zeroes all the same. While a node is at work on it, ``search`` is the cluster from
    which on the node looks for free ones.
    A ``dirty`` one has refcounts that are not written down.
    ``extents`` are sorted, disjoint ``(start, end, value)`` runs of one byte value;
    what they leave out was never written (and reads from the backing file). A value of -1 stands
    for bytes that nobody knows (:data:`model.values.image_layout.UNKNOWN`).
    """

    name: str
    format: str
    size: int
    length: int
    backing: str | None = None
    backing_format: str | None = None
    extents: tuple[tuple[int, int, int], ...] = ()
    clusters: int = 0
    free: frozenset[int] = frozenset()
    l1_first: int = 0
    l1_entries: int = 0
    l2_tables: FrozenDict[int, int] = EMPTY
    data: FrozenDict[int, int] = EMPTY
    zeroed: frozenset[int] = frozenset()
    room: bool = False
    scattered: bool = False
    unsure: bool = False
    dirty: bool = False
    search: int = 0

    @property
    def l1_clusters(self) -> range:
        """The clusters of a qcow2 image's L1 table."""
        return range(self.l1_first, self.l1_first + -(-self.l1_entries * 8 // 65536))


@attrs.frozen
class ThrottleGroup:
    """A ``throttle-group`` object with its limits as given."""

    id: str
    limits: FrozenDict[str, Any] = EMPTY


@attrs.frozen
class IOThread:
    """An ``iothread`` object."""

    id: str


Object = ThrottleGroup | IOThread


@attrs.frozen
class User:
    """Somebody outside of the graph who holds on to nodes: a job, or a block backend.

    ``kind`` and ``name`` are those of x-debug-query-block-graph. ``links`` are pairs of the name
    of the link and the node that it leads to, newest first. ``context`` is the iothread that it
    works in ("" for the main loop); ``follows`` says whether it moves to another one with its node.
    """

    key: str
    kind: str
    name: str
    links: tuple[tuple[str, str], ...] = ()
    context: str = ""
    follows: bool = True


@attrs.frozen
class Job:
    """A background job on the block graph.

    ``type`` names the kind of job, ``status`` the state that a client sees when the job has come to
    rest. ``current`` and ``total`` are its progress in bytes. ``error`` is why it fails.
    ``complete`` says that it was asked to end, ``cancelled`` that it was asked to stop,
    ``forced`` that it must not finish its work before. ``replacing`` is the node that a job which
    was asked to end will replace, if a client named one. ``asleep``: the bytes after which a job of
    a limited speed went to sleep, 0 unless it sleeps. ``paused_in``: the iothread in which it was
    when it paused, "" unless it is paused. ``backend`` is the key of the block backend through
    which it uses its main node, where it has one. ``body`` is what its kind remembers.
    """

    id: str
    type: str
    status: str = "created"
    auto_finalize: bool = True
    auto_dismiss: bool = True
    speed: int = 0
    paused: bool = False
    io_status: str = "ok"
    current: int = 0
    total: int = 0
    error: str | None = None
    complete: bool = False
    cancelled: bool = False
    forced: bool = False
    replacing: str | None = None
    asleep: int = 0
    paused_in: str = ""
    backend: str | None = None
    body: Any = None

    @property
    def user(self) -> str:
        """The key of the job among the users of the graph."""
        return f"job:{self.id}"

    @property
    def works(self) -> bool:
        """Whether the job has something to do, or waits for it, and would have to pause first."""
        return self.status in ("running", "ready") and not self.paused


@attrs.frozen
class Export:
    """An NBD export. ``user`` is the key of its block backend, ``export_name`` what clients see."""

    id: str
    user: str
    export_name: str
    type: str = "nbd"


@attrs.frozen
class Device:
    """A device of the machine. ``user`` is the key of its block backend, if it has a node.

    ``controller`` is the device whose bus it hangs on, "" for the root bus. ``iothread`` is the
    one that it asked for, "" for the main loop. It is ``unplugging`` when a client wants it gone.
    """

    id: str
    driver: str
    controller: str = ""
    user: str | None = None
    iothread: str = ""
    unplugging: bool = False


@attrs.frozen
class BlockState:
    """Everything a storage daemon and its disk hold between two commands.

    ``nodes`` are in the order of their creation. ``serial`` counts the names that
    were generated; a real QEMU adds two random digits to it, so generated names
    compare equal up to renaming only. ``direct_alignment`` is what the host's file system asks
    of direct access, in bytes. ``users``, ``jobs`` and ``exports`` are oldest first, by their keys;
    ``nbd_server`` is the path of the socket that the NBD server listens on, None if there is none.
    ``devices`` are those of the machine, oldest first; a storage daemon has none.
    """

    nodes: FrozenDict[str, Node] = EMPTY
    objects: FrozenDict[str, Object] = EMPTY
    images: FrozenDict[str, Image] = EMPTY
    serial: int = 0
    direct_alignment: int = 512
    users: FrozenDict[str, User] = EMPTY
    jobs: FrozenDict[str, Job] = EMPTY
    exports: FrozenDict[str, Export] = EMPTY
    nbd_server: str | None = None
    devices: FrozenDict[str, Device] = EMPTY

    def links(self) -> Iterator[Link]:
        """Every link of the graph, parents in the order of the nodes."""
        for node in self.nodes.values():
            yield from node.children

    def to_networkx(self) -> nx.MultiDiGraph:
        """The graph as a read-only view: nodes carry ``node``, edges ``link`` (key: child name)."""
        import networkx as nx  # noqa: PLC0415  # takes longer to load than the whole spec

        graph = nx.MultiDiGraph()
        for node in self.nodes.values():
            graph.add_node(node.name, node=node)
        for link in self.links():
            graph.add_edge(link.parent, link.child, key=link.name, link=link)
        return nx.freeze(graph)
