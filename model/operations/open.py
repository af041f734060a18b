# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening a node with its children, as blockdev-add does.

Options reach a node on three ways: given by the client, inherited from the parent
that opens the node inline, or by default. They stay in the node's ``options``; what
a later reopen may leave out is decided against these.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from model.data.image_access import content, read_header
from model.edits import block_backends
from model.edits.links import attach_child
from model.edits.users import remove_user
from model.graph.aio_contexts import drain, in_use, need_lock
from model.graph.driver import DRIVERS, Driver, FlatOptions, as_bool, as_string, driver_of
from model.graph.filenames import dirname, is_absolute
from model.graph.request_limits import take_limits
from model.graph.sizes import check_another_node
from model.graph.traversal import driver_at, filename_of, length_of, primary_child
from model.operations.node_options import DETECT_ZEROES, Flags, check_active, inherit_options
from model.permissions.refresh import refresh
from model.release.rules import Refusal, effect, guard, hazard, outside
from model.release.scope import leave_if_any
from model.values.image_layout import MAX_LENGTH
from model.values.qdict import clone, extract, flatten, in_order
from model.values.state import FrozenDict, Node, Perm, Role

if TYPE_CHECKING:
    from model.graph.transition import Transition

NAME_FORM = guard(
    "node-name.form",
    "A node name begins with a letter and has letters, digits, '-', '.' and '_'.",
    source="7.2; 5.2 words it otherwise",
    text="Invalid node-name: '{name}'",
)
NAME_TAKEN = guard(
    "node-name.taken",
    "Node names are unique.",
    source="7.2; 5.2 words it otherwise",
    text="Duplicate nodes with node-name='{name}'",
)
NAME_LONG = guard(
    "node-name.long",
    "A node name has at most 31 characters.",
    source="7.2",
    text="Node name too long",
)
NO_BACKING_FILES = guard(
    "open.no-backing-files",
    "Only a format that has backing files is opened with one.",
    source="7.2: a 'json:' name in an image meets an inline node of another driver",
    text="Driver doesn't support backing files",
)
OWN_BACKING = hazard(
    "hazard.own-backing",
    "An image is opened that has itself for a backing file.",
    source="7.2 opens it again and again",
)
ENDLESS_BACKING = guard(
    "open.own-backing",
    "No image is its own backing file.",
    source="our own: see hazard.own-backing",
    text="The backing files never end",
    unreachable="the daemon hangs there: see hazard.own-backing",
)
NO_NODE = guard(
    "node.unknown-reference",
    "A child that is given by reference exists.",
    source="7.2; 5.2 words it otherwise",
    text="Cannot find device='{device}' nor node-name='{node}'",
)
REFERENCE_OPTIONS = guard(
    "open.reference-with-options",
    "A reference comes without a file name or options.",
    source="7.2: a backing file name in the image meets an inline node with a referenced file",
    text="Cannot reference an existing block device with additional options or a new filename",
)
TWO_NAMES = guard(
    "open.two-filenames",
    "A file is named once.",
    source="7.2: a backing file name in the image meets an inline file",
    text="Can't specify 'file' and 'filename' options at the same time",
)
UNKNOWN_OPTION = guard(
    "open.unknown-option",
    "Every option is used up when a node has been opened.",
    source="7.2",
    text="Block {kind} support the option '{key}'",
)
FORCE_SHARE = guard(
    "open.force-share",
    "Only read-only nodes are shared by force.",
    source="7.2",
    text="force-share=on can only be used with read-only images",
)
NEEDS_FILENAME = guard(
    "open.needs-filename",
    "A file has a name.",
    source="7.2",
    text="The '{driver}' block driver requires a file name",
)
CHILD_MISSING = guard(
    "open.child-missing",
    "A required child is given.",
    source="7.2",
    text='A block device must be specified for "{name}"',
    unreachable="the schema requires every such child; only a json: backing file name gets there",
)
TOO_LARGE = guard(
    "open.too-large",
    "A node's length fits QEMU's limit.",
    source="7.2",
    text="Could not refresh total sector count: File too large",
)
UNMODELLED = outside(
    "open.unmodelled-driver",
    "The release has the driver, and so has the spec.",
    text="the block driver '{driver}' is not modelled",
)
UNMODELLED_PROTOCOL = outside(
    "open.unmodelled-protocol",
    "A file name asks for a driver that the spec has.",
    text="the protocol '{protocol}' in a file name is not modelled",
)
UNMODELLED_JSON = outside(
    "open.unmodelled-json",
    "What follows json: in a file name is JSON as everybody reads it.",
    text="this 'json:' file name is not modelled: {text}",
)
UNKNOWN_PROTOCOL = guard(
    "open.unknown-protocol",
    "The protocol before the colon of a file name exists.",
    source="7.2",
    text="Unknown protocol '{protocol}'",
    unreachable="only the backing file name of an image gets there, and none has a colon",
)
JSON_NAME = guard(
    "open.json-name",
    "A json: file name holds an object.",
    source="7.2; its parser says more about what is wrong",
    text="{text}",
    unreachable="only the backing file name of an image gets there, and none is so wrong",
)
NO_DIRECTORY = guard(
    "open.relative-backing",
    "A relative backing file name needs a directory to be relative to.",
    source="7.2",
    text="Cannot generate a base directory for {driver} nodes",
)
DEFAULT_BACKING = effect(
    "open.default-backing",
    "The backing file that the image names is opened unless the client says otherwise.",
    source="7.2; the letter calls it the default of 'backing'",
)
PROBED = effect(
    "open.probed",
    "The file of a node is held in its context until the node is open.",
    source="7.2: the block backend through which it is probed does not follow",
)
INHERITS_FROM = effect(
    "open.inherits-from",
    "A child that is opened inline inherits from its parent.",
    source="patch 6/13 (child references); 7.2",
)

PROTOCOLS = frozenset(
    {
        "dmg",
        "fat",
        "ftp",
        "ftps",
        "gluster",
        "gluster+rdma",
        "gluster+tcp",
        "gluster+unix",
        "host_cdrom",
        "host_device",
        "http",
        "https",
        "iscsi",
        "iser",
        "nbd",
        "nbd+tcp",
        "nbd+unix",
        "nbds",
        "nfs",
        "nvme",
        "rbd",
        "sheepdog",
        "sheepdog+tcp",
        "sheepdog+unix",
        "ssh",
        "vxhs",
        "zbd",
    }
)
"""What may stand before the colon of a file name in some build of some release."""

_JSON = "blockdev-add.json:"
_FLAGS = ("cache.direct", "cache.no-flush", "read-only", "auto-read-only")
_BOOLEANS = (*_FLAGS, "force-share", "active")
_WELL_FORMED = re.compile(r"[A-Za-z][A-Za-z0-9._-]*\Z")
_NAME_SIZE = 32


class Opening:
    """Opens nodes within one transition."""

    __slots__ = ("_overlays", "t")

    def __init__(self, t: Transition) -> None:
        self.t = t
        self._overlays: list[str] = []
        """The images whose own backing files are being opened."""

    def open_root(self, options: FlatOptions) -> str:
        """Open a node that no other node opens; returns its name."""
        for key in ("cache.direct", "cache.no-flush", "read-only"):
            options.setdefault(key, "off")
        return self._open(None, None, options, None, 0)

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
        filename = parsed.get(filename_key) if parsed and filename_key else None
        child = self._open_child_node(parent, name, options, role, filename)
        if child is None:
            if not optional:
                self.t.ev.refuse(CHILD_MISSING, name=name)
            return False
        self._attach(parent, name, child, role)
        return True

    def _attach(self, parent: str, name: str, child: str, role: int) -> None:
        t = self.t
        undo = t.undo()
        attach_child(t, parent, name, child, role, undo)
        try:
            refresh(t, [parent])
        except Refusal:
            undo.abort()
            raise

    def _open_child_node(
        self, parent: str, name: str, options: FlatOptions, role: int, filename: str | None
    ) -> str | None:
        rest, sub = extract(options, f"{name}.")
        if sub:
            options.clear()
            options.update(rest)
        reference = options.pop(name, None)
        if not filename and reference is None and not sub:
            return None
        return self._open(filename, reference, sub, parent, role)

    def _open(
        self,
        filename: str | None,
        reference: str | None,
        options: FlatOptions,
        parent: str | None,
        role: int,
    ) -> str:
        t, ev = self.t, self.t.ev
        if reference is not None:
            ev.check(REFERENCE_OPTIONS, not filename and not options)
            ev.check(NO_NODE, reference in t.nodes, device=reference, node=reference)
            return reference
        if parent is not None and filename and filename.startswith("json:"):
            for key, value in flatten(self._parse_json(filename)).items():
                options.setdefault(key, value)
            filename = None
        explicit = clone(options)
        if parent is not None:
            inherit_options(t, role, options, t.pending_options(parent))
        protocol = self._choose_protocol(filename, options, role)
        effective = options
        options = clone(effective)
        check_another_node(t)
        pending = t.begin_node(effective)
        no_backing = "backing" in options and options["backing"] in (None, "")
        if no_backing:
            for each in (explicit, effective, options):
                each.pop("backing", None)
        prober = None if protocol else self._open_file(pending, filename, options, effective)
        node = self._make_node(options, effective, parent)
        t.name_node(pending, node)
        driver_of(node.driver).open(self, node.name, options)
        take_limits(t, node.name)
        ev.check(TOO_LARGE, length_of(t, node.name) <= MAX_LENGTH)
        if prober is not None:
            drain(t, t.users[prober].links[0][1])
            remove_user(t, prober)
        if not no_backing:
            self._open_backing(node.name, options)
        self._settle(t.nodes[node.name], explicit, effective)
        if options:
            does_not = "protocol '{}' doesn't" if protocol else "format '{}' does not"
            kind = does_not.format(node.driver)
            ev.refuse(UNKNOWN_OPTION, kind=kind, key=in_order(options)[0])
        return node.name

    def _parse_json(self, filename: str) -> dict[str, Any]:
        ev = self.t.ev
        try:
            parsed = json.loads(filename.removeprefix("json:"))
        except (ValueError, RecursionError) as error:
            # QEMU reads more than Python does, and says more about what it does not read.
            ev.leave(UNMODELLED_JSON, _JSON, text=str(error))
        if not isinstance(parsed, dict):
            ev.refuse(JSON_NAME, text="Invalid JSON object given")
            return {}
        ev.accepted.add(JSON_NAME.id)
        odd = [key for key in _BOOLEANS if parsed.get(key, "on") not in (True, False, "on", "off")]
        if odd:
            ev.leave(UNMODELLED_JSON, _JSON, text=f"{odd[0]} is no boolean")
        return parsed

    def _protocol_of(self, filename: str) -> str:
        """The driver that a file name asks for by what stands before its first colon."""
        protocol, colon, _ = filename.partition(":")
        if not colon or "/" in protocol:
            return "file"
        if protocol in PROTOCOLS:
            subject = f"blockdev-add/{protocol}"
            self.t.ev.leave(UNMODELLED_PROTOCOL, subject, protocol=protocol)
        known = protocol in DRIVERS and driver_of(protocol).is_protocol
        self.t.ev.check(UNKNOWN_PROTOCOL, known, protocol=protocol)
        return protocol

    def _driver_for(self, name: Any) -> Driver:
        """The driver that options ask for."""
        if not isinstance(name, str) or name not in DRIVERS:
            self.t.ev.leave(UNMODELLED, f"blockdev-add/{name}", driver=name)
        return driver_of(name)

    def _choose_protocol(self, filename: str | None, options: FlatOptions, role: int) -> bool:
        """Fill in the generic options; returns whether the node is at the bottom of a tree."""
        probing = "driver" not in options
        if probing:
            # A file that is known by its name only: below a format node or a filter it is a
            # plain file, elsewhere it has to be opened to see what it is.
            protocol = bool(filename) and bool(role & (Role.METADATA | Role.FILTERED))
        else:
            protocol = self._driver_for(options["driver"]).is_protocol
        flags = Flags.of(options)
        options.setdefault("cache.direct", flags.no_cache)
        options.setdefault("cache.no-flush", flags.no_flush)
        options.setdefault("read-only", flags.read_only)
        options.setdefault("auto-read-only", flags.auto_read_only)
        if protocol and filename:
            self.t.ev.check(TWO_NAMES, "filename" not in options)
            options["filename"] = filename
            if probing:
                options["driver"] = self._protocol_of(filename)
            driver = driver_of(options["driver"])
            driver.parse_filename(self, filename, options)
            if not driver.needs_filename:
                options.pop("filename", None)
        return protocol

    def _open_file(
        self, pending: str, filename: str | None, options: FlatOptions, effective: FlatOptions
    ) -> str | None:
        """Open the file of a node that has no name yet, and probe its format if need be.

        Returns the key of the user through which the file is looked at, if it matters any more.
        """
        file = self._open_child_node(pending, "file", options, Role.IMAGE, filename)
        if file is None:
            return None
        prober = self._look_at(pending, file)
        options["file"] = file
        if "driver" not in options:
            need_lock(self.t, file)
            read_header(self.t, file)
            image = content(self.t, file)
            probed = image.format if image is not None else "raw"
            effective["driver"] = options["driver"] = probed
        return prober

    def _look_at(self, pending: str, file: str) -> str | None:
        """Use a file for a while, asking for nothing. Meanwhile it does not change its context."""
        t = self.t
        follows = not in_use(t) or not t.ev.holds(PROBED)
        if follows and not driver_at(t, file).minds_being_used:
            refresh(t, [file])
            return None
        context = t.nodes[file].context
        return block_backends.take(t, f"probe:{pending}", file, (0, Perm.ALL), context=context)

    def _make_node(self, options: FlatOptions, effective: FlatOptions, parent: str | None) -> Node:
        """Take the generic options out of ``options`` and make a node of them."""
        ev = self.t.ev
        driver = driver_of(options.pop("driver"))
        if not driver.watched.isdisjoint(options):
            leave_if_any(ev, driver.beyond(options))
        flags = Flags.of(options)
        for key in _FLAGS:
            options.pop(key, None)
        check_active(ev, options)
        force_share = as_bool(options.pop("force-share", False))
        ev.check(FORCE_SHARE, not force_share or flags.read_only)
        if driver.needs_filename:
            ev.check(NEEDS_FILENAME, options.get("filename"), driver=driver.name)
        unmap = options.pop("discard", "ignore") in ("unmap", "on")
        detect_zeroes = str(options.pop("detect-zeroes", "off"))
        ev.check(DETECT_ZEROES, detect_zeroes != "unmap" or unmap)
        return Node(
            self.name(options.pop("node-name", None)),
            driver.name,
            options=FrozenDict(effective),
            read_only=flags.read_only,
            auto_read_only=flags.auto_read_only,
            no_cache=flags.no_cache,
            no_flush=flags.no_flush,
            unmap=unmap,
            detect_zeroes=detect_zeroes,
            force_share=force_share,
            inherits_from=parent if parent is not None and ev.holds(INHERITS_FROM) else None,
        )

    def _settle(self, node: Node, explicit: FlatOptions, effective: FlatOptions) -> None:
        """Children are links, not options, once the node is open."""
        names = [link.name for link in node.children]
        if names:
            prefixes = tuple(f"{name}." for name in names)
            for options in (explicit, effective):
                for key in [k for k in options if k in names or k.startswith(prefixes)]:
                    del options[key]
        self.t.change(node.name, options=FrozenDict(effective), explicit=FrozenDict(explicit))

    def name(self, given: Any) -> str:
        """The name of a new node: the given one if it will do, or one that is made up."""
        t, ev = self.t, self.t.ev
        if given is None:
            t.serial += 1
            return f"#block{t.serial}"
        name = as_string(given)
        ev.check(NAME_FORM, _WELL_FORMED.match(name), name=name)
        ev.check(NAME_TAKEN, name not in t.nodes, name=name)
        ev.check(NAME_LONG, len(name) < _NAME_SIZE)
        return name

    def _open_backing(self, name: str, options: FlatOptions) -> None:
        t, ev = self.t, self.t.ev
        node = t.nodes[name]
        driver = driver_of(node.driver)
        rest, sub = extract(options, "backing.")
        # One from a file name of the form "json:" may be {}: neither a name nor options.
        reference = options.get("backing") or None
        filename = None
        implicit = False
        if reference is None and "file.filename" not in sub:
            if not node.backing_file and not sub:
                return
            if not sub:
                if not ev.holds(DEFAULT_BACKING):
                    return
                implicit = True
            filename = self._full_backing(node)
        ev.check(NO_BACKING_FILES, driver.supports_backing)
        if sub:
            options.clear()
            options.update(rest)
        if reference is None and node.backing_format:
            sub.setdefault("driver", node.backing_format)
        role = Role.FILTER if driver.is_filter else Role.COW
        image = content(t, primary_child(t, name)) if implicit else None
        if image is not None and image.name in self._overlays:
            ev.meet(OWN_BACKING)
        ev.check(ENDLESS_BACKING, image is None or image.name not in self._overlays)
        try:
            self._overlays.append("" if image is None else image.name)
            child = self._open(filename, reference, sub, name, role)
        except Refusal as refusal:
            raise refusal.prefixed("Could not open backing file: ") from None
        finally:
            self._overlays.pop()
        if implicit:
            t.change(name, auto_backing_file=filename_of(t, child))
        self._attach(name, "backing", child, role)
        take_limits(t, name)
        options.pop("backing", None)

    def _full_backing(self, node: Node) -> str | None:
        name = node.backing_file
        if not name or is_absolute(name):
            return name or None
        directory = dirname(self.t.nodes, node.name)
        if directory.refused_by is not None:
            self.t.ev.refuse(NO_DIRECTORY, driver=directory.refused_by)
        return directory.path + name
