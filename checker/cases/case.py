# SPDX-License-Identifier: GPL-2.0-or-later
"""Case files: one JSON document per failure, from which everything else can start.

A case may come from a stranger. Reading one validates its shape strictly and refuses whatever
is not allowed to reach a real program (:mod:`targets.gate.validation`).
``docs/case-format.md`` describes the format for readers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import inspect
import json
import math
import os
import re
import stat
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta

from checker.cases.case_limits import MOST_BYTES, MOST_DIGITS, check_document
from checker.cases.files import write_atomically
from checker.errors import CaseError
from model.values.trace import ImageSpec, Observation, Trace
from reports.shown import shown
from reports.values import Difference, Finding, FindingKind, Step
from targets.errors import ContainmentError
from targets.gate.validation import Amount, Length, Pattern, check_trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = 1
"""The version of the format that this release writes, and the only one it reads."""
_SHOWN = 40
"""Characters that are shown of a version that is none."""


class ImageEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True
):
    """An image file to create; ``size`` is in bytes, the names are plain file names.

    ``data`` are runs ``[offset, length, value]`` of bytes that are written one after the other.
    """

    name: str
    format: str
    size: Amount
    backing: str | None = None
    backing_format: str | None = None
    data: list[tuple[Amount, Length, Pattern]] = []

    def spec(self) -> ImageSpec:
        """The image as traces have it."""
        return ImageSpec(
            self.name, self.format, self.size, self.backing, self.backing_format, tuple(self.data)
        )


class ObservationEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True
):
    """What a step showed: the reply, and what it was asked for: the graph, jobs and exports."""

    reply: dict[str, Any]
    nodes: list[dict[str, Any]] | None = None
    graph: dict[str, Any] | None = None
    events: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] | None = None
    exports: list[dict[str, Any]] | None = None


class StepEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True
):
    """A QMP command, what was expected of it and what came."""

    command: dict[str, Any]
    expected: ObservationEntry | None = None
    got: ObservationEntry | None = None


class DifferenceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """The first disagreement; ``step`` counts from 0."""

    step: Annotated[int, Meta(ge=0)]
    path: str
    expected: Any = None
    got: Any = None


class Case(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True
):
    """A failure as a document. ``provenance`` is free text by topic, such as the command line."""

    format: Literal[1] = msgspec.field(name="reopencheck-case")
    kind: Literal["divergence", "crash", "hang", "exit", "protocol", "property"]
    signature: str
    title: str
    dialect: str
    steps: list[StepEntry]
    images: list[ImageEntry] = []
    release: str = ""
    seed: int | None = None
    difference: DifferenceEntry | None = None
    stderr: list[str] = []
    provenance: dict[str, str] = {}

    @property
    def size(self) -> tuple[int, int, int]:
        """How long it is: commands, images, and bytes of both."""
        document = [
            [step.command for step in self.steps],
            [msgspec.to_builtins(image) for image in self.images],
        ]
        return len(self.steps), len(self.images), len(json.dumps(document))

    def trace(self) -> Trace:
        """The images and commands, ready to be replayed."""
        return Trace(
            images=tuple(image.spec() for image in self.images),
            commands=tuple(step.command for step in self.steps),
        )

    def finding(self, case_file: str | None = None) -> Finding:
        """The case as the value that reports are made of."""
        difference = None
        if self.difference is not None:
            difference = Difference(
                self.difference.step,
                self.difference.path,
                self.difference.expected,
                self.difference.got,
            )
        return Finding(
            kind=self.kind,
            signature=self.signature,
            title=self.title,
            images=self.trace().images,
            steps=tuple(
                Step(step.command, _observation(step.expected), _observation(step.got))
                for step in self.steps
            ),
            difference=difference,
            case_file=case_file,
            release=self.release,
            dialect=self.dialect,
            seed=self.seed,
            stderr=tuple(self.stderr),
        )


def _observation(entry: ObservationEntry | None) -> Observation | None:
    if entry is None:
        return None
    return Observation(
        entry.reply, entry.nodes, entry.graph, tuple(entry.events), entry.jobs, entry.exports
    )


def _entry(observation: Observation | None) -> ObservationEntry | None:
    if observation is None:
        return None
    return ObservationEntry(
        observation.reply,
        observation.nodes,
        observation.graph,
        list(observation.events),
        observation.jobs,
        observation.exports,
    )


def from_finding(finding: Finding, provenance: dict[str, str] | None = None) -> Case:
    """The document that tells of a finding."""
    difference = None
    if finding.difference is not None:
        d = finding.difference
        difference = DifferenceEntry(d.step, d.path, d.expected, d.got)
    return Case(
        format=1,
        kind=finding.kind,
        signature=finding.signature,
        title=finding.title,
        dialect=finding.dialect,
        release=finding.release,
        seed=finding.seed,
        images=[
            ImageEntry(i.name, i.format, i.size, i.backing, i.backing_format, list(i.data))
            for i in finding.images
        ],
        steps=[
            StepEntry(step.command, _entry(step.expected), _entry(step.got))
            for step in finding.steps
        ],
        difference=difference,
        stderr=list(finding.stderr),
        provenance=provenance or {},
    )


def file_name(kind: FindingKind, dialect: str, signature: str) -> str:
    """The name of a case's file: the same for the same signature, so it is written once."""
    digest = hashlib.sha256(signature.encode(errors="surrogatepass")).hexdigest()[:10]
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", dialect).strip("-")[:60]
    return f"{plain}-{kind}-{digest}.json"


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word[:40]} is too large a number")
    return value


def _whole(word: str) -> int:
    digits = len(word.lstrip("-"))
    if digits > MOST_DIGITS:
        raise ValueError(f"a number of {digits} digits; the most is {MOST_DIGITS}")
    return int(word)


def decode(data: bytes) -> Case:
    """A case from its bytes; :class:`CaseError` says in one line why it is none."""
    try:
        # The decoder of the standard library: commands may hold what QMP lets pass and
        # others refuse, integers of any size and lone surrogates.
        head = json.loads(data, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise CaseError("not JSON: nested too deeply") from None
    except ValueError as error:
        raise CaseError(f"not JSON: {error}") from None
    if not isinstance(head, dict) or "reopencheck-case" not in head:
        raise CaseError('not a case: it has no member "reopencheck-case"')
    version = head["reopencheck-case"]
    if version != VERSION or isinstance(version, bool):
        told = "of that kind" if isinstance(version, (dict, list)) else json.dumps(version)
        raise CaseError(
            f"case format {told[:_SHOWN]} is not supported; this release reads {VERSION}"
        )
    check_document(head)
    try:
        case = msgspec.convert(head, Case)
    except msgspec.ValidationError as error:
        # The text names members as they stand in the file, whatever characters they have.
        raise CaseError(f"not a valid case: {shown(str(error))}") from None
    except UnicodeEncodeError:
        raise CaseError("not a valid case: a lone surrogate stands where none may") from None
    if case.difference is not None and case.difference.step >= max(1, len(case.steps)):
        raise CaseError("not a valid case: its difference is at a step that it does not have")
    try:
        check_trace(case.trace())
    except ContainmentError as error:
        raise CaseError(str(error)) from None
    return case


def load(path: Path) -> Case:
    """Read and validate a case file; :class:`CaseError` names the file."""
    try:
        # Opened so that a pipe nobody writes to keeps nobody waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CaseError(f"cannot read {path}: a case is a regular file, and this is none")
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise CaseError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise CaseError(f"cannot read {str(path)!a}: {error}") from None
    if len(data) > MOST_BYTES:
        raise CaseError(f"{path}: larger than {MOST_BYTES >> 20} MiB, which no case is")
    try:
        return decode(data)
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None


def encode(case: Case) -> bytes:
    """The document as it is written: indented, members in the order of the schema."""
    return json.dumps(msgspec.to_builtins(case), indent=1).encode() + b"\n"


def write(case: Case, directory: Path) -> Path:
    """Write a case into ``directory`` under :func:`file_name`, and return its path.

    A shorter case of the same signature that is there already is left alone.
    """
    return keep(case, directory)[0]


def keep(case: Case, directory: Path) -> tuple[Path, Case]:
    """Write a case as :func:`write` does; its path, and the case that stands there now.

    Cases only ever get shorter, whoever else writes into the directory meanwhile.
    """
    path = directory / file_name(case.kind, case.dialect, case.signature)
    with _alone(directory):
        there = _there(path)
        if there is not None and there.signature == case.signature and there.size < case.size:
            return path, there
        write_atomically(path, encode(case))
    return path, case


def _there(path: Path) -> Case | None:
    """The valid case that a file holds, None if it holds none."""
    try:
        return load(path)
    except CaseError:
        return None


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep other runs from writing into a directory at the same time, where it can be locked."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def load_known(directory: Path) -> dict[str, list[str]]:
    """The files in ``directory`` that show each hazard, by the hazard's identifier."""
    known: dict[str, list[str]] = {}
    if directory.is_dir():
        for path in sorted(directory.glob("*.json")):
            known.setdefault(load(path).provenance.get("hazard", "?"), []).append(path.name)
    return known


def schema() -> dict[str, Any]:
    """The JSON schema of a case, as published in ``docs/case.schema.json``.

    It is the same with every release of msgspec that the project can be used with.
    """
    document: dict[str, Any] = _canonical(msgspec.json.schema(Case))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "reopencheck case",
        **document,
    }


def _canonical(schema: Any) -> Any:
    """A schema without what differs between releases of msgspec and means nothing.

    Some keep the indentation of docstrings, and they disagree on the order of alternatives.
    """
    if isinstance(schema, list):
        return [_canonical(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _canonical(value) for key, value in schema.items()}
    if isinstance(result.get("description"), str):
        result["description"] = inspect.cleandoc(result["description"])
    if isinstance(result.get("anyOf"), list):
        result["anyOf"].sort(key=lambda each: json.dumps(each, sort_keys=True))
    return result
