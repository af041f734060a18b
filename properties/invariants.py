# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds in every state: one function per sentence.

Each takes a state and returns None when the sentence holds, else one line that says
where it does not. A function's name is its sentence, with underscores.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from model.drivers.file import DEVICES, TAKES_DEVICES
from model.permissions.grants import permission_names, permissions
from model.values.state import Grant, LinkKey, Perm, ThrottleGroup, Use
from properties.claims import bottom, chain, filters, in_chain, standing
from properties.users import (
    connected_nodes_share_a_context,
    contexts_are_threads,
    exports_and_users_agree,
    jobs_and_users_agree,
    jobs_are_at_rest,
    users_and_nodes_agree,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.release.dialect import Dialect
    from model.release.schema import Schema
    from model.values.state import BlockState

    Invariant = Callable[[BlockState], str | None]
    InvariantOfDialect = Callable[[BlockState, Dialect], str | None]

_CHILDREN: Final = {
    "backup-top": ({"backing"}, {"backing", "target"}),
    "blkdebug": ({"image"}, {"image"}),
    "blkverify": ({"test", "raw"}, {"test", "raw"}),
    "commit_top": ({"backing"}, {"backing"}),
    "compress": ({"file"}, {"file"}),
    "copy-before-write": ({"file", "target"}, {"file", "target"}),
    "copy-on-read": ({"file"}, {"file"}),
    "file": (set(), set()),
    "mirror_top": ({"backing"}, {"backing"}),
    "null-aio": (set(), set()),
    "null-co": (set(), set()),
    "preallocate": ({"file"}, {"file"}),
    "qcow2": ({"file"}, {"file", "backing"}),
    "raw": ({"file"}, {"file"}),
    "throttle": ({"file"}, {"file"}),
}
"""The children that a driver must have and those that it may have."""

_FILTERS_OF_JOBS: Final = frozenset({"backup-top", "commit_top", "mirror_top"})
"""Drivers that no schema has."""
_LINKS: Final = frozenset({"file", "backing"})
_WRITES = int(Perm.WRITE | Perm.WRITE_UNCHANGED)


def nodes_go_by_their_own_names(state: BlockState) -> str | None:
    """A node is filed under its name, and the links that it holds name it as their parent."""
    for name, node in state.nodes.items():
        if node.name != name:
            return f"node {node.name!r} is filed under {name!r}"
        for link in node.children:
            if link.parent != name:
                return f"node {name!r} holds a link of {link.parent!r}"
    return None


def parents_and_children_agree(state: BlockState) -> str | None:
    """Every link is in its parent's list and in its child's, once in each."""
    for node in state.nodes.values():
        if len({link.name for link in node.children}) != len(node.children):
            return f"node {node.name!r} has two children of one name"
        if len(set(node.parents)) != len(node.parents):
            return f"node {node.name!r} lists a parent twice"
        for link in node.children:
            child = state.nodes.get(link.child)
            if child is None:
                return f"{node.name!r} has a child {link.child!r} that does not exist"
            if link.key not in child.parents:
                return f"{link.child!r} does not know its parent {node.name!r} ({link.name})"
        for key in node.parents:
            if not _holds(state, key, node.name):
                return f"{node.name!r} takes {key[0]!r} for a parent ({key[1]})"
    return None


def _holds(state: BlockState, key: LinkKey | Use, child: str) -> bool:
    """Whether a parent knows that it has a child."""
    if isinstance(key, Use):
        user = state.users.get(key.user)
        return user is not None and (key.name, child) in user.links
    above = state.nodes.get(key[0])
    link = above.link(key[1]) if above else None
    return link is not None and link.child == child


def no_node_is_its_own_ancestor(state: BlockState) -> str | None:
    """The graph has no cycle."""
    done: set[str] = set()
    for start in state.nodes:
        path: list[str] = []
        stack = [(start, False)]
        while stack:
            name, leave = stack.pop()
            if leave:
                path.pop()
                done.add(name)
            elif name in path:
                return f"{' -> '.join((*path[path.index(name) :], name))} is a cycle"
            elif name not in done and name in state.nodes:
                path.append(name)
                stack.append((name, True))
                stack.extend((link.child, False) for link in state.nodes[name].children)
    return None


def nobody_requires_what_another_user_unshares(state: BlockState) -> str | None:
    """Whatever one user of a node requires, all of its other users share."""
    grants = permissions(state)
    for node in state.nodes.values():
        for one in node.parents:
            for other in node.parents:
                clash = _grant(grants, one)[0] & ~_grant(grants, other)[1] if one != other else 0
                if clash:
                    return (
                        f"{_user(one)} requires {permission_names(clash)!r} on {node.name!r}, "
                        f"which {_user(other)} does not share"
                    )
    return None


def _grant(grants: dict[LinkKey, Grant], key: LinkKey | Use) -> Grant:
    return (key.perm, key.shared) if isinstance(key, Use) else grants[key]


def _user(key: LinkKey | Use) -> str:
    return f"{key[0]!r} ({key[1]})"


def read_only_nodes_have_no_writers(state: BlockState) -> str | None:
    """Nobody requires to write what is read-only."""
    grants = permissions(state)
    for node in state.nodes.values():
        if node.read_only:
            for key in node.parents:
                if _grant(grants, key)[0] & _WRITES:
                    return f"{_user(key)} writes {node.name!r}, which is read-only"
    return None


def every_node_is_held(state: BlockState) -> str | None:
    """A node is owned by the monitor, or somebody's child, or the bottom of a copy-on-read.

    A job that was told to end holds on to the node that it will replace.
    """
    held = {bottom(node) for node in state.nodes.values()}
    held |= {job.replacing for job in state.jobs.values()}
    for node in state.nodes.values():
        if not (node.monitor_owned or node.parents or node.name in held):
            return f"nothing refers to {node.name!r}"
    return None


def options_come_from_others(state: BlockState) -> str | None:
    """No node inherits its options from itself.

    That they come from above would be too much: when a snapshot or a job's filter was put between
    and is gone again with what lies above, 7.2 lets the old source stand, which may then even
    become a child.
    """
    for node in state.nodes.values():
        if node.inherits_from == node.name:
            return f"{node.name!r} inherits from itself"
    return None


def links_are_frozen_where_somebody_claims_them(state: BlockState, dialect: Dialect) -> str | None:
    """Frozen is what leads from a copy-on-read to its bottom, or from a commit's filter to its end.

    Nothing else is, and a job that has ended needs nothing any more.
    """
    expected: set[LinkKey] = set()
    for who, top, end in standing(state, dialect):
        if top not in state.nodes or end not in state.nodes or not in_chain(state, top, end):
            return f"{who} needs {end!r}, which is not below {top!r}"
        expected.update(key for key, _ in chain(state, top, end))
    for link in state.links():
        if link.frozen and link.key not in expected:
            return f"the link {_user(link.key)} is frozen and nobody needs it"
        if not link.frozen and link.key in expected:
            return f"the link {_user(link.key)} is not frozen although somebody needs it"
    return None


def implicit_nodes_are_filters_of_living_jobs(state: BlockState, dialect: Dialect) -> str | None:
    """A node that no client asked for and none shall see goes with the job that put it there.

    Where the filter of a stream stays, it goes when the job is dismissed.
    """
    known = filters(state, dialect)
    for node in state.nodes.values():
        if node.implicit and node.name not in known:
            return f"{node.name!r} is implicit and no living job's filter"
    return None


def children_are_those_of_the_driver(state: BlockState) -> str | None:
    """A node has the children that its driver requires, and none that it does not know."""
    for node in state.nodes.values():
        names = {link.name for link in node.children}
        if node.driver == "quorum":
            strangers = {name for name in names if not name.startswith("children.")}
            missing: set[str] = set()
        else:
            least, most = _CHILDREN[node.driver]
            strangers, missing = names - most, least - names
        if strangers or missing:
            wrong = ", ".join(sorted(strangers | missing))
            return f"{node.driver} node {node.name!r} lacks or should not have: {wrong}"
    return None


def quorums_can_be_reached(state: BlockState) -> str | None:
    """A quorum has at least as many children as must agree."""
    for node in state.nodes.values():
        if node.driver == "quorum":
            threshold = int(node.options.get("vote-threshold", 1))
            if not 1 <= threshold <= len(node.children):
                return f"{threshold} of {len(node.children)} children of {node.name!r} must agree"
    return None


def zeroes_are_unmapped_where_discards_are(state: BlockState) -> str | None:
    """detect-zeroes=unmap holds only where discards are passed on."""
    for node in state.nodes.values():
        if node.detect_zeroes == "unmap" and not node.unmap:
            return f"{node.name!r} turns zeroes into discards and ignores discards"
    return None


def open_files_exist(state: BlockState, dialect: Dialect) -> str | None:
    """The file of every file node is on disk, or a device where that will do."""
    devices = DEVICES if dialect.has(TAKES_DEVICES) else ()
    for node in state.nodes.values():
        if node.driver == "file" and node.filename not in (*state.images, *devices):
            return f"{node.name!r} shows {node.filename!r}, which does not exist"
    return None


def throttle_groups_exist(state: BlockState) -> str | None:
    """Every throttle node is in a group that exists."""
    for node in state.nodes.values():
        if node.driver == "throttle":
            group = str(node.options.get("throttle-group"))
            if not isinstance(state.objects.get(group), ThrottleGroup):
                return f"{node.name!r} is in the group {group!r}, which does not exist"
    return None


def options_are_known_to_the_driver(state: BlockState, dialect: Dialect) -> str | None:
    """No node has an option that the release does not list for its driver.

    Listed twice in one transaction, once with the options of another driver, a node may
    keep the name of a child that it cannot have (seen on 7.2): those names are let pass.
    """
    for node in state.nodes.values():
        if node.driver in _FILTERS_OF_JOBS:
            continue
        known = _options_of(dialect.schema, node.driver)
        for key in node.options:
            if key.partition(".")[0] not in known:
                return f"{node.driver} node {node.name!r} has an option {key!r}"
    return None


@cache
def _options_of(schema: Schema, driver: str) -> frozenset[str]:
    members = schema.members("blockdev-add.arg", driver)
    return _LINKS.union(member.name for member in members)


INVARIANTS: tuple[Invariant, ...] = (
    nodes_go_by_their_own_names,
    parents_and_children_agree,
    users_and_nodes_agree,
    jobs_and_users_agree,
    exports_and_users_agree,
    no_node_is_its_own_ancestor,
    nobody_requires_what_another_user_unshares,
    read_only_nodes_have_no_writers,
    every_node_is_held,
    options_come_from_others,
    children_are_those_of_the_driver,
    quorums_can_be_reached,
    zeroes_are_unmapped_where_discards_are,
    throttle_groups_exist,
    connected_nodes_share_a_context,
    contexts_are_threads,
)
"""Those that are the same in every dialect. The first ones come first on
purpose: those that follow rely on a graph that hangs together."""

INVARIANTS_OF_DIALECT: tuple[InvariantOfDialect, ...] = (
    jobs_are_at_rest,
    links_are_frozen_where_somebody_claims_them,
    implicit_nodes_are_filters_of_living_jobs,
    open_files_exist,
    options_are_known_to_the_driver,
)
"""Those that ask what is true of a dialect, which they are told."""
