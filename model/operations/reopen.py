# SPDX-License-Identifier: GPL-2.0-or-later
"""The reopen transaction: queue, prepare, commit or abort, over one or many nodes.

*Queue*: each node that a client names, then the children that inherited their options
from it, newest first. *Prepare*, per node: generic options, the driver's own, the links
to `backing` and `file`, and at last everything that must not have changed. Then the
permissions of all nodes at once, and either everything or nothing.

Source: patches 5 to 10 of the 2019 series; 6.1 for the list of nodes and for `file`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.data.image_access import FOREIGN_FILE
from model.data.length import flush
from model.edits.links import (
    CYCLE,
    attach_child,
    drop_link,
    is_heir,
    remove_child,
    set_inherits,
    unset_inherits,
)
from model.graph.aio_contexts import (
    can_join,
    drivers_stop_slowly,
    in_use,
    jobs_stop,
    locked,
    need_lock,
)
from model.graph.driver import FlatOptions, driver_of, sectors
from model.graph.request_limits import take_limits
from model.graph.traversal import above, link_below, reaches, shares_below, topological
from model.operations.node_options import Flags, inherit_options
from model.operations.reopen_options import check_omitted, check_unchanged, discards, take_generic
from model.permissions.check_update import Descent
from model.permissions.refresh import refresh, settle
from model.release.rules import Refusal, effect, guard, hazard
from model.values.qdict import clone, extract
from model.values.state import FrozenDict, Link, Node, Role

if TYPE_CHECKING:
    from model.graph.transition import Transition, Undo

BACKING_MISSING = guard(
    "reopen.backing-missing",
    "The backing file is given unless there is none, neither open nor in the image.",
    source="patch 7/13 (allow omitting 'backing' in certain cases)",
    text="backing is missing for '{node}'",
)
NO_CHILD = guard(
    "reopen.unknown-child",
    "The new child is a node that exists.",
    source="patch 8/13; 7.2",
    text="Cannot find device='' nor node-name='{node}'",
)
COPIES_ON_READ = guard(
    "reopen.copies-on-read",
    "A node that copies what is read through it does not become read-only.",
    source="5.2: a stream of a whole chain lets its node copy so",
    text="Can't set node '{node}' to r/o with copy-on-read enabled",
)
IMPLICIT = guard(
    "reopen.implicit-child",
    "A child that a job put there is not replaced by a client.",
    source="patch 8/13",
    text="Cannot replace implicit {name} child of {node}",
    unreachable="only jobs make implicit nodes",
)
FILTER_CHILD = guard(
    "reopen.filter-child",
    "A filter keeps the one kind of child that it has.",
    source="5.2",
    text="'{node}' is a {driver} filter node that does not support a {name} child",
)
NO_BACKING_FILES = guard(
    "reopen.backing-unsupported",
    "Only some formats have backing files.",
    source="patch 8/13; a client gets there with another driver's options",
    text="Driver '{driver}' of node '{node}' does not support backing files",
)
NO_FILE_CHILD = guard(
    "reopen.no-file-child",
    "Only a node that has a file can have another one.",
    source="6.1; a client gets there with another driver's options",
    text="Cannot set file child to format node without file child",
)
FROZEN = guard(
    "reopen.frozen",
    "A frozen link is not changed.",
    source="patch 1/13",
    text="Cannot change frozen '{name}' link from '{parent}' to '{child}'",
)
SAME_CONTEXT = guard(
    "reopen.same-context",
    "A new backing file lives in the AioContext of its overlay already; nobody is moved.",
    source="patch 8/13 (the letter: forbid setting a new backing file with a different AioContext);"
    " worded as QEMU did until early 2020; 5.2 moves one of the two",
    text="Cannot use a new backing file with a different AioContext",
)
KEEPS_OLD = effect(
    "reopen.keep-old",
    "What QEMU reopens for itself keeps the options that it does not name.",
    source="patch 5/13 (keep_old_opts)",
)
NEWEST_FIRST = effect(
    "reopen.children-newest-first",
    "The children of a node are queued newest first.",
    source="7.2",
)
STAYS_DRAINED = hazard(
    "hazard.stays-drained",
    "A list reaches the same node twice, by its name or as a child.",
    source="10.0 drains it twice and ends that once: a job or guest that gets there waits for ever",
)
LAST_REFUSES = effect(
    "reopen.last-refuses",
    "Of several nodes whose permissions do not fit, the last of the list is told.",
    source="7.2; 10.0 tells the first",
)
LENGTH_AGAIN = effect(
    "reopen.length-again",
    "A node that was reopened looks at its length again.",
    source="10.0",
)
FORGETS_BACKING = effect(
    "reopen.forgets-backing",
    "What a reopen says of the backing file is no option of the node afterwards.",
    source="6.1; before, a null that changed nothing stays, and must be given again from then on",
)
FILE_TOO = effect(
    "reopen.file-too",
    "Not only the backing file of a node may be replaced, its file may be, too.",
    source="6.1",
)
LINKS_FIRST = effect(
    "reopen.links-first",
    "New links are made before permissions are checked, and taken back where those do not fit.",
    source="6.1; before, a new backing file is asked first and attached when all is settled",
)
DESCRIPTOR_CLOSED = hazard(
    "hazard.descriptor-closed",
    "A file node is reopened together with nodes above it, of which one loses its backing file, or "
    "may not have what the permissions are to be.",
    source="5.2 goes on with a descriptor that is closed by then, or another file's",
)
QUEUE_CHILDREN = effect(
    "reopen.queue-children",
    "Children that inherit their options are reopened with their parent.",
    source="before the series; patch 6/13",
)
REFERENCE_KEEPS = effect(
    "reopen.reference-keeps",
    "A reference to the present child keeps the child's own options.",
    source="patch 6/13 (handle child references)",
)
OTHER_CHILD_SKIPPED = effect(
    "reopen.other-child-skipped",
    "A child that is to be removed or replaced is not reopened.",
    source="patch 6/13",
)
LAST_WINS = effect(
    "reopen.same-node-twice",
    "A node that is named twice is reopened once, the later options over the earlier.",
    source="7.2; qemu-facts: accepted on 7.2, 10.0 and 11.1",
)
DISCARD_STAYS = effect(
    "reopen.discard-stays",
    "A root node whose discard option is omitted goes on discarding as before.",
    source="7.2: seen by what detect-zeroes=unmap accepts",
)
SAME_CHILD = effect(
    "reopen.same-child",
    "Naming the present child again changes nothing.",
    source="patch 8/13",
)
REFRESH_ONCE = effect(
    "reopen.refresh-all",
    "The permissions of all nodes of a transaction, and of the children they lose, are checked "
    "together.",
    source="7.2; 5.2 checks each entry",
)
TAKE_OPTIONS = effect(
    "reopen.take-options",
    "After a reopen a node's options are those that were given or inherited, and no others.",
    source="the letter, point b: a missing option goes back to its default",
)
DETECT_ZEROES_DEFAULT = effect(
    "reopen.detect-zeroes-default",
    "An omitted detect-zeroes goes back to off.",
    source="the letter, point b",
)
RELEASE_CHILD = effect(
    "reopen.release-child",
    "A child that lost its last user is closed.",
    source="patch 8/13",
)
INHERIT_AGAIN = effect(
    "reopen.inherit",
    "A child that is reopened with its parent inherits what it is not given.",
    source="before the series",
)
ROOT_INHERITS_NOTHING = effect(
    "reopen.unset-inherits",
    "A child that is taken away no longer inherits from its old parent.",
    source="patch 8/13",
)
OMISSION_KEEPS = effect(
    "proposal.omission-keeps",
    "An option that is left out stays as it is.",
    source="Eric Blake and Vladimir Sementsov-Ogievskiy, January 2019; no release does so",
)
NULL_RESETS = effect(
    "proposal.null-resets",
    "An option that is null takes its default; but a backing file that is null is detached.",
    source="Eric Blake, January 2019; no release does so",
)
OMITTED_DETACHES = effect(
    "proposal.omitted-backing-detaches",
    "A backing file that is left out is detached.",
    source="Vladimir Sementsov-Ogievskiy, January 2019; no release does so",
)

LOST_NODE = hazard(
    "hazard.lost-node",
    "A node is reopened by the very transaction that takes it away from all that the client named.",
    source="7.2 ends with an assertion, or uses the node after it has freed it",
)
SHARED_BELOW = hazard(
    "hazard.shared-below",
    "A child is changed, by a reopen or by a stream job that ends, where a node below is reached "
    "in two ways, before or after.",
    source="7.2 ends with an assertion when it ends the drain of the subtree",
)


@attrs.define
class Entry:
    """A node in the queue and what is to become of it."""

    node: str
    options: FlatOptions
    explicit: FlatOptions
    flags: Flags
    unmap: bool
    backing_missing: bool = False
    detect_zeroes: str = "off"
    private: Any = None
    old_children: list[str] = attrs.Factory(list)
    new_file: bool = False
    new_backing: tuple[Link | None, str | None] | None = None
    """The link that is to go, and the node that is to come, where that is done at last."""


class Reopening:
    """One transaction."""

    __slots__ = ("named", "queue", "t")

    def __init__(self, t: Transition) -> None:
        self.t = t
        self.named: list[str] = []
        self.queue: dict[str, Entry] = {}

    # Queue

    def add(self, name: str, options: FlatOptions, *, keep_old: bool) -> None:
        """Queue a node and the children that inherit from it.

        With ``keep_old``, options that are not given keep their values: QEMU's own
        way of reopening a node, for a job or a snapshot.
        """
        keep_old = keep_old and self.t.ev.holds(KEEPS_OLD)
        self.named.append(name)
        self._add(name, options, keep_old=keep_old, parent=None, role=0)

    def _add(
        self, name: str, options: FlatOptions, *, keep_old: bool, parent: Entry | None, role: int
    ) -> None:
        entry = self._merge(name, options, keep_old=keep_old, parent=parent, role=role)
        if not keep_old:
            given = entry.options
            entry.backing_missing = "backing" not in given and "backing.driver" not in given
            has_backing = self.t.nodes[name].link("backing") is not None
            if entry.backing_missing and has_backing and self.t.ev.holds(OMITTED_DETACHES):
                entry.options["backing"] = None
                entry.backing_missing = False
        elif name in self.queue:
            entry.backing_missing = self.queue[name].backing_missing
        self.queue[name] = entry
        if self.t.ev.holds(QUEUE_CHILDREN):
            self._add_children(entry, keep_old=keep_old)

    def _merge(
        self, name: str, options: FlatOptions, *, keep_old: bool, parent: Entry | None, role: int
    ) -> Entry:
        """What is given, over what is kept, over what is inherited."""
        t, ev = self.t, self.t.ev
        node = t.nodes[name]
        driver = driver_of(node.driver)
        queued = self.queue.get(name)
        if queued is not None:
            ev.meet(STAYS_DRAINED)
            if ev.holds(LAST_WINS):
                driver.join(options, clone(queued.explicit))
        elif keep_old:
            driver.join(options, clone(node.explicit))
        explicit = clone(options)
        unmap = node.unmap if ev.holds(DISCARD_STAYS) else False
        if parent is not None:
            unmap = parent.unmap
            if ev.holds(INHERIT_AGAIN):
                inherit_options(t, role, options, parent.options)
        if keep_old:
            driver.join(options, clone(node.options))
        if None in options.values() and ev.holds(NULL_RESETS):
            options, explicit = _without_nulls(options), _without_nulls(explicit)
        return Entry(name, options, explicit, Flags.of(options), unmap)

    def _add_children(self, entry: Entry, *, keep_old: bool) -> None:
        t, ev = self.t, self.t.ev
        children = t.nodes[entry.node].children
        if not ev.holds(NEWEST_FIRST):
            children = children[::-1]
        for link in children:
            if t.nodes[link.child].inherits_from != entry.node:
                continue
            options: FlatOptions = {}
            child_keeps = keep_old
            if link.name in entry.options:
                if entry.options[link.name] != link.child and ev.holds(OTHER_CHILD_SKIPPED):
                    continue
                child_keeps = ev.holds(REFERENCE_KEEPS)
            else:
                entry.explicit, _ = extract(entry.explicit, f"{link.name}.")
                entry.options, options = extract(entry.options, f"{link.name}.")
            self._add(link.child, options, keep_old=child_keeps, parent=entry, role=link.role)

    # Prepare, commit, abort

    def run(self) -> None:
        """Reopen everything that is queued, or nothing.

        Raises :class:`Refusal`; the graph is then as it was, but for the order of links.
        """
        t = self.t
        undo = t.undo()
        for name in self.queue:
            flush(t, name)
        try:
            for entry in self.queue.values():
                with locked(t, entry.node):
                    self._prepare(entry, undo)
            self._check_permissions()
        except Refusal:
            if any(e.new_file and t.nodes[e.node].driver == "qcow2" for e in self.queue.values()):
                t.ev.meet(FOREIGN_FILE)
            undo.abort()
            raise
        for entry in reversed(self.queue.values()):
            self._commit(entry)
            if entry.new_backing is not None:
                self._replace_backing(entry.node, *entry.new_backing)
        if t.ev.holds(RELEASE_CHILD):
            undo.commit()
        if any(name not in t.nodes for name in self.queue):
            t.ev.meet(LOST_NODE)

    def _prepare(self, entry: Entry, undo: Undo) -> None:
        t, ev = self.t, self.t.ev
        node = t.nodes[entry.node]
        driver = driver_of(node.driver)
        rest = entry.options
        entry.options = clone(rest)
        generic = take_generic(ev, rest, unmap=entry.unmap)
        entry.detect_zeroes = generic.detect_zeroes
        if generic.discard is not None:
            entry.unmap = discards(generic.discard)
        held = node.copies_on_read and entry.flags.read_only
        ev.check(COPIES_ON_READ, not held, node=node.name)
        check_omitted(ev, node, driver, rest)
        entry.private = driver.prepare(t, node, rest)
        driver.probe(t, node, direct=entry.flags.no_cache)
        if entry.flags.read_only:
            driver.stop_writing(t, t.nodes[entry.node])
        if driver.supports_backing and entry.backing_missing:
            has_backing = node.link("backing") is not None or node.backing_file
            ev.check(BACKING_MISSING, not has_backing, node=node.name)
        for name in ("backing", "file") if ev.holds(FILE_TOO) else ("backing",):
            if name in rest:
                self._change_child(entry, rest.pop(name), name, undo)
        check_unchanged(ev, t.nodes[entry.node], rest)

    def _change_child(self, entry: Entry, new: str | None, name: str, undo: Undo) -> None:
        t, ev = self.t, self.t.ev
        node = t.nodes[entry.node]
        if new is not None:
            ev.check(NO_CHILD, new in t.nodes, node=new)
            cycle = reaches(t.nodes, new, node.name)
            ev.check(CYCLE, not cycle, child=new, name=name, parent=node.name)
        old = _present(node, name)
        if not ev.holds(LINKS_FIRST):
            self._change_backing_late(entry, old, new)
            return
        if (old.child if old else None) == new and ev.holds(SAME_CHILD):
            return
        if old is not None and self._skip_implicit(old.child) == new:
            return
        role = self._check_link(node, name, old)
        shared = shares_below(t.nodes, node.name)
        inherits = new is not None and is_heir(t, new, node.name)
        if old is not None:
            entry.old_children.append(old.child)
            if ev.holds(ROOT_INHERITS_NOTHING):
                unset_inherits(t, node.name, old.name, undo)
            remove_child(t, old.key, undo)
            undo.add(lambda: self._undo_drains(node.name, old.child, begins=True))
        if new is not None:
            undo.add(lambda: self._undo_drains(node.name, new, begins=False))
            drains = self._link_drains(node.name, new, begins=True)
            entry.new_file = entry.new_file or name == "file"
            attach_child(t, node.name, name, new, role, undo)
            if drains:
                # Only the iothread is locked in which the parent was before.
                need_lock(t, node.name)
            if inherits:
                set_inherits(t, new, node.name, undo)
        take_limits(t, node.name, undo)
        self._note_hazards(node.name, old, shared=shared)

    def _change_backing_late(self, entry: Entry, old: Link | None, new: str | None) -> None:
        """See whether a backing file could be replaced; the old link is still there afterwards."""
        t, ev = self.t, self.t.ev
        node = t.nodes[entry.node]
        driver = driver_of(node.driver)
        if new is not None:
            same = t.nodes[new].context == node.context
            ev.check(SAME_CONTEXT, same)
            can_join(t, node.name, new)
        keeps = driver.is_filter and old is None
        ev.check(FILTER_CHILD, not keeps, node=node.name, driver=driver.name, name="backing")
        has_backing = driver.is_filter or driver.supports_backing
        ev.check(NO_BACKING_FILES, has_backing, driver=driver.name, node=node.name)
        below = link_below(t, node.name)
        shown = None if below is None else self._skip_implicit(below.child)
        if shown == new and ev.holds(SAME_CHILD):
            return
        implicit = below is not None and t.nodes[below.child].implicit
        ev.check(IMPLICIT, not implicit, name="backing", node=node.name)
        if old is not None:
            ev.check(FROZEN, not old.frozen, name=old.name, parent=node.name, child=old.child)
        entry.new_backing = (old, new)

    def _check_permissions(self) -> None:
        """Let all nodes of the transaction have the permissions that they are to have."""
        t = self.t
        writable = {name: not e.flags.read_only for name, e in self.queue.items()}
        if not t.ev.holds(LINKS_FIRST):
            self._ask_each(writable)
            return
        roots: list[str] = []
        for entry in self.queue.values():
            roots += [entry.node, *entry.old_children]
        if t.ev.holds(REFRESH_ONCE):
            refresh(t, roots if t.ev.holds(LAST_REFUSES) else roots[::-1], writable)

    def _ask_each(self, writable: dict[str, bool]) -> None:
        """Check the permissions of each entry, and what its new backing file would say to it."""
        t = self.t
        descent = Descent(t, writable)
        for entry in self.queue.values():
            try:
                descent.check(entry.node)
                new = None if entry.new_backing is None else entry.new_backing[1]
                if new is not None:
                    node = t.nodes[entry.node]
                    users = descent.users(entry.node)
                    grant = descent.child_grant(node, new, self._backing_role(node), users)
                    descent.without_reopen().check_users(new, *grant, ())
            except Refusal:
                self._beware_of_descriptors(entry.node)
                raise
        descent.settle()
        settle(t, topological(t.nodes, list(self.queue)), writable)

    def _beware_of_descriptors(self, top: str | None) -> None:
        """What was prepared of the files below a node is forgotten, or closed too early."""
        below = () if top is None else topological(self.t.nodes, [top])
        if any(name in self.queue and self.t.nodes[name].driver == "file" for name in below):
            self.t.ev.meet(DESCRIPTOR_CLOSED)

    def _backing_role(self, node: Node) -> int:
        return Role.FILTER if driver_of(node.driver).is_filter else Role.COW

    def _replace_backing(self, name: str, old: Link | None, new: str | None) -> None:
        """Detach the old backing file and attach the new one; all checks are done by now."""
        t = self.t
        self._beware_of_descriptors(None if old is None else old.child)
        inherits = new is not None and is_heir(t, new, name)
        shared = shares_below(t.nodes, name)
        if new is not None:
            t.keeping.append(new)
        if old is not None:
            if t.ev.holds(ROOT_INHERITS_NOTHING):
                unset_inherits(t, name, "backing", None)
            drop_link(t, old)
        if new is not None:
            self._attach_backing(name, new, inherits=inherits)
            t.keeping.remove(new)
        if shared or shares_below(t.nodes, name):
            t.ev.meet(SHARED_BELOW)

    def _attach_backing(self, name: str, new: str, *, inherits: bool) -> None:
        t = self.t
        drains = self._link_drains(name, new, begins=True)
        # Its users have been asked: nobody refuses any more.
        attach_child(t, name, "backing", new, self._backing_role(t.nodes[name]), t.undo())
        refresh(t, [name])
        if drains:
            # Only the iothread is locked in which the parent was before.
            need_lock(t, name)
        if inherits:
            set_inherits(t, new, name, None)

    def _link_drains(self, parent: str, child: str, *, begins: bool) -> bool:
        """Whether drains that a link passes on have to wait when it comes (``begins``) or goes.

        The link is not there now. Drains of the parent reach what is below the child, and those of
        the child what is above the parent.
        """
        t = self.t
        if not in_use(t):
            return False
        drained = above(t.nodes, topological(t.nodes, self.named))
        touched = above(t.nodes, topological(t.nodes, [child]))
        if child in drained:
            touched |= above(t.nodes, [parent])
        return drivers_stop_slowly(t, touched) or (begins and jobs_stop(t, touched, drained))

    def _undo_drains(self, parent: str, child: str, *, begins: bool) -> None:
        """A link is put back, or was taken away again, without any lock."""
        if self._link_drains(parent, child, begins=begins):
            need_lock(self.t, parent)

    def _note_hazards(self, name: str, old: Link | None, *, shared: bool) -> None:
        """``shared``: before the child was changed, a node below was reached in two ways."""
        t = self.t
        if shared or shares_below(t.nodes, name):
            t.ev.meet(SHARED_BELOW)
        if old is not None and old.child in self.queue:
            drained = topological(t.nodes, self.named)
            if any(queued not in drained for queued in self.queue):
                t.ev.meet(LOST_NODE)

    def _check_link(self, node: Node, name: str, old: Link | None) -> int:
        """The rules on the link itself; returns the role of the new child."""
        ev = self.t.ev
        driver = driver_of(node.driver)
        if old is not None:
            implicit = self.t.nodes[old.child].implicit
            ev.check(IMPLICIT, not implicit, name=name, node=node.name)
        keeps = driver.is_filter and old is None
        ev.check(FILTER_CHILD, not keeps, node=node.name, driver=driver.name, name=name)
        if old is not None:
            ev.check(FROZEN, not old.frozen, name=old.name, parent=node.name, child=old.child)
        if name == "backing":
            has_backing = driver.is_filter or driver.supports_backing
            ev.check(NO_BACKING_FILES, has_backing, driver=driver.name, node=node.name)
        if driver.is_filter:
            return Role.FILTER
        if name == "backing":
            return Role.COW
        ev.check(NO_FILE_CHILD, old is not None)
        return old.role if old is not None else Role.FILTER

    def _skip_implicit(self, name: str) -> str:
        node = self.t.nodes[name]
        while node.implicit:
            below = link_below(self.t, node.name)
            if below is None:
                break
            node = self.t.nodes[below.child]
        return node.name

    def _commit(self, entry: Entry) -> None:
        t = self.t
        node = t.nodes[entry.node]
        options, explicit = entry.options, entry.explicit
        gone = [link.name for link in node.children]
        if t.ev.holds(FORGETS_BACKING) or entry.new_backing is not None:
            gone.append("backing")
        for name in gone:
            options.pop(name, None)
            explicit.pop(name, None)
        if not t.ev.holds(TAKE_OPTIONS):
            options = {**node.options, **options}
        zeroes = t.ev.holds(DETECT_ZEROES_DEFAULT) or "detect-zeroes" in entry.options
        after = t.change(
            entry.node,
            options=FrozenDict(options),
            explicit=FrozenDict(explicit),
            read_only=entry.flags.read_only,
            auto_read_only=entry.flags.auto_read_only,
            no_cache=entry.flags.no_cache,
            no_flush=entry.flags.no_flush,
            unmap=entry.unmap,
            detect_zeroes=entry.detect_zeroes if zeroes else node.detect_zeroes,
            private=driver_of(node.driver).adopt(node, entry.private),
        )
        driver_of(node.driver).reopened(t, node, after)
        if t.ev.holds(LENGTH_AGAIN):
            length = driver_of(node.driver).measure(t, after)
            t.change(entry.node, size=sectors(length))
        take_limits(t, entry.node)


def _present(node: Node, name: str) -> Link | None:
    """The link that an option called ``backing`` or ``file`` is about."""
    return node.link("backing") if name == "backing" else driver_of(node.driver).primary(node)


def _without_nulls(options: FlatOptions) -> FlatOptions:
    """All but those that are null; for a backing file that is a value."""
    return {k: v for k, v in options.items() if v is not None or k.split(".")[-1] == "backing"}


def keep_options(t: Transition, name: str, changes: FlatOptions) -> None:
    """Reopen a node as QEMU does for itself: what ``changes`` do not name stays as it is.

    Raises :class:`Refusal`.
    """
    reopening = Reopening(t)
    reopening.add(name, dict(changes), keep_old=True)
    reopening.run()
