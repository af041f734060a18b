# SPDX-License-Identifier: GPL-2.0-or-later
"""A finding as a shell script that anyone with a QEMU build can run.

It needs a POSIX shell, ``qemu-img`` and ``qemu-storage-daemon``, nothing else. The
daemon's monitor speaks on standard input and output: it takes one command after the other
at its own pace, answers in order, and ends with ``quit`` (so on 5.2, 7.2, 10.0 and 11.1).
Each request carries its number as ``id``, by which the script finds its reply.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.trace import ImageSpec, Observation
    from reports.values import Finding

_QUERIES = (
    '{"execute": "query-named-block-nodes", "arguments": {"flat": true}, "id": "nodes"}',
    '{"execute": "x-debug-query-block-graph", "id": "graph"}',
)

_HEAD = """\
#!/bin/sh
# {title}
# Found by reopencheck; needs qemu-img and qemu-storage-daemon only.
# QSD and QEMU_IMG choose the programs: QSD=/path/to/qemu-storage-daemon sh {name}
QSD=${{QSD:-qemu-storage-daemon}}
QEMU_IMG=${{QEMU_IMG:-qemu-img}}
scratch=$(mktemp -d "${{TMPDIR:-/tmp}}/reopencheck.XXXXXX") || exit 2
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
cd "$scratch" || exit 2

"""

_RUN = """\

$QSD --chardev stdio,id=m --monitor chardev=m <requests >replies 2>errors
status=$?

# show NUMBER: the reply to a request, found by its id
show() {
    while IFS= read -r line; do
        case $line in
        *'"id": '"$1"[,}]*) printf '  got       %s\\n' "$line"; return ;;
        esac
    done <replies
    printf '  got       (no reply)\\n'
}

"""

_TAIL = """\
echo "the daemon ended with status $status"
while IFS= read -r line; do printf '  stderr    %s\\n' "$line"; done <errors
"""

_HANG = """\

$QSD --chardev stdio,id=m --monitor chardev=m <requests >replies 2>errors &
daemon=$!
(sleep 10; kill -9 "$daemon") >/dev/null 2>&1 &
watch=$!
wait "$daemon"
status=$?
kill "$watch" 2>/dev/null
"""


def render(finding: Finding, name: str = "this-script") -> str:
    """The text of the script; it exits 0 whatever the daemon answered, 2 if it could not run."""
    parts = [_HEAD.format(title=_comment(finding.title), name=_comment(name))]
    parts += [f"{_create(image)} || exit 2\n" for image in finding.images]
    parts.append("\ncat >requests <<'END_OF_REQUESTS'\n")
    parts.append('{"execute": "qmp_capabilities"}\n')
    for number, step in enumerate(finding.steps, 1):
        parts.append(json.dumps({**step.command, "id": number}) + "\n")
    parts += [f"{query}\n" for query in _QUERIES]
    parts.append('{"execute": "quit"}\nEND_OF_REQUESTS\n')
    run = _RUN
    if finding.kind == "hang":
        first, _, rest = _RUN.partition("status=$?\n")
        del first
        run = _HANG + rest
    parts.append(run)
    for number, step in enumerate(finding.steps, 1):
        parts.append(_say(f"{number}  {json.dumps(step.command)}"))
        if step.expected is not None:
            parts.append(_say(f"  expected  {json.dumps(step.expected.reply)}"))
        parts.append(f"show {number}\n")
    if finding.difference is not None and not finding.difference.path.startswith("reply"):
        difference = finding.difference
        parts.append(_say(f"the difference is at {difference.path}:"))
        parts.append(_say(f"  expected  {json.dumps(difference.expected)}"))
        parts.append(_say(f"  seen      {json.dumps(difference.got)}"))
    parts.append(_say("the nodes and the graph at the end:"))
    parts += _expected_graph(finding.steps[-1].expected if finding.steps else None)
    parts.append("show '\"nodes\"'\nshow '\"graph\"'\n")
    parts.append(_TAIL)
    return "".join(parts)


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


def _say(text: str) -> str:
    return f"printf '%s\\n' {shlex.quote(text)}\n"


def _comment(text: str) -> str:
    return " ".join(text.split())
