# SPDX-License-Identifier: GPL-2.0-or-later
"""A finding as a shell script that anyone with a QEMU build can run.

It needs a POSIX shell, ``qemu-img``, the program that was compared, and ``qemu-io`` where something
is written. The daemon's monitor speaks on standard input and output: it takes one command after
the other at its own pace, answers in order, and ends with ``quit`` (so on 5.2, 7.2, 10.0 and 11.1).
Each request carries its step as ``id``, by which the script finds its reply.

A trace that waits for jobs, reads or writes is driven: the script asks for the jobs until they
have come so far, and is a guest of the nodes through NBD (``templates/driven.sh``).
"""

from __future__ import annotations

import json
import shlex
from importlib import resources
from typing import TYPE_CHECKING

from model.commands.harness import DRIVING
from model.release.dialect import NoSuchDialectError
from model.release.dialects import find_dialect
from model.values.programs import STORAGE_DAEMON, Program
from model.values.trace import OBJECT, READ, WAIT, name_of

from reports.limits import MOST_TITLE, MOST_VALUE
from reports.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.values.trace import ImageSpec, Json, Observation

    from reports.values import Finding, Step

_DRIVEN = DRIVING.keys() - {OBJECT}
"""What the script does itself: a daemon has its objects from the start."""
_QUERIES = (
    '{"execute": "query-named-block-nodes", "arguments": {"flat": true}, "id": "nodes"}',
    '{"execute": "x-debug-query-block-graph", "id": "graph"}',
)

_HEAD = """\
#!/bin/sh
# {title}
# Found by reopencheck; needs QEMU's own programs only.
# QSD and QEMU_IMG choose them: QSD=/path/to/{binary} sh {name}
QSD=${{QSD:-{binary}}}
ARGUMENTS='{arguments}'
{objects}QEMU_IMG=${{QEMU_IMG:-qemu-img}}
QEMU_IO=${{QEMU_IO:-qemu-io}}
daemon=
scratch=$(mktemp -d "${{TMPDIR:-/tmp}}/reopencheck.XXXXXX") || exit 2
trap '[ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
cd "$scratch" || exit 2

"""

_RUN = """\

$QSD $ARGUMENTS "$@" <requests >replies 2>errors
status=$?
"""

_SHOW = """
# show STEP: what came of a step: the reply with its id, or what the script itself has seen
show() {
    if [ -f "$1.shown" ]; then
        LC_ALL=C tr -c ' -~\\n' '?' <"$1.shown" | while IFS= read -r line; do
            printf '  got       %s\\n' "$line"
        done
        return
    fi
    while IFS= read -r line; do
        case $line in
        *'"id": "'"$1"'"'*)
            printf '  got       %s\\n' "$line" | LC_ALL=C tr -c ' -~\\n' '?'
            return
            ;;
        esac
    done <replies
    printf '  got       (no reply)\\n'
}

"""

_TAIL = """\
echo "the daemon ended with status $status"
LC_ALL=C tr -c ' -~\\n' '?' <errors | while IFS= read -r line; do
    printf '  stderr    %s\\n' "$line"
done
"""

_HANG = """\

$QSD $ARGUMENTS "$@" <requests >replies 2>errors &
daemon=$!
(sleep 10; kill -9 "$daemon") >/dev/null 2>&1 &
watch=$!
wait "$daemon"
status=$?
daemon=
kill "$watch" 2>/dev/null
"""


def render(finding: Finding, name: str = "this-script") -> str:
    """The text of the script; it exits 0 whatever the daemon answered, 2 if it could not run."""
    program = _program(finding)
    head = {"title": _comment(finding.title), "name": _comment(name), "binary": program.binary}
    arguments = " ".join(program.arguments("stdio"))
    parts = [_HEAD.format(**head, arguments=arguments, objects=_objects(finding.steps))]
    for image in finding.images:
        parts.append(f"{_create(image)} || exit 2\n")
        parts += [f"{line} || exit 2\n" for line in _fill(image)]
    driven = any(name_of(step.command) in _DRIVEN for step in finding.steps)
    parts += _driven(finding.steps) if driven else _at_once(finding)
    parts.append(_SHOW)
    for number, step in enumerate(finding.steps, 1):
        parts.append(_say(f"{number}  {json.dumps(step.command)}"))
        if step.expected is not None:
            parts.append(_say(f"  expected  {json.dumps(step.expected.reply)}"))
        if name_of(step.command) == OBJECT:
            parts.append(_say("  got       (the daemon was started with it)"))
        else:
            parts.append(f"show step-{number}\n")
    if finding.difference is not None and not finding.difference.path.startswith("reply"):
        difference = finding.difference
        parts.append(_say(f"the difference is at {difference.path}:"))
        parts.append(_say(f"  expected  {json.dumps(difference.expected)}"))
        parts.append(_say(f"  seen      {json.dumps(difference.got)}"))
    parts.append(_say("the nodes and the graph at the end:"))
    parts += _expected_graph(finding.steps[-1].expected if finding.steps else None)
    parts.append("show nodes\nshow graph\n")
    parts.append(_TAIL)
    return "".join(parts)


def _program(finding: Finding) -> Program:
    """What was compared: the program that the finding's dialect is about."""
    try:
        return find_dialect(finding.dialect).program
    except NoSuchDialectError:
        return STORAGE_DAEMON


def _objects(steps: Iterable[Step]) -> str:
    """Shell that gives the daemon its objects as further arguments."""
    words: list[str] = []
    for step in steps:
        if name_of(step.command) == OBJECT:
            members = dict(step.command["arguments"])
            kind = members.pop("qom-type")
            told = [f"{name}={value}" for name, value in members.items()]
            words += ["--object", ",".join(each.replace(",", ",,") for each in (str(kind), *told))]
    if not words:
        return "set --\n"
    return f"set -- {shlex.join(words)}\n"


def _at_once(finding: Finding) -> Iterable[str]:
    """Give the daemon all commands in one file."""
    yield "\ncat >requests <<'END_OF_REQUESTS'\n"
    yield '{"execute": "qmp_capabilities"}\n'
    for number, step in enumerate(finding.steps, 1):
        if name_of(step.command) != OBJECT:
            yield json.dumps({**step.command, "id": f"step-{number}"}) + "\n"
    yield from (f"{query}\n" for query in _QUERIES)
    yield '{"execute": "quit"}\nEND_OF_REQUESTS\n'
    yield _HANG if finding.kind == "hang" else _RUN


def _driven(steps: Iterable[Step]) -> Iterable[str]:
    """Give the daemon one command after the other, and wait, read and write between them."""
    yield _template("driven.sh")
    yield _tell('{"execute": "qmp_capabilities"}')
    socket = ""
    for number, step in enumerate(steps, 1):
        execute = name_of(step.command)
        if execute == OBJECT:
            continue
        if execute in _DRIVEN:
            yield _drive(f"step-{number}", step, socket)
            continue
        yield _tell(json.dumps({**step.command, "id": f"step-{number}"}))
        if _accepted(step) and execute in {"nbd-server-start", "nbd-server-stop"}:
            socket = _path(step)
    yield from map(_tell, (*_QUERIES, '{"execute": "quit"}'))
    yield _template("driven-end.sh")


def _drive(name: str, step: Step, socket: str) -> str:
    arguments = step.command["arguments"]
    execute = step.command["execute"]
    if execute == WAIT:
        progress = str(arguments.get("progress", 0))
        return _call("reach", name, arguments["id"], arguments["status"], progress)
    node = json.dumps(arguments["node"])
    if execute == READ:
        return _call("read_node", name, node, socket)
    run = [str(arguments[member]) for member in ("offset", "length", "pattern")]
    return _call("write_node", name, node, *run, socket)


def _accepted(step: Step) -> bool:
    seen = step.got or step.expected
    return seen is not None and "return" in seen.reply


def _path(step: Step) -> str:
    """Where an NBD server that a step started listens; empty if it stopped it."""
    place: Json = step.command
    for member in ("arguments", "addr", "data", "path"):
        place = place.get(member) if isinstance(place, dict) else None
    return "" if place is None else str(place)


def _tell(request: str) -> str:
    return _call("tell", request)


def _call(*words: str) -> str:
    return shlex.join(words) + "\n"


def _template(name: str) -> str:
    return resources.files("reports").joinpath("templates", name).read_text(encoding="utf-8")


def _expected_graph(observation: Observation | None) -> list[str]:
    if observation is None:
        return []
    return [
        _say(f"  expected  {json.dumps({'return': answer})}")
        for answer in (observation.nodes, observation.graph)
        if answer is not None
    ]


def _create(image: ImageSpec) -> str:
    words = ["create", "-q", "-f", image.format]
    if image.backing is not None:
        words += ["-u", "-b", image.backing]
        if image.backing_format is not None:
            words += ["-F", image.backing_format]
    made = [*words, image.name, str(image.size)]
    if image.backing is None or image.backing_format is not None:
        return f"$QEMU_IMG {shlex.join(made)}"
    # Current releases do not make an image that keeps its backing format to itself. The
    # format is the first header extension, behind the 112 bytes of the header; four zero
    # bytes as its type end the list there (docs/interop/qcow2.txt).
    made = [*words, "-F", "raw", image.name, str(image.size)]
    forget = f"dd if=/dev/zero of={shlex.quote(image.name)} bs=1 seek=112 count=4 conv=notrunc"
    return f"$QEMU_IMG {shlex.join(made)} && {forget} 2>/dev/null"


def _fill(image: ImageSpec) -> Iterable[str]:
    """Write an image's data to it."""
    for offset, length, pattern in image.data:
        write = f"write -P {pattern} {offset} {length}"
        yield f"$QEMU_IO {shlex.join(['-f', image.format, '-c', write, image.name])} >/dev/null"


def _say(text: str) -> str:
    return f"printf '%s\\n' {shlex.quote(shown(text, MOST_VALUE))}\n"


def _comment(text: str) -> str:
    """A text that stays within the line of a comment."""
    return shown(" ".join(text.split()), MOST_TITLE)
