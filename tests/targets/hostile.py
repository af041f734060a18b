# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces that reach out of the scratch directory or take much of the host: kinds by spellings.

Each is a name and a trace. None of them may reach a real program; none is run here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from model.values.trace import ImageSpec, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.values.trace import Command

MIB = 1 << 20
GIB = 1 << 30
IMAGES = (
    ImageSpec("hd0.qcow2", "qcow2", MIB),
    ImageSpec("hd1.raw", "raw", MIB),
)
Hostile = tuple[str, Trace]


def command(execute: str, **arguments: Any) -> Command:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return {"execute": execute, "arguments": named}


def add(**options: Any) -> Command:
    return command("blockdev-add", **{"node_name": "n", **options})


def alone(name: str, *commands: Command) -> Hostile:
    return name, Trace(IMAGES, commands)


FILE_NAMES = (
    "/etc/passwd",
    "//etc/passwd",
    "../hd0.raw",
    "..",
    "a/../../b",
    "a/b",
    "./../b",
    "~/x",
    "~root",
    "/proc/self/mem",
    "/dev/sda",
    "/dev/null/../sda",
    "/dev/fd/0",
    "/dev/zero0",
    "file:/etc/passwd",
    "file:x",
    "file:///etc/passwd",
    "nbd:127.0.0.1:10809",
    "nbd:unix:/run/nbd.sock",
    "nbd://localhost/x",
    "nbd+unix:///x?socket=/run/s",
    "blkdebug::/etc/passwd",
    "blkdebug:/etc/passwd:hd1.raw",
    "blkdebug::nbd:127.0.0.1:1",
    "blkdebug::blkdebug::/etc/passwd",
    "blkverify:/etc/passwd:hd1.raw",
    "blkverify:hd1.raw:/etc/passwd",
    "blkverify:hd1.raw:nbd:localhost:1",
    "fat:/etc",
    "fat:rw:/etc",
    "fat:rw:.",
    "host_device:/dev/sda",
    "host_cdrom:/dev/sr0",
    "http://localhost/x",
    "https://localhost/x",
    "ftp://localhost/x",
    "ssh://root@localhost/x",
    "iscsi://localhost/x/1",
    "rbd:pool/image",
    "gluster://localhost/v/x",
    "gluster+unix:///v/x?socket=/run/s",
    "nfs://localhost/x",
    "nvme://0000:01:00.0/1",
    "vxhs://x",
    "sheepdog:x",
    "null-co:///etc",
    "raw:x",
    "hd1.raw\n",
    "\nhd1.raw",
    "hd1.raw\0",
    "hd1 raw",
    "C:x",
    "-f",
    "+x/y",
    "x\\..\\y",
    "\u2024\u2024/x",
    "x" * 201 + "y",
    "/dev/nullzzz",
)
"""What is no plain file name, wherever one is expected."""

JSON_NAMES = (
    'json:{"driver":"file","filename":"/etc/passwd"}',
    "json:{'driver':'file','filename':'/etc/passwd'}",
    "json:{'driver':\"file\",\"filename\":'/etc/passwd'}",
    "json:{'driver':'file','filename':'\\/etc\\/passwd'}",
    "json:{'driver':'file','filename':'\\u002fetc\\u002fpasswd'}",
    'json:{"driver":"file","file\\u006eame":"/etc/passwd"}',
    "json: {'driver':'raw','file':{'driver':'file','filename':'/etc/passwd'}}",
    "json:\n{'driver':'raw','file.driver':'file','file.filename':'/etc/passwd'}",
    'json:{"driver":"raw","file.filename":"hd1.raw"}',
    'json:{"driver":"raw","file":{"filename":"hd1.raw"}}',
    'json:{"file":{"driver":"file","filename":"hd1.raw"}}',
    'json:{"filename":"hd1.raw"}',
    'json:{"driver":"file","filename":"hd1.raw","filename":"/etc/passwd"}',
    'json:{"driver":"nbd","driver":"null-co"}',
    'json:{"driver":"nbd","host":"localhost","port":"10809"}',
    'json:{"driver":"nbd","server.type":"inet","server.host":"::","server.port":"1"}',
    'json:{"driver":"nbd","server":{"type":"unix","path":"nbd.sock"}}',
    "json:{'driver':'nbd','server':{'type':'unix','path':'/run/s'}}",
    'json:{"driver":"vvfat","dir":"/etc","rw":true}',
    'json:{"driver":"host_device","filename":"/dev/sda"}',
    'json:{"driver":"blkdebug","config":"/etc/passwd","image":{"driver":"null-co"}}',
    'json:{"driver":"blkdebug","x-image":"/etc/passwd"}',
    'json:{"driver":"blkdebug","image.driver":"file","image.filename":"/x"}',
    'json:{"driver":"blkverify","x-raw":"/x","x-image":"/y"}',
    'json:{"driver":"quorum","vote-threshold":1,"children.0.driver":"file"}',
    'json:{"driver":"quorum","children":[{"driver":"file","filename":"/x"}]}',
    'json:{"driver":"qcow2","file":{"driver":"null-co"},"backing.driver":"nbd"}',
    'json:{"driver":"qcow2","cache-size":"4G","file":{"driver":"null-co"}}',
    'json:{"driver":"qcow2","l2-cache-size":1073741824,"file":{"driver":"null-co"}}',
    'json:{"driver":"null-co","latency-ns":"3600000000000"}',
    'json:{"driver":"null-co","size":99999999999999999999}',
    'json:{"driver":"null-co","size":-1}',
    'json:{"driver":"null-co","size":"1G"}',
    'json:{"driver":"null-co","read-zeroes":"on"}',
    'json:{"driver":"file","filename":"json:{}"}',
    'json:{"driver":"file","filename":"nbd:localhost:1"}',
    'json:{"driver":"zz"}',
    'json:{"driver":["nbd"]}',
    'json:{"driver":"null-co"} ',
    'json:{"driver":"null-co"}x',
    'json:{"driver":"null-co",/* */"size":1}',
    'json:{"driver":"null-co",}',
    "json:{driver:'null-co'}",
    "json:{'driver':'null-co'",
    "json:{",
    "json:",
    "json:[]",
    "json:'x'",
    "json:null",
    "json:" + "[" * 1000,
    "json:" + "{'driver':'raw','file':" * 900 + "{'driver':'null-co'}" + "}" * 900,
    'json:{"driver":"null-co","node-name":"/x"}',
    'json:{"driver":"throttle","throttle-group":"a:b","file":{"driver":"null-co"}}',
    "blkdebug::json:{'driver':'nbd'}",
    'JSON:{"driver":"null-co"}',
)
"""Names that are JSON for QEMU; a few of them it cannot read either."""

NAMING = {
    "filename": lambda name: add(driver="file", filename=name),
    "filename of a child": lambda name: add(
        driver="raw", file={"driver": "file", "filename": name}
    ),
    "base": lambda name: command("block-commit", device="n", base=name),
    "top": lambda name: command("block-commit", device="n", top=name),
    "backing-file": lambda name: command("block-stream", device="n", backing_file=name),
}
PLAIN_NAMES = {"null-co:///etc"}


def names() -> Iterator[Hostile]:
    for where in ("filename", "base", "backing-file"):
        for name in FILE_NAMES:
            yield alone(f"{where} {ascii(name)[:60]}", NAMING[where](name))
    for name in FILE_NAMES[::4]:
        yield alone(f"child {ascii(name)[:60]}", NAMING["filename of a child"](name))
        yield alone(f"top {ascii(name)[:60]}", NAMING["top"](name))
        yield alone(f"config {ascii(name)[:60]}", add(driver="blkdebug", config=name, image="x"))
        reopened = {"driver": "file", "node-name": "n", "filename": name}
        yield alone(f"reopen {ascii(name)[:60]}", command("blockdev-reopen", options=[reopened]))
        yield alone(f"5.2 reopen {ascii(name)[:60]}", command("x-blockdev-reopen", **reopened))
    for name in JSON_NAMES:
        if name != 'json:{"driver":"null-co"} ':
            yield alone(f"backing-file {ascii(name)[:70]}", NAMING["backing-file"](name))
        yield alone(f"filename {ascii(name)[:70]}", NAMING["filename"](name))
    deep = "json:" + "{'driver':'raw','file':" * 900 + "{'driver':'null-co'}" + "}" * 900
    yield alone("base of 900 nodes", NAMING["base"](deep))


SOCKETS = (
    {"type": "inet", "data": {"host": "127.0.0.1", "port": "10809"}},
    {"type": "inet", "data": {"host": "", "port": "0"}},
    {"type": "inet", "data": {"host": "localhost", "port": "1", "ipv4": True}},
    {"type": "vsock", "data": {"cid": "2", "port": "1"}},
    {"type": "fd", "data": {"str": "0"}},
    {"type": "fd", "data": {"str": "monitor"}},
    {"type": "unix", "data": {"path": "/run/nbd.sock"}},
    {"type": "unix", "data": {"path": "../nbd.sock"}},
    {"type": "unix", "data": {"path": "a/nbd.sock"}},
    {"type": "unix", "data": {"path": ""}},
    {"type": "unix", "data": {"path": "x", "abstract": True}},
    {"type": "unix", "data": {"path": "x", "abstract": True, "tight": False}},
    {"type": "unix", "data": {"path": "\0x"}},
    {"type": "unix", "data": {"path": "@x"}},
    {"type": "unix", "data": {"path": "missing/../nbd.sock"}},
    {"type": "unix", "path": "/run/nbd.sock"},
    {"type": "unix", "path": "nbd.sock", "abstract": 1.5, "data": {"path": "/x"}},
    {"type": "inet", "host": "::1", "port": "10809"},
    {"type": "unix", "data": {"path": "x", "host": "localhost"}},
)


def sockets() -> Iterator[Hostile]:
    for address in SOCKETS:
        yield alone(f"nbd server at {address}", command("nbd-server-start", addr=address))
        flat = {"type": address["type"], **dict(address.get("data", {}))}  # type: ignore[call-overload]
        yield alone(f"nbd client of {flat}", add(driver="nbd", server=flat))
        vhost = command("block-export-add", type="vhost-user-blk", id="e", node_name="n", addr=flat)
        yield alone(f"vhost-user at {flat}", vhost)
    yield alone(
        "many connections",
        command(
            "nbd-server-start", addr={"type": "unix", "data": {"path": "s"}}, max_connections=10**6
        ),
    )


OTHER_DRIVERS: dict[str, dict[str, Any]] = {
    "blklogwrites": {"file": "n", "log": {"driver": "file", "filename": "/x"}},
    "blkreplay": {"image": "n"},
    "bochs": {"file": "n"},
    "cloop": {"file": "n"},
    "dmg": {"file": "n"},
    "ftp": {"url": "ftp://localhost/x"},
    "ftps": {"url": "ftps://localhost/x"},
    "gluster": {"volume": "v", "path": "p", "server": [], "logfile": "/x"},
    "host_cdrom": {"filename": "/dev/sr0"},
    "http": {"url": "http://localhost/x"},
    "https": {"url": "https://localhost/x"},
    "io_uring": {"filename": "/dev/nvme0n1"},
    "iscsi": {"transport": "tcp", "portal": "localhost", "target": "t"},
    "luks": {"file": "n"},
    "nbd": {"export": "x"},
    "nfs": {"server": {"type": "inet", "host": "localhost"}, "path": "/x"},
    "nvme": {"device": "0000:01:00.0", "namespace": 1},
    "nvme-io_uring": {"path": "/dev/ng0n1"},
    "parallels": {"file": "n"},
    "qed": {"file": "n"},
    "rbd": {"pool": "p", "image": "i", "conf": "/x"},
    "sheepdog": {"server": {}, "vdi": "x"},
    "snapshot-access": {"file": "n"},
    "ssh": {"server": {"host": "localhost", "port": "22"}, "path": "/x"},
    "tftp": {},
    "vdi": {"file": "n"},
    "vhdx": {"file": "n"},
    "virtio-blk-vfio-pci": {"path": "/sys/x"},
    "virtio-blk-vhost-user": {"path": "x"},
    "virtio-blk-vhost-vdpa": {"path": "/dev/vhost-vdpa-0"},
    "vmdk": {"file": "n"},
    "vvfat": {"dir": "/etc", "rw": True},
    "vxhs": {},
    "NBD": {},
    "nbd ": {},
    "": {"filename": "/x"},
}


def drivers() -> Iterator[Hostile]:
    for driver, options in OTHER_DRIVERS.items():
        yield alone(f"driver {driver!r}", add(driver=driver, **options))
        if driver:
            inline = {"driver": driver, **options}
            yield alone(f"driver {driver!r} below", add(driver="raw", file=inline))
            quorum = add(driver="quorum", vote_threshold=1, children=["a", inline])
            yield alone(f"driver {driver!r} in a quorum", quorum)
            reopen = {"driver": "qcow2", "node-name": "n", "backing": inline}
            yield alone(
                f"driver {driver!r} by reopen", command("blockdev-reopen", options=[reopen])
            )
    dotted = {"file.driver": "file", "file.filename": "/etc/passwd"}
    yield alone("dotted", add(driver="raw", **dotted))
    yield alone("dotted below", add(driver="raw", file={"driver": "raw", **dotted}))
    yield alone("dotted plain", add(driver="raw", **{"file.filename": "x"}))
    for member in ("server", "host", "path", "url", "logfile", "dir", "x-image", "conf"):
        yield alone(f"{member} of null", add(driver="null-co", **{member: "/x"}))
        yield alone(f"{member} without a driver", command("blockdev-add", **{member: {"a": "b"}}))


COMMANDS: dict[str, dict[str, Any]] = {
    "migrate": {"uri": "exec:touch /srv/x"},
    "migrate-incoming": {"uri": "exec:touch /srv/x"},
    "migrate-recover": {"uri": "exec:touch /srv/x"},
    "migrate-set-parameters": {"max-bandwidth": 1},
    "human-monitor-command": {"command-line": "pmemsave 0 1 /srv/x"},
    "chardev-add": {"id": "c", "backend": {"type": "file", "data": {"out": "/srv/x"}}},
    "chardev-change": {"id": "c", "backend": {"type": "null", "data": {}}},
    "netdev_add": {"type": "socket", "id": "x", "listen": ":1234"},
    "memsave": {"val": 0, "size": 1, "filename": "x"},
    "pmemsave": {"val": 0, "size": 1, "filename": "x"},
    "screendump": {"filename": "x"},
    "dump-guest-memory": {"paging": False, "protocol": "file:x"},
    "dumpdtb": {"filename": "x"},
    "xen-save-devices-state": {"filename": "x"},
    "xen-load-devices-state": {"filename": "x"},
    "snapshot-save": {"job-id": "j", "tag": "t", "vmstate": "n", "devices": ["n"]},
    "snapshot-load": {"job-id": "j", "tag": "t", "vmstate": "n", "devices": ["n"]},
    "getfd": {"fdname": "x"},
    "add-fd": {},
    "add_client": {"protocol": "vnc", "fdname": "x"},
    "closefd": {"fdname": "x"},
    "drive-mirror": {"device": "n", "target": "/srv/x", "sync": "full"},
    "drive-backup": {"device": "n", "target": "json:{'driver':'file'}", "sync": "full"},
    "change-backing-file": {"device": "n", "image-node-name": "n", "backing-file": "/x"},
    "blockdev-snapshot-sync": {"node-name": "n", "snapshot-file": "/srv/x"},
    "blockdev-snapshot-internal-sync": {"device": "n", "name": "x"},
    "blockdev-change-medium": {"id": "x", "filename": "/etc/passwd"},
    "blockdev-insert-medium": {"id": "x", "node-name": "n"},
    "x-blockdev-amend": {"job-id": "j", "node-name": "n", "options": {"driver": "luks"}},
    "transaction": {"actions": [{"type": "drive-backup", "data": {"target": "/x"}}]},
    "nbd-server-add": {"device": "n", "writable": True},
    "block_passwd": {"password": "x"},
    "block-dirty-bitmap-add": {"node": "n", "name": "b", "granularity": 512},
    "block-set-write-threshold": {"node-name": "n", "write-threshold": 1},
    "block-latency-histogram-set": {"id": "x"},
    "block_set_io_throttle": {"bps": 1},
    "stop": {},
    "cont": {},
    "system_reset": {},
    "system_powerdown": {},
    "system_wakeup": {},
    "inject-nmi": {},
    "send-key": {"keys": []},
    "set-action": {"panic": "pause"},
    "watchdog-set-action": {"action": "reset"},
    "trace-event-set-state": {"name": "*", "enable": True},
    "qom-set": {"path": "/objects/io0", "property": "poll-max-ns", "value": 10**12},
    "qom-get": {"path": "/machine", "property": "type"},
    "ringbuf-write": {"device": "c", "data": "x"},
    "query-qmp-schema": {},
    "query-sev": {},
    "x-exit-preconfig": {},
    "x-query-rdma": {},
    "client_migrate_info": {"protocol": "spice", "hostname": "x"},
    "set_password": {"protocol": "vnc", "password": "x"},
    "expire_password": {"protocol": "vnc", "time": "now"},
    "change-vnc-password": {"password": "x"},
    "change": {"device": "vnc", "target": ":1"},
    "announce-self": {},
    "calc-dirty-rate": {"calc-time": 60},
    "replay-seek": {"icount": 1},
    "yank": {"instances": []},
    "device-list-properties": {"typename": "vfio-pci"},
    "qom-list-properties": {"typename": "memory-backend-epc"},
    "BLOCKDEV-ADD": {"driver": "nbd"},
    "blockdev-add ": {"driver": "nbd"},
    "__com.example_run": {"command": "x"},
    "some-command-to-come": {},
    "query-something-to-come": {},
}


def commands() -> Iterator[Hostile]:
    for execute, arguments in COMMANDS.items():
        yield alone(f"command {execute}", {"execute": execute, "arguments": arguments})
        yield alone(f"command {execute} out of band", {"exec-oob": execute, "arguments": arguments})
    for inner in (
        {"type": "pipe", "data": {"device": "/srv/x"}},
        {"type": "serial", "data": {"device": "/dev/ttyS0"}},
        {"type": "socket", "data": {"addr": {"type": "inet", "data": {}}, "server": True}},
        {"type": "null", "data": {"logfile": "/srv/x"}},
        {"type": "null", "data": {"logappend": 1}},
        {"type": "ringbuf", "data": {"size": GIB}},
        {"type": "pty", "data": {}},
        {"type": "stdio", "data": {}},
    ):
        yield alone(f"chardev {inner}", command("chardev-add", id="c", backend=inner))
    yield alone("odd arguments", {"execute": "migrate", "arguments": ["exec:x"]})
    yield alone("arguments beside", {"execute": "query-jobs", "uri": "exec:touch x"})
    yield alone("no name", {"arguments": {"uri": "exec:touch x"}})
    yield alone("list for a name", {"execute": ["migrate"], "arguments": {"uri": "exec:x"}})


DEVICES: dict[str, dict[str, Any]] = {
    "virtio-net-pci": {"netdev": "n"},
    "e1000": {"romfile": "/etc/passwd"},
    "vfio-pci": {"host": "0000:01:00.0"},
    "usb-host": {"hostbus": 1},
    "isa-serial": {"chardev": "c"},
    "ivshmem-plain": {"memdev": "m"},
    "nvme": {"serial": "x", "drive": "n"},
    "loader": {"file": "/etc/passwd", "addr": 0},
    "pci-testdev": {},
    "vhost-user-blk-pci": {"chardev": "c"},
    "virtio-9p-pci": {"fsdev": "x"},
    "scsi-generic": {"drive": "n"},
    "scsi-block": {"drive": "n"},
    "ide-hd": {"drive": "n"},
    "usb-storage": {"drive": "n"},
    "isa-debug-exit": {},
    "guest-loader": {"initrd": "/x"},
    "qxl": {"ram_size": GIB},
}
PROPERTIES: tuple[tuple[str, Any], ...] = (
    ("romfile", "/etc/passwd"),
    ("romfile", "x"),
    ("chardev", "c"),
    ("netdev", "n"),
    ("num-queues", 1024),
    ("queue-size", 1024),
    ("vectors", 4096),
    ("logical_block_size", 2 * MIB),
    ("driver.x", "y"),
    ("serial", {"a": "/x"}),
    ("addr", "/x"),
    ("memdev", "m"),
)


def devices() -> Iterator[Hostile]:
    for model, properties in DEVICES.items():
        yield alone(f"device {model}", command("device_add", driver=model, id="d", **properties))
    for model in ("virtio-blk-pci", "scsi-hd", "virtio-scsi-pci"):
        for name, value in PROPERTIES:
            given = {"driver": model, "id": "d", name: value}
            yield alone(f"{model} with {name} {value}", command("device_add", **given))


OBJECTS: dict[str, dict[str, Any]] = {
    "memory-backend-ram": {"size": 2 * GIB},
    "memory-backend-file": {"size": MIB, "mem-path": "/srv/x"},
    "memory-backend-memfd": {"size": 2 * GIB, "prealloc": True},
    "memory-backend-shm": {"size": 2 * GIB},
    "memory-backend-epc": {"size": GIB},
    "rng-random": {"filename": "/etc/passwd"},
    "rng-egd": {"chardev": "c"},
    "authz-listfile": {"filename": "/etc/passwd"},
    "authz-pam": {"service": "login"},
    "tls-creds-x509": {"dir": "/etc", "endpoint": "server"},
    "tls-creds-psk": {"dir": "/etc", "endpoint": "server"},
    "tls-creds-anon": {"endpoint": "server"},
    "secret_keyring": {"serial": 1},
    "pr-manager-helper": {"path": "/run/x"},
    "filter-dump": {"netdev": "n", "file": "/srv/x"},
    "input-linux": {"evdev": "/dev/input/event0"},
    "input-barrier": {"name": "x", "server": "localhost"},
    "can-host-socketcan": {"if": "can0", "canbus": "c"},
    "dbus-vmstate": {"addr": "unix:path=/run/x"},
    "x-remote-object": {"fd": "3", "devid": "d"},
    "x-vfio-user-server": {"socket": {"type": "unix", "path": "/x"}, "device": "d"},
    "qtest": {"chardev": "c", "log": "/srv/x"},
    "iommufd": {"fd": "3"},
    "monitor-hmp": {"chardev": "c"},
    "monitor-qmp": {"chardev": "c"},
    "thread-context": {"cpu-affinity": [0]},
    "main-loop": {"thread-pool-max": 10**6},
    "sev-guest": {"dh-cert-file": "/etc/passwd"},
    "colo-compare": {"primary_in": "c"},
    "cryptodev-backend": {},
    "cryptodev-vhost-user": {"chardev": "c"},
    "an-object-to-come": {},
}
PROPERTIES_OF_OBJECTS: tuple[dict[str, Any], ...] = (
    {"qom-type": "secret", "file": "/etc/shadow"},
    {"qom-type": "secret", "file": "shadow"},
    {"qom-type": "iothread", "thread-pool-max": 65},
    {"qom-type": "iothread", "thread-pool-min": 10**6},
    {"qom-type": "iothread", "poll-max-ns": 10**9},
    {"qom-type": "iothread", "poll-grow": 2**40},
    {"qom-type": "throttle-group", "x-iops-total": 1},
    {"qom-type": "throttle-group", "x-bps-write": 512},
    {"qom-type": "throttle-group", "limits": {"iops-total": 1}},
    {"qom-type": "throttle-group", "limits": {"bps-read": 1, "bps-read-max": 1}},
    {"qom-type": "throttle-group", "mem-path": "/x"},
    {"mem-path": "/x"},
    {"props": {"mem-path": "/x"}},
)


def objects() -> Iterator[Hostile]:
    for kind, properties in OBJECTS.items():
        arguments = {"qom-type": kind, "id": "o", **properties}
        yield alone(f"object {kind}", command("object-add", **arguments))
        own = command("reopencheck-object", **arguments)
        yield alone(f"object {kind} from the start", own)
    for properties in PROPERTIES_OF_OBJECTS:
        yield alone(f"object {properties}", command("object-add", **{"id": "o", **properties}))
    for name in ("a,file=/etc/shadow", "a b", "-x", "", "a\n", "a" * 65, 1):
        own = command("reopencheck-object", qom_type="iothread", id=name)
        yield alone(f"object {name!r} from the start", own)
    for data in ("x,file=/etc/shadow", "x,", "", "x\n"):
        own = command("reopencheck-object", qom_type="secret", id="s", data=data)
        yield alone(f"secret {data!r} from the start", own)


EXPORTS: tuple[dict[str, Any], ...] = (
    {"type": "fuse", "mountpoint": "hd1.raw"},
    {"type": "fuse", "mountpoint": "/mnt", "allow-other": "on"},
    {"type": "vduse-blk", "name": "v"},
    {"type": "vhost-user-blk", "addr": {"type": "unix", "path": "s"}},
    {"type": "vhost-user-blk", "addr": {"type": "fd", "str": "3"}},
    {"type": "an-export-to-come"},
    {"type": "nbd", "mountpoint": "/mnt"},
    {"type": "nbd", "addr": {"type": "unix", "path": "/x"}},
    {"type": "nbd", "num-queues": 1024},
)


def exports() -> Iterator[Hostile]:
    for options in EXPORTS:
        export = {"id": "e", "node-name": "n", **options}
        yield alone(f"export {options}", command("block-export-add", **export))


AMOUNTS: tuple[Command, ...] = (
    add(driver="qcow2", file="f", cache_size=GIB),
    add(driver="qcow2", file="f", l2_cache_size=2**40),
    add(driver="qcow2", file="f", refcount_cache_size=2**50),
    add(driver="raw", file={"driver": "qcow2", "file": "f", "cache-size": 65 * MIB}),
    add(driver="null-co", latency_ns=10**9),
    add(driver="null-co", latency_ns=3600 * 10**9),
    *(
        command("object-add", qom_type="throttle-group", id="t", **members)
        for members in (
            {"limits": {"iops-total": 1000, "iops-size": 1}},
            {"limits": {"iops-total": 1000, "iops-size": 4095}},
            {"x-iops-total": 1000, "x-iops-size": 512},
        )
    ),
    add(driver="null-aio", latency_ns=2**62),
    add(driver="preallocate", file="f", prealloc_size=2**40),
    add(driver="preallocate", file="f", prealloc_align=GIB),
    add(driver="copy-before-write", file="a", target="b", cbw_timeout=3600),
    add(driver="copy-before-write", file="a", target="b", min_cluster_size=2**40),
    add(driver="blkdebug", image="a", align=GIB),
    add(driver="blkdebug", image="a", inject_error=[{"event": "none", "delay-ns": 10**12}]),
    command("blockdev-mirror", device="a", target="b", sync="full", buf_size=GIB),
    command("blockdev-backup", device="a", target="b", sync="full", x_perf={"max-workers": 65}),
    command("blockdev-backup", device="a", target="b", sync="full", x_perf={"max-chunk": GIB}),
    command("reopencheck-write", node="n", offset=0, length=GIB, pattern=1),
    command("blockdev-create", job_id="j", options={"driver": "qcow2", "file": "f", "size": 2**50}),
    *(
        command("blockdev-create", job_id="j", options={**more, "file": "f", "size": MIB})
        for more in (
            {"driver": "qcow2", "preallocation": "full"},
            {"driver": "qcow2", "preallocation": "falloc"},
            {"driver": "qcow2", "backing-file": "/etc/passwd"},
            {"driver": "qcow2", "backing-file": "nbd:x:1"},
            {"driver": "qcow2", "data-file": {"driver": "file", "filename": "/x"}},
            {"driver": "qcow2", "cluster-size": 2**21},
            {"driver": "file", "filename": "/srv/x"},
            {"driver": "luks", "key-secret": "s"},
            {"driver": "ssh", "location": {"path": "/x"}},
            {"driver": "vmdk", "extents": ["/x"]},
        )
    ),
)


def amounts() -> Iterator[Hostile]:
    for number, given in enumerate(AMOUNTS):
        yield alone(f"amount {number} {json.dumps(given)[:90]}", given)
    null = [add(driver="null-co", node_name=f"n{n}") for n in range(3000)]
    yield alone("3,000 nodes", *null)
    yield alone("3,000 nodes in one command", add(driver="quorum", children=[{}] * 3000))
    thread = command("object-add", qom_type="iothread", id="t")
    yield alone("501 threads", *[thread] * 501)
    yield alone("100,000 commands", *[{"execute": "query-jobs"}] * 100_000)
    yield alone("a long text", add(driver="null-co", node_name="x" * 100_000))
    deep: Any = {"driver": "null-co"}
    for _ in range(900):
        deep = {"driver": "raw", "file": deep}
    yield alone("a deep node", add(driver="raw", file=deep))
    nested: Any = 1
    for _ in range(900):
        nested = [nested]
    yield alone("a deep id", {"execute": "query-jobs", "id": nested})


IMAGES_OF_STRANGERS: tuple[tuple[ImageSpec, ...], ...] = (
    *(
        (ImageSpec(name, "raw", MIB),)
        for name in ("../x", "/x", "-x", "a b", "nbd:x", "", ".", "x\n")
    ),
    *(
        (ImageSpec("x", "qcow2", MIB, name, "raw"),)
        for name in ("/etc/passwd", "nbd:localhost:1", "json:{}", "../x", "-x", "fat:rw:.")
    ),
    *((ImageSpec("x", kind, MIB),) for kind in ("vmdk", "luks", "raw; touch x", "-x", "vvfat", "")),
    *((ImageSpec("x", "qcow2", MIB, "y", kind),) for kind in ("nbd", "vvfat", "file", "luks", "")),
    (ImageSpec("x", "raw", 1 << 62),),
    (ImageSpec("x", "raw", -1),),
    (ImageSpec("x", "raw", MIB), ImageSpec("x", "raw", MIB)),
    (ImageSpec("x", "raw", MIB, data=((0, 2 * MIB, 1),)),),
    (ImageSpec("x", "raw", MIB, data=((-512, 512, 1),)),),
    (ImageSpec("x", "raw", MIB, data=((0, 512, 256),)),),
    (ImageSpec("x", "raw", 1 << 30, data=((0, 65 << 20, 1),)),),
    (ImageSpec("x", "raw", MIB, data=((0, 512, 1),) * 60_000),),
    tuple(ImageSpec(f"hd{n}", "raw", MIB) for n in range(1000)),
    (
        ImageSpec(
            "header",
            "raw",
            MIB,
            data=tuple((n, 1, byte) for n, byte in enumerate(b"QFI\xfb\0\0\0\2") if byte),
        ),
        ImageSpec("more", "raw", MIB, data=tuple((20 * n, 10, n) for n in range(1, 9))),
    ),
)


def images() -> Iterator[Hostile]:
    for number, specs in enumerate(IMAGES_OF_STRANGERS):
        yield f"images {number}", Trace(specs, ())


def write(node: str, offset: int, length: int) -> Command:
    return command("reopencheck-write", node=node, offset=offset, length=length, pattern=47)


BELOW = {"driver": "file", "filename": "hd0.qcow2", "node-name": "f"}
DISK = add(driver="qcow2", file=BELOW)


def composed() -> Iterator[Hostile]:
    """Bytes that could be put together to the header of an image, which names a file."""
    yield alone("a byte of a header", add(**{**BELOW, "node_name": "f"}), write("f", 520, 1))
    yield alone("a byte below a disk", DISK, write("f", 520, 1))
    other = add(driver="raw", node_name="r", file="f")
    yield alone("a byte through raw", DISK, other, write("r", 520, 1))
    own = {"driver": "file", "filename": "./hd0.qcow2"}
    yield alone("a byte by another spelling", add(driver="raw", file=own), write("n", 520, 1))
    windows = [add(driver="raw", node_name=f"w{n}", offset=n, file="f") for n in (1, 2)]
    yield alone("two windows", DISK, *windows)
    yield alone("a window and a byte", DISK, windows[0], write("n", 3, 1))
    pieces = [write("n", 20 * n, 10) for n in range(1, 6)]
    yield alone("many places", DISK, *pieces)
    mirror = command("blockdev-mirror", device="r", target="f", sync="full")
    ragged = (*IMAGES, ImageSpec("hd2.raw", "raw", MIB, data=((520, 5, 47),)))
    raw = add(driver="file", filename="hd2.raw", node_name="r")
    yield "bytes by a job", Trace(ragged, (DISK, raw, mirror))
    made = command(
        "blockdev-create", job_id="j", options={"driver": "qcow2", "file": "r", "size": 1}
    )
    yield "bytes of what is made", Trace(ragged, (raw, made, write("r", 520, 1)))


def hostile() -> list[Hostile]:
    """All of them."""
    return [
        *names(),
        *sockets(),
        *drivers(),
        *commands(),
        *devices(),
        *objects(),
        *exports(),
        *amounts(),
        *images(),
        *composed(),
    ]
