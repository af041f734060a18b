# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of blockdev-add: inline chains, references, filters, quorum and blkverify.

A builder returns the options of one node (a ``BlockdevOptions`` dictionary). They are
right as far as the state tells; :mod:`strategies.near_valid` makes one thing wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strategies.builders.situation import generated, idle
from strategies.choices.drivers import CHILD, FILTERS, PROTOCOLS, WRAPPERS
from strategies.choices.option_values import (
    FAR,
    KIB,
    LIVE,
    MIB,
    STICKY,
    options_of,
)
from strategies.choices.weights import FIT, NAMED, OPTION_SET, READ_ONLY

if TYPE_CHECKING:
    from model.values.state import Image, Node
    from strategies.builders.scene import Scene

Options = dict[str, Any]
Child = str | Options | None

_MOST_OPTIONS = 3
_WRAPPED = 12
_ODD = 3
_STUCK = 15
_PAIR = 2
"""How many children a quorum that verifies has, and a blkverify."""
_DEEPEST = 2
_SIZES = (MIB, MIB, 64 * KIB, 512 * KIB, 2 * MIB)


def settle(options: Options) -> Options:
    """Take back combinations that no driver accepts, so that each option was worth giving."""
    if options.get("detect-zeroes") == "unmap":
        options["discard"] = "unmap"
    if options.get("force-share"):
        options["read-only"] = True
    if options.get("aio") == "native":
        options["cache"] = {**options.get("cache", {}), "direct": True}
    if options["driver"] == "qcow2":
        _settle_caches(options)
    if options["driver"] == "quorum":
        _settle_quorum(options)
    return options


def _settle_caches(options: Options) -> None:
    total = options.get("cache-size")
    if total is None:
        return
    for name in ("l2-cache-size", "refcount-cache-size"):
        if options.get(name, 0) > total:
            del options[name]
    if "l2-cache-size" in options and "refcount-cache-size" in options:
        del options["cache-size"]


def _settle_quorum(options: Options) -> None:
    children = options.get("children", [])
    if isinstance(children, list):
        threshold = options.get("vote-threshold", 1)
        options["vote-threshold"] = max(1, min(threshold, len(children)))
        if options.get("blkverify") and (
            len(children) != _PAIR or options["vote-threshold"] != _PAIR
        ):
            del options["blkverify"]
    if options.get("read-pattern") == "fifo":
        options.pop("rewrite-corrupted", None)


def sprinkle(scene: Scene, options: Options, *, read_only: bool = False) -> Options:
    """Give a new node some options; ``read_only`` where its children require it."""
    choose = scene.choose
    if choose.chance(OPTION_SET):
        known = scene.known(options["driver"], options_of(options["driver"]))
        for option in choose.some(known, _MOST_OPTIONS):
            if option.name in STICKY and not choose.chance(_STUCK):
                continue
            if option.good and option.name != "read-only":
                options[option.name] = choose.one_of(option.good)
    if read_only or choose.chance(READ_ONLY):
        options["read-only"] = True
    return settle(options)


def name_root(scene: Scene, options: Options) -> Options:
    """Name the node that the monitor is to own."""
    return {"node-name": scene.fresh_name(), **options}


def name_child(scene: Scene, options: Options) -> Options:
    """Name a node below it, mostly."""
    return name_root(scene, options) if scene.choose.chance(NAMED) else options


# Nodes without children


def file_over(scene: Scene, image: Image) -> Options:
    """A file node over an image; without locks where another node has the image open."""
    options: Options = {"driver": "file", "filename": image.name}
    if scene.is_open(image) and scene.choose.chance(60):
        options["locking"] = "off"
    scene.mark_open(image)
    return options


def protocol(scene: Scene) -> Options:
    """A node without children: mostly over an image, else a null driver."""
    if scene.choose.chance(70):
        return sprinkle(scene, file_over(scene, scene.take_image()))
    options: Options = {"driver": scene.choose.one_of(("null-co", "null-aio"))}
    # Unset, what a null node reads as is undefined, which blkverify and quorum do not like.
    options["read-zeroes"] = True
    return sprinkle(scene, options)


# Chains


def backing(scene: Scene, options: Options, image: Image | None, depth: int) -> None:
    """Decide on the backing file of a qcow2 node: from the image, none, a node, or inline."""
    choose = scene.choose
    if image is not None and image.backing is not None:
        kind = choose.one_of(("image", "null", "null", "node", "node", "inline"))
    else:
        kind = choose.one_of(("image", "image", "null", "null", "node", "node", "inline"))
    if kind == "null":
        options["backing"] = None
    elif kind == "inline" and depth < _DEEPEST:
        options["backing"] = name_child(scene, chain(scene, depth + 1))
    elif kind == "node":
        node = scene.pick(scene.nodes, lambda each: idle(each) and each.driver not in PROTOCOLS)
        if node is not None:
            options["backing"] = node.name


def chain(scene: Scene, depth: int = 0) -> Options:
    """A format node over its file, all inline, now and then with a filter in between."""
    choose = scene.choose
    image = scene.take_image()
    below = sprinkle(scene, file_over(scene, image))
    if choose.chance(_WRAPPED):
        below = wrap(scene, choose.one_of(("preallocate", "throttle", "blkdebug")), below)
    driver = image.format if choose.chance(90) else "raw"
    options: Options = {"driver": driver, "file": name_child(scene, below)}
    if driver == "qcow2":
        backing(scene, options, image, depth)
    return sprinkle(scene, options, read_only=read_only_child(scene, below))


def tower(scene: Scene) -> Options:
    """Two to four images on top of each other, all inline, all with names: what jobs work on."""
    choose = scene.choose
    free = [image for image in scene.images if not scene.is_open(image)]
    count = min(choose.one_of((2, 3, 3, 3, 4)), len(free))
    if not count:
        return chain(scene)
    images = [free.pop(choose.integer(0, len(free) - 1)) for _ in range(count)]
    raw = [image for image in images if image.format == "raw"]
    below: Child = None
    for image in [*raw[:1], *(image for image in images if image.format == "qcow2")]:
        file = name_child(scene, file_over(scene, image))
        options: Options = {"driver": image.format, "file": file}
        if image.format == "qcow2":
            options["backing"] = below
        if choose.chance(_WRAPPED):
            options.update(_plain_option(scene, options["driver"]))
        if choose.chance(_STUCK):
            # Otherwise a backing file is read-only until a job makes it writable.
            options["read-only"] = False
        if choose.chance(_ODD * 2):
            options = wrap(scene, choose.one_of(("throttle", "copy-on-read")), options)
        below = name_root(scene, options)
    return below if isinstance(below, dict) else chain(scene)


def _plain_option(scene: Scene, driver: str) -> Options:
    options = [x for x in LIVE[driver] if x.name not in ("offset", "size")]
    option = scene.choose.one_of(scene.known(driver, options))
    return settle({"driver": driver, option.name: scene.choose.one_of(option.good)})


def wrap(scene: Scene, driver: str, child: Child) -> Options:
    """A filter or blkdebug over a child."""
    if isinstance(child, dict):
        child = name_child(scene, child)
    if driver == "throttle" and not scene.groups():
        driver = "preallocate"
    if not scene.has_driver(driver):
        driver = "blkdebug"
    options: Options = {"driver": driver, CHILD[driver]: child}
    if driver == "throttle":
        options["throttle-group"] = scene.choose.one_of(scene.groups())
    return options


def read_only_child(scene: Scene, child: Child) -> bool:
    """Whether a child will be read-only, as far as one sees: then its parent had better be, too."""
    if isinstance(child, dict):
        return bool(child.get("read-only"))
    node = scene.state.nodes.get(child) if child else None
    if node is None:
        return False
    return node.read_only or (not idle(node) and scene.choose.chance(50))


# Nodes over nodes that exist


def format_by_reference(scene: Scene) -> Options:
    """qcow2 or raw over an existing node, mostly an idle one that shows a fitting image."""
    choose = scene.choose
    if choose.chance(_ODD):
        null = {"driver": "null-co", "read-zeroes": True, "size": 2**40}
        return {"driver": "raw", "offset": FAR, "file": null}
    node = scene.pick(scene.nodes, lambda each: idle(each) and scene.image_of(each) is not None)
    if node is None:
        return chain(scene)
    image = scene.image_of(node)
    driver = image.format if image is not None and choose.chance(85) else "raw"
    options: Options = {"driver": driver, "file": node.name}
    if driver == "qcow2":
        backing(scene, options, image, depth=1)
    return sprinkle(scene, options, read_only=read_only_child(scene, node.name))


def filter_by_reference(scene: Scene) -> Options:
    """A filter or blkdebug over an existing node."""
    choose = scene.choose
    driver = choose.one_of(WRAPPERS)
    candidates = scene.nodes
    if driver == "compress" and choose.chance(FIT):
        candidates = tuple(node for node in scene.nodes if node.driver == "qcow2")
    if choose.chance(_ODD) and len(scene.everything) > len(scene.nodes):
        candidates = tuple(x for x in scene.everything if x not in scene.nodes)
    node = scene.pick(candidates, idle)
    if node is None:
        return wrap(scene, "preallocate", protocol(scene))
    options = wrap(scene, driver, node.name)
    if driver == "copy-on-read":
        bottoms = _bottoms(scene, node)
        if bottoms and scene.has_option(driver, "bottom") and choose.chance(60):
            options["bottom"] = choose.one_of(bottoms).name
    return sprinkle(
        scene, options, read_only=node.read_only and (driver != "copy-on-read" or choose.chance(80))
    )


def _bottoms(scene: Scene, top: Node) -> list[Node]:
    """Where the chain that a copy-on-read works on may end: below ``top``, no filter."""
    found: list[Node] = []
    seen: Node | None = top
    while seen is not None:
        if not generated(seen.name) and seen.driver not in FILTERS:
            found.append(seen)
        link = seen.link("file" if seen.driver in FILTERS else "backing")
        seen = scene.state.nodes.get(link.child) if link else None
    return found


def _several(scene: Scene, least: int, most: int) -> list[Child]:
    """Children for a node that reads from several: nodes of one length, else null nodes inline."""
    choose = scene.choose
    free = [node for node in scene.nodes if idle(node)]
    children: list[Child] = []
    size = choose.one_of(_SIZES)
    if free and choose.chance(70):
        first = choose.one_of(free)
        size = first.size
        children.append(first.name)
    same = [x.name for x in free if x.name not in children and x.size == size]
    while len(children) < choose.integer(max(least, len(children)), most):
        if same and choose.chance(60):
            children.append(same.pop(choose.integer(0, len(same) - 1)))
        elif choose.chance(12):
            children.append(name_child(scene, chain(scene, depth=_DEEPEST)))
        else:
            null: Options = {"driver": "null-co", "read-zeroes": True, "size": size}
            children.append(name_child(scene, null))
    return children


def quorum(scene: Scene) -> Options:
    """A quorum over one to three children."""
    children = _several(scene, 1, 3)
    options: Options = {"driver": "quorum", "children": children, "vote-threshold": 1}
    if len(children) == _PAIR and scene.choose.chance(30):
        options.update({"vote-threshold": _PAIR, "blkverify": True})
    return sprinkle(scene, options, read_only=any(read_only_child(scene, x) for x in children))


def blkverify(scene: Scene) -> Options:
    """A blkverify over two children."""
    test, raw = _several(scene, _PAIR, _PAIR)
    options: Options = {"driver": "blkverify", "test": test, "raw": raw}
    return sprinkle(
        scene, options, read_only=read_only_child(scene, test) or read_only_child(scene, raw)
    )
