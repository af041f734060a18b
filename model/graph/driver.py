# SPDX-License-Identifier: GPL-2.0-or-later
"""What every block driver can say of itself.

Introspection knows the names and types of options. What it does not say stands
here and in the modules beside: which options may change at run time, which
children a node has and in which roles, what it requires of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Protocol

from model.release.rules import effect, guard, outside
from model.release.scope import Outside, Scope, scope
from model.values.qdict import in_order
from model.values.state import EMPTY, Limits, Link, Node, Perm, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.graph.transition import Transition
    from model.release.rules import Evaluation

OptionKind = Literal["string", "bool", "number", "size"]
OptionKinds = dict[str, OptionKind]
FlatOptions = dict[str, Any]

EXACT_SIZES = effect(
    "options.exact-sizes",
    "Sizes in options are whole numbers of 63 bits.",
    source="6.0; before, they are read as floating-point numbers, of 53 bits",
)
SIZE_RANGE = guard(
    "options.size-range",
    "A driver's size option is not negative.",
    source="7.2: run-time options are parsed as unsigned sizes",
    text="Parameter '{key}' expects a non-negative number below 2^64",
)
UNREADABLE = outside(
    "options.unmodelled-value",
    "An option has a value of its kind; in a 'json:' file name it may be any.",
    text="the value {value!r} of the option '{key}' is not modelled",
)
ALWAYS_LOOKS = effect(
    "length.always-looks",
    "A raw, copy-on-read, compress or preallocate node looks at its file whenever it is asked for "
    "its length.",
    source="7.2; 10.0 does so only when such a node is opened, reopened or resized",
)


def sectors(size: int) -> int:
    """A length in bytes, rounded up to whole sectors of 512."""
    return -(-size // 512) * 512


def as_bool(value: Any) -> bool:
    """A boolean option, given as one or as QEMU's string for it."""
    return value is True or value == "on"


def as_string(value: Any) -> str:
    """What an option becomes when it passes through QEMU's option lists."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _as_number(ev: Evaluation, key: str, value: Any) -> int:
    """An option that is a number; only a "json:" name can have one that is none."""
    digits = isinstance(value, str) and value.isascii() and value.isdigit()
    if type(value) is not int and not digits:
        ev.leave(UNREADABLE, f"blockdev-add.{key}", key=key, value=value)
    return int(value)


def absorb(ev: Evaluation, options: FlatOptions, kinds: OptionKinds) -> FlatOptions:
    """Take the options of ``kinds`` out of ``options`` and return their parsed values.

    Sizes and numbers become integers, booleans become ``bool``. The first bad one in
    the dictionary's order is refused.
    """
    taken = {key: options.pop(key) for key in list(options) if key in kinds}
    negative = [k for k, v in taken.items() if kinds[k] == "size" and _as_number(ev, k, v) < 0]
    if negative:
        key = min(negative, key=in_order(taken).index)
        ev.refuse(SIZE_RANGE, key=key, value=taken[key])
    for key, value in taken.items():
        kind = kinds[key]
        if kind == "bool":
            if value not in (True, False, "on", "off"):
                ev.leave(UNREADABLE, f"blockdev-add.{key}", key=key, value=value)
            taken[key] = as_bool(value)
        elif kind == "string":
            taken[key] = as_string(value)
        else:
            ev.accepted.add(SIZE_RANGE.id)
            taken[key] = _as_number(ev, key, value)
            if taken[key] > _EXACT and kind == "size" and not ev.holds(EXACT_SIZES):
                taken[key] = int(float(taken[key]))
    return taken


_EXACT = 1 << 53
_READ, _WRITE, _UNCHANGED, _RESIZE, _GRAPH = 1, 2, 4, 8, 16
_PASSED = _READ | _WRITE | _UNCHANGED | _RESIZE
_ALL = Perm.ALL


def filter_permissions(perm: int, shared: int) -> tuple[int, int]:
    """A filter requires and shares what its parents do."""
    return perm & _PASSED, shared & _PASSED | _GRAPH


def cow_permissions(perm: int, shared: int) -> tuple[int, int]:
    """A backing file is read, and may change only if the overlay's users accept changes."""
    share = _READ | _UNCHANGED | _GRAPH
    if shared & _WRITE:
        share |= _WRITE | _RESIZE
    return perm & _READ, share


def storage_permissions(role: int, writable: bool, perm: int, shared: int) -> tuple[int, int]:
    """What a format node requires of the file it keeps data or metadata in."""
    perm, shared = filter_permissions(perm, shared)
    if role & Role.METADATA:
        if writable:
            perm |= _WRITE | _RESIZE
        perm |= _READ
        shared &= ~(_WRITE | _RESIZE)
    if role & Role.DATA:
        shared &= ~_RESIZE
        if perm & _UNCHANGED:
            perm |= _WRITE
        if perm & _WRITE:
            perm |= _RESIZE
    return perm, shared


def default_permissions(role: int, writable: bool, perm: int, shared: int) -> tuple[int, int]:
    """The permissions that a child's role asks for."""
    if role & Role.FILTERED:
        return filter_permissions(perm, shared)
    if role & Role.COW:
        return cow_permissions(perm, shared)
    return storage_permissions(role, writable, perm, shared)


class Opener(Protocol):
    """Who opens a node, as its driver sees them: whoever opens its children, too."""

    @property
    def t(self) -> Transition:
        """The transition in which the node is opened."""

    def open_child(
        self,
        parent: str,
        name: str,
        options: FlatOptions,
        role: int,
        filename_key: str | None = None,
        parsed: FlatOptions | None = None,
        *,
        optional: bool = False,
    ) -> bool:
        """Open the child that ``options`` describe under ``name`` and attach it.

        ``filename_key`` names an option in ``parsed`` that gives the child's file name.
        Returns False where an optional child was not given.
        """


class Driver(ABC):
    """A block driver. Instances hold no state: nodes do."""

    name: str
    is_format = False
    is_filter = False
    is_protocol = False
    supports_backing = False
    can_reopen = False
    variable_length = False
    """Whether the length is looked up whenever it is asked for."""
    hears_of_length = True
    """Whether the node gets the length of what it filters when that changes."""
    can_compress = False
    can_add_child = False
    needs_filename = False
    stops_slowly = False
    """Whether a drain has to wait for the driver, even where nothing is under way."""
    minds_permissions = False
    """Whether `lose` and `settle` do anything."""
    kinds: OptionKinds = {}
    mutable: frozenset[str] = frozenset()
    """Options that a reopen may omit although they are set."""
    strong: tuple[str, ...] = ()
    """Options that change what a guest reads; they show in a ``json:`` file name."""
    others: tuple[str, ...] = ()
    """The options that the driver takes besides ``kinds``, its children among them."""
    inert: Mapping[str, str] = EMPTY
    """Why some options change nothing that the spec shows."""
    outside: Mapping[str, Outside] = EMPTY
    """Options that the spec does not model, at all or in part."""
    watched: frozenset[str] = frozenset()
    """Those of them that are not to be given, or not with every value; see :meth:`beyond`."""

    def __init_subclass__(cls) -> None:
        """Work out what to watch for."""
        super().__init_subclass__()
        cls.watched = frozenset(name for name, each in cls.outside.items() if not each.when)

    @property
    def scope(self) -> Scope:
        """What the driver does with its options."""
        apart = {*self.inert, *self.outside}
        used = [name for name in (*self.kinds, *self.others) if name not in apart]
        return scope(*used, outside=self.outside, inert=self.inert)

    def beyond(self, options: Mapping[str, Any]) -> list[str]:
        """The entries for options that make a difference which the spec does not know."""
        return [
            f"blockdev-add/{self.name}.{key}"
            for key in in_order(options)
            if key in self.watched and self.outside[key].matters(options[key])
        ]

    # Opening and reopening

    @abstractmethod
    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Open the node's children and take the driver's options out of ``options``."""

    def parse_filename(self, opener: Opener, filename: str, options: FlatOptions) -> None:
        """Make options of a file name that stands in an image's metadata."""

    def prepare(self, t: Transition, node: Node, options: FlatOptions) -> Any:
        """Check the options of a reopen and take them out; returns the new private state."""
        return node.private

    def stop_writing(self, t: Transition, node: Node) -> None:
        """Write down what there is, since a reopen makes the node read-only."""

    def adopt(self, node: Node, prepared: Any) -> Any:
        """The private state when a reopen is carried out; ``node`` is as it is by now."""
        return prepared

    def shortened(self, t: Transition, node: Node) -> Any:
        """The private state once the driver has looked at the length of its file."""
        return node.private

    def moved(self, node: Node) -> Any:
        """The private state when the node comes to another context."""
        return node.private

    def sweeps(self, node: Node) -> bool:
        """Whether the driver is at work in the node's iothread by itself, now and then."""
        return False

    def reopened(self, t: Transition, before: Node, after: Node) -> None:
        """Notice that a reopen has made ``after`` of ``before``."""

    def join(self, options: FlatOptions, old: Mapping[str, Any]) -> None:
        """Keep of the ``old`` options those that ``options`` do not name."""
        for key in in_order(old):
            options.setdefault(key, old[key])

    # Graph

    def child_permissions(
        self,
        node: Node,
        role: int,
        writable: bool,
        perm: int,
        shared: int,
    ) -> tuple[int, int]:
        """``(required, shared)`` of a child, given what the node's users require and share."""
        return default_permissions(role, writable, perm, shared)

    def locks(self, node: Node) -> bool:
        """Whether the node locks a file on the host."""
        return False

    def probe(self, t: Transition, node: Node, *, direct: bool) -> None:
        """A reopen asks the file what requests it takes, to be ``direct`` or not."""

    def copies_locks(self, t: Transition) -> bool:
        """Whether a new descriptor has the locks of a node that does not lock."""
        return False

    def copy_locks(self, t: Transition, node: Node, grant: tuple[int, int]) -> None:
        """Take note of what a new descriptor has locked."""

    def copied_locks(self, node: Node) -> tuple[int, int] | None:
        """What a node that does not lock has locked nevertheless, as (required, shared)."""
        return None

    minds_being_used = False
    """Whether the permissions on its children depend on whether anybody uses the node."""

    def settled_for_good(self, node: Node) -> bool:
        """Whether what was settled stays when the command is refused afterwards."""
        return False

    def reads_badly(self, node: Node) -> bool:
        """Whether small reads of the node fail."""
        return False

    def holds(self, node: Node, other: str) -> bool:
        """Whether the node keeps ``other`` alive without being its parent."""
        return False

    def frozen_to(self, node: Node) -> str | None:
        """Down to which node this one has frozen the chain, if it has."""
        return None

    def held_by(self, node: Node) -> str | None:
        """The node that this one keeps alive without being its parent, if any."""
        return None

    def flush(self, t: Transition, node: Node) -> None:
        """Write down what is kept in a cache."""

    def lets_go(self, node: Node) -> tuple[tuple[Link, ...], ...]:
        """The children in the order in which a node that is closed lets go of them.

        None of a group is closed before the node has let go of all of them.
        """
        return (node.children,)

    def closed(self, t: Transition, node: Node) -> None:
        """Notice that the node is about to go."""

    # Observation

    def length(self, t: Transition, node: Node) -> int:
        """The length in bytes that the driver reports now."""
        return node.size

    def measure(self, t: Transition, node: Node) -> int:
        """The length in bytes as it is found when the driver looks again."""
        return node.size

    def grow(self, t: Transition, node: Node, length: int, first: int) -> int:
        """Notice writes up to ``length``; returns up to where the child is written then.

        The first of the writes went up to ``first``.
        """
        return length

    def follow(self, t: Transition, node: Node, *, opening: bool) -> None:
        """Something is to be read or written through the node, ``opening`` only to open it.

        Where the spec does not know what becomes of that, it ends here.
        """

    def wrote(self, t: Transition, node: Node) -> None:
        """Notice a write request, wherever it goes."""

    def truncated(self, t: Transition, node: Node, length: int) -> None:
        """Notice that the node was resized to ``length``."""

    def surplus(self, t: Transition, node: Node, length: int) -> int | None:
        """Where to cut off the child before it comes to ``length``, if that is to be."""
        return None

    def not_truncated(self, t: Transition, node: Node, *, invalid: bool) -> None:
        """Notice that the child refused its new length, as ``invalid`` or for another reason."""

    def lose(self, t: Transition, node: Node, perm: int) -> None:
        """Prepare for users that require no more than ``perm``."""

    def settle(self, t: Transition, node: Node, perm: int, *, reopening: bool) -> None:
        """Notice that ``perm`` is now what the node's users require.

        ``reopening``: the node is in a transaction that has still to be carried out.
        """

    def catch_up(self, t: Transition, node: Node) -> None:
        """Do what was put off (:meth:`model.graph.transition.Transition.put_off`)."""

    def alignment(self, t: Transition, node: Node) -> int:
        """The request alignment in bytes."""
        return 1

    def limit(self, node: Node, merged: Limits) -> Limits:
        """The limits of requests, given what the children make of them (``merged``)."""
        return merged

    def exact_filename(self, node: Node, full: dict[str, Any], child_names: dict[str, str]) -> str:
        """The plain file name of a driver that makes one up; "" if there is none."""
        return ""

    def primary(self, node: Node) -> Link | None:
        """The child that holds the data, as for ``bs->file``."""
        for link in node.children:
            if link.role & Role.PRIMARY:
                return link
        return None

    def written(self, node: Node) -> list[str]:
        """The children to which goes what is written."""
        primary = self.primary(node)
        return [] if primary is None else [primary.child]

    asks_below = False
    """Whether what the node does not know of its clusters is asked of its file."""

    def cluster_size(self, node: Node) -> int | None:
        """Bytes per cluster, 0 if it knows that it has none, None if it does not know."""
        return None

    def is_dirty(self, node: Node) -> bool:
        """Whether the image would have to be repaired if the node was lost now."""
        return False

    def can_resize(self, node: Node) -> bool:
        """Whether the node, or the child that holds its data, can get another size."""
        return self.is_filter

    def passes_through(self, node: Node) -> bool:
        """Whether the bytes of the primary child show unchanged."""
        return self.is_filter

    makes_filename = False
    """Whether `exact_filename` is this driver's own business."""

    borrows_filename = False
    """Whether a node goes by the name of the child that holds its data, of whatever kind."""


DRIVERS: dict[str, Driver] = {}
"""Every driver by name; filled when the package is imported."""


def register(driver: Driver) -> None:
    """Make a driver known."""
    DRIVERS[driver.name] = driver


def driver_of(name: str) -> Driver:
    """The driver called ``name``; it is known, since nodes of others are never opened."""
    return DRIVERS[name]
