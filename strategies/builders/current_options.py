# SPDX-License-Identifier: GPL-2.0-or-later
"""The full current options of a node, as a client would give them to blockdev-reopen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from model.values.qdict import crumple
from strategies.builders.situation import generated
from strategies.choices.weights import INLINE

if TYPE_CHECKING:
    from model.values.state import Link, Node
    from strategies.builders.scene import Scene

Options = dict[str, Any]

_SWITCHES: Final = (
    "read-only",
    "auto-read-only",
    "cache.direct",
    "cache.no-flush",
    "force-share",
)


def described(scene: Scene, node: Node, *, inline: int = INLINE) -> Options:
    """What was given for ``node``, with its children as references or inline dictionaries.

    ``inline`` is the percentage of the children that inherit their options and are
    described anew though they could be referred to.
    """
    options: Options = {**own_options(node), "driver": node.driver}
    if not generated(node.name):
        options["node-name"] = node.name
    listed: list[tuple[int, Any]] = []
    for link in node.children:
        value = child_value(scene, node, link, inline)
        name, _, index = link.name.partition(".")
        if name == "children":
            listed.append((int(index), value))
        else:
            options[link.name] = value
    if listed:
        options["children"] = [value for _, value in sorted(listed, key=lambda each: each[0])]
    return options


def own_options(node: Node) -> Options:
    """The options given for the node itself, nested as QMP has them."""
    given = {
        name: value
        for name, value in node.explicit.items()
        # QEMU notes its own defaults among what was given, as words; a client gives booleans.
        if not (value == "off" and name in _SWITCHES) and name != "node-name"
    }
    for name in _SWITCHES:
        if given.get(name) == "on":
            given[name] = True
    if node.driver == "file":
        given.setdefault("filename", node.options.get("filename", node.filename))
    # Reopened twice in one transaction, a node can have an option both as one value and as
    # several; no JSON says both.
    for name in [key for key in given if any(x.startswith(f"{key}.") for x in given)]:
        del given[name]
    if generated(str(given.get("bottom", ""))):
        # A filter of a stream job: nobody can say down to which node it reaches.
        del given["bottom"]
    nested = crumple(given)
    return dict(nested) if isinstance(nested, dict) else {}


def child_value(scene: Scene, node: Node, link: Link, inline: int) -> str | Options:
    """A child as a reference or, where it inherits from ``node``, perhaps described anew."""
    child = scene.shown(link.child)
    inherits = child.inherits_from == node.name
    if generated(child.name) or (inherits and scene.choose.chance(inline)):
        return described(scene, child, inline=inline)
    return child.name
