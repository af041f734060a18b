# SPDX-License-Identifier: GPL-2.0-or-later
"""The NBD server and block exports: users of nodes that clients make without a guest.

Nobody connects to the server as far as the model goes, so an export is gone as soon as it is
deleted, before the reply, whatever the mode.
"""

from __future__ import annotations

import re
from posixpath import normpath
from typing import TYPE_CHECKING, Any

from model.commands.iothreads import find_iothread
from model.edits import block_backends
from model.edits.users import remove_user
from model.graph import aio_contexts
from model.operations.open import NO_NODE
from model.release.rules import Refusal, effect, guard, hazard, outside
from model.release.scope import Outside, scope, takes
from model.values.state import Export, Perm

if TYPE_CHECKING:
    from model.graph.transition import Transition

RUNNING = guard(
    "nbd.running",
    "There is one NBD server.",
    source="7.2",
    text="NBD server already running",
)
NOT_RUNNING = guard(
    "nbd.not-running",
    "A server that runs is stopped, and only while it runs there are NBD exports.",
    source="7.2",
    text="NBD server not running",
)
THREADS_FIXED = guard(
    "export.threads-fixed",
    "An export in several iothreads is not tied to one.",
    source="11.1, which takes a list of iothreads",
    text="Cannot use fixed-iothread for a multi-threaded export",
)
THREADS_EMPTY = guard(
    "export.threads-empty",
    "A list of iothreads is not empty.",
    source="11.1",
    text="The set of I/O threads must not be empty",
)
ONE_THREAD = guard(
    "nbd.one-thread",
    "An NBD export lives in one iothread, and does not take a list.",
    source="11.1",
    text="NBD export does not support multi-threading",
)
ADDRESS = outside(
    "nbd.unmodelled-address",
    "The NBD server listens on a Unix socket in the daemon's own directory.",
    text="an NBD server at this address of the type '{type}' is not modelled",
)
PATH_LONG = guard(
    "nbd.path-long",
    "The path of a Unix socket has at most 108 bytes.",
    source="7.2 (Linux)",
    text="UNIX socket path '{path}' is too long",
)
PATH_UNKNOWN = guard(
    "nbd.path-unknown",
    "The directory of a Unix socket exists; the model knows of none but the daemon's own.",
    source="7.2",
    text="Failed to bind socket to {path}: No such file or directory",
)
NO_CREDENTIALS = guard(
    "nbd.no-credentials",
    "The TLS credentials that a server is given exist.",
    source="7.2",
    text="No TLS credentials with id '{id}'",
)
NOT_CREDENTIALS = guard(
    "nbd.not-credentials",
    "The object that a server is given as TLS credentials is one; none of those is modelled.",
    source="7.2",
    text="Object with id '{id}' is not TLS credentials",
)
ID_FORM = guard(
    "export.id",
    "An export's name begins with a letter and has letters, digits, '-', '.' and '_'.",
    source="7.2",
    text="Invalid block export id",
)
ID_TAKEN = guard(
    "export.id-taken",
    "The names of exports are unique.",
    source="7.2",
    text="Block export id '{id}' is already in use",
)
READ_ONLY = guard(
    "export.read-only",
    "A read-only node is not exported as writable.",
    source="7.2",
    text="Cannot export read-only node as writable",
)
NO_IOTHREAD = guard(
    "export.unknown-iothread",
    "The iothread that an export asks for exists.",
    source="7.2",
    text='iothread "{iothread}" not found',
)
UNMODELLED = outside(
    "export.unmodelled-type",
    "Only NBD exports are modelled.",
    text="an export of the type '{type}' is not modelled",
)
NAME_LONG = guard(
    "export.name-long",
    "The name of an export has at most 4096 bytes.",
    source="7.2 (NBD)",
    text="export name '{name}' too long",
)
DESCRIPTION_LONG = guard(
    "export.description-long",
    "The description of an export has at most 4096 bytes.",
    source="7.2 (NBD)",
    text="description '{description}' too long",
)
NAME_TAKEN = guard(
    "export.name-taken",
    "The names that the NBD server shows are unique.",
    source="7.2",
    text="NBD server already has export named '{name}'",
)
NO_BITMAP = guard(
    "export.no-bitmap",
    "The bitmaps that an export shows exist; none is modelled.",
    source="7.2",
    text="Bitmap '{bitmap}' is not found",
)
NO_BITMAP_NODE = guard(
    "export.no-bitmap-node",
    "The node of a bitmap that an export shows exists.",
    source="7.2",
    text="Node '{node}' not found",
)
NO_BITMAP_ON_NODE = guard(
    "export.no-bitmap-on-node",
    "The bitmap that an export shows exists at its node; none is modelled.",
    source="7.2",
    text="Dirty bitmap '{bitmap}' not found",
)
UNKNOWN = guard(
    "export.unknown",
    "The export to delete exists.",
    source="7.2",
    text="Export '{id}' is not found",
)
TELLS_TWICE = hazard(
    "hazard.export-tells-twice",
    "A new export is refused whose node could not move to its iothread.",
    source="5.2 has told the client of the iothread already, and ends with an assertion",
)
STAYS_AND_TELLS = effect(
    "export.stays-and-tells",
    "Where a node cannot move to the iothread of a new export, the client is told so; the export "
    "is there all the same unless it was to be fixed.",
    source="5.2",
)
JOINS_IOTHREAD = effect(
    "export.joins-iothread",
    "The node of an export moves to the iothread that the export asks for; unless that is fixed "
    "it does not matter if it cannot.",
    source="7.2",
)
UNSHARES_RESIZE = effect(
    "export.unshares-resize",
    "A node is not resized while it is exported.",
    source="7.2 (NBD)",
)

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*\Z")
_LONGEST = 4096
_AT_START = "the server is to start there"
_LONGEST_PATH = 108


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _is_plain(path: str) -> bool:
    """Whether a socket's path is a name in the daemon's own directory, or one below that."""
    return path not in {".", ".."} and path == normpath(path) and path[0] not in "/."


# The server


@takes(
    "addr",
    "addr.type",
    "addr/unix.data",
    "addr/unix.data.path",
    "tls-creds",
    outside={
        "addr/fd.*": Outside("a socket that somebody handed to the daemon", when=_AT_START),
        "addr/inet.*": Outside("a TCP socket: it would be open to others", when=_AT_START),
        "addr/vsock.*": Outside("a socket of virtual machines", when=_AT_START),
        "addr/unix.data.abstract": Outside("a socket in no directory", (False,), _AT_START),
        "max-connections": Outside("how many clients the server lets in", unless=(0,)),
        "handshake-max-seconds": Outside("how long a client may take", unless=(10,)),
    },
    inert={
        "addr/unix.data.tight": "it is about abstract sockets only",
        "tls-authz": "it is asked for only with tls-creds, which name no credentials here",
    },
)
def nbd_server_start(t: Transition, arguments: dict[str, Any]) -> None:
    """Let an NBD server listen on a Unix socket."""
    ev = t.ev
    ev.check(RUNNING, t.nbd_server is None)
    address = arguments["addr"]
    path = address["data"].get("path", "")
    modelled = path and _is_plain(path) and path not in t.images
    if not modelled or address["data"].get("abstract"):
        ev.leave(ADDRESS, f"nbd-server-start.addr/{address['type']}", type=address["type"])
    ev.check(PATH_LONG, _bytes(path) <= _LONGEST_PATH, path=path)
    ev.check(PATH_UNKNOWN, "/" not in path, path=path)
    credentials = arguments.get("tls-creds")
    if credentials is not None:
        ev.check(NO_CREDENTIALS, credentials in t.objects, id=credentials)
        ev.refuse(NOT_CREDENTIALS, id=credentials)
    t.nbd_server = path


@takes()
def nbd_server_stop(t: Transition, arguments: dict[str, Any]) -> None:
    """Stop the NBD server; its exports go with it, the oldest first."""
    t.ev.check(NOT_RUNNING, t.nbd_server is not None)
    exports = list(t.exports.values())
    for export in exports:
        t.closing = export is not exports[-1]
        _delete(t, export)
    t.nbd_server = None


# Exports


@takes(
    "type",
    "id",
    "fixed-iothread",
    "iothread",
    "node-name",
    "writable",
    outside={"allow-inactive": Outside("inactive nodes", unless=(False,))},
    inert={"writethrough": "what was written is there whether or not it has got to the disk"},
    variants={
        "nbd": scope(
            "name",
            "description",
            "bitmaps",
            "bitmaps.*",
            inert={"allocation-depth": "what clients may ask the server is not shown"},
        )
    },
)
def block_export_add(t: Transition, arguments: dict[str, Any]) -> None:
    """Export a node.

    A refused command may leave the node in another context, as QEMU does.
    """
    ev = t.ev
    name, node = arguments["id"], arguments["node-name"]
    fixed = arguments.get("fixed-iothread", False)
    iothread = arguments.get("iothread")
    if isinstance(iothread, list):
        # QEMU looks at this before it has looked at anything else.
        ev.check(THREADS_FIXED, not fixed)
    ev.check(ID_FORM, _ID.match(name))
    ev.check(ID_TAKEN, name not in t.exports, id=name)
    ev.check(NO_NODE, node in t.nodes, device="", node=node)
    writable = arguments.get("writable", False)
    ev.check(READ_ONLY, not writable or not t.nodes[node].read_only)
    if isinstance(iothread, list):
        _check_threads(t, iothread)
        iothread = None
    with aio_contexts.locked(t, node):
        stays = _choose_context(t, node, iothread, fixed=fixed)
    try:
        with aio_contexts.locked(t, node):
            _export(t, arguments, fixed=fixed)
    except Refusal:
        if stays is not None:
            ev.meet(TELLS_TWICE)
        raise
    if stays is not None:
        ev.refuse(stays.rule, **stays.fields)


def _export(t: Transition, arguments: dict[str, Any], *, fixed: bool) -> None:
    ev = t.ev
    name, node = arguments["id"], arguments["node-name"]
    writable = arguments.get("writable", False)
    perm = Perm.CONSISTENT_READ | (Perm.WRITE if writable else 0)
    context = t.nodes[node].context
    user = block_backends.take(
        t, f"export:{name}", node, (perm, Perm.ALL), context=context, follows=not fixed
    )
    try:
        _check_nbd(t, arguments)
        if ev.holds(UNSHARES_RESIZE):
            block_backends.share(t, user, node, (perm, Perm.ALL & ~Perm.RESIZE))
        _check_bitmaps(t, arguments)
    except Refusal:
        block_backends.let_go(t, user)
        raise
    t.exports[name] = Export(name, user, arguments.get("name", node), arguments["type"])


def _check_threads(t: Transition, iothreads: list[str]) -> None:
    """Several iothreads are given: no NBD export gets as far as to use them."""
    t.ev.check(THREADS_EMPTY, iothreads)
    for iothread in iothreads:
        t.ev.check(NO_IOTHREAD, find_iothread(t, iothread) is not None, iothread=iothread)


def _choose_context(
    t: Transition, node: str, iothread: str | None, *, fixed: bool
) -> Refusal | None:
    """Move the node if that is wanted; what speaks against it where that is told, and no more."""
    if iothread is None:
        return None
    context = find_iothread(t, iothread)
    if context is None:
        t.ev.refuse(NO_IOTHREAD, iothread=iothread)
        return None
    t.ev.accepted.add(NO_IOTHREAD.id)
    if not t.ev.holds(JOINS_IOTHREAD):
        return None
    try:
        aio_contexts.change(t, node, context)
    except Refusal as refusal:
        if fixed:
            raise
        t.ev.refused.discard(refusal.rule.id)
        return refusal if t.ev.holds(STAYS_AND_TELLS) else None
    return None


def _check_nbd(t: Transition, arguments: dict[str, Any]) -> None:
    ev = t.ev
    if arguments["type"] != "nbd":
        ev.leave(UNMODELLED, f"block-export-add/{arguments['type']}", type=arguments["type"])
    ev.check(NOT_RUNNING, t.nbd_server is not None)
    name = arguments.get("name", arguments["node-name"])
    ev.check(NAME_LONG, _bytes(name) <= _LONGEST, name=name)
    description = arguments.get("description", "")
    ev.check(DESCRIPTION_LONG, _bytes(description) <= _LONGEST, description=description)
    taken = any(export.export_name == name for export in t.exports.values())
    ev.check(NAME_TAKEN, not taken, name=name)
    ev.check(ONE_THREAD, not isinstance(arguments.get("iothread"), list))


def _check_bitmaps(t: Transition, arguments: dict[str, Any]) -> None:
    ev = t.ev
    for bitmap in arguments.get("bitmaps", ()):
        if isinstance(bitmap, str):
            ev.refuse(NO_BITMAP, bitmap=bitmap)
        else:
            ev.check(NO_BITMAP_NODE, bitmap["node"] in t.nodes, node=bitmap["node"])
            ev.refuse(NO_BITMAP_ON_NODE, bitmap=bitmap["name"])


@takes("id", inert={"mode": "nobody is connected, so that both modes take the export away"})
def block_export_del(t: Transition, arguments: dict[str, Any]) -> None:
    """Take an export away; nobody is connected, so the mode does not matter."""
    name = arguments["id"]
    t.ev.check(UNKNOWN, name in t.exports, id=name)
    _delete(t, t.exports[name])


def _delete(t: Transition, export: Export) -> None:
    with aio_contexts.locked(t, t.used(export.user, "root")[0]):
        remove_user(t, export.user)
    del t.exports[export.id]
    t.events.append({"event": "BLOCK_EXPORT_DELETED", "data": {"id": export.id}})


@takes()
def query_block_exports(t: Transition, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Every export, newest first."""
    return [
        {
            "id": export.id,
            "type": export.type,
            "node-name": t.used(export.user, "root")[0],
            "shutting-down": False,
        }
        for export in reversed(t.exports.values())
    ]
