# SPDX-License-Identifier: GPL-2.0-or-later
"""Case files: one JSON document per failure, from which everything else can start.

A case may come from a stranger. Reading one validates its shape strictly and refuses whatever
reaches out of the scratch directory in which it is replayed (:mod:`checker.containment`).
``docs/case-format.md`` describes the format for readers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta

from checker.containment import Amount, Length, Pattern, check_command, check_images
from checker.errors import CaseError
from model.trace import ImageSpec, Observation, Trace
from reports.values import Difference, Finding, FindingKind, Step

VERSION = 1
"""The version of the format that this release writes, and the only one it reads."""

_MOST_BYTES = 64 * 1024 * 1024


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
    digest = hashlib.sha256(signature.encode()).hexdigest()[:10]
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", dialect).strip("-")[:60]
    return f"{plain}-{kind}-{digest}.json"


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def decode(data: bytes) -> Case:
    """A case from its bytes; :class:`CaseError` says in one line why it is none."""
    try:
        # The decoder of the standard library: commands may hold what QMP lets pass and
        # others refuse, integers of any size and lone surrogates.
        head = json.loads(data, parse_constant=_no_constant)
    except RecursionError:
        raise CaseError("not JSON: nested too deeply") from None
    except ValueError as error:
        raise CaseError(f"not JSON: {error}") from None
    if not isinstance(head, dict) or "reopencheck-case" not in head:
        raise CaseError('not a case: it has no member "reopencheck-case"')
    version = head["reopencheck-case"]
    if version != VERSION or isinstance(version, bool):
        raise CaseError(
            f"case format {json.dumps(version)} is not supported; this release reads {VERSION}"
        )
    try:
        case = msgspec.convert(head, Case)
    except msgspec.ValidationError as error:
        raise CaseError(f"not a valid case: {error}") from None
    if case.difference is not None and case.difference.step >= max(1, len(case.steps)):
        raise CaseError("not a valid case: its difference is at a step that it does not have")
    check_images(case.trace().images)
    for number, step in enumerate(case.steps, 1):
        check_command(number, step.command)
    return case


def load(path: Path) -> Case:
    """Read and validate a case file; :class:`CaseError` names the file."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CaseError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > _MOST_BYTES:
        raise CaseError(f"{path}: larger than {_MOST_BYTES >> 20} MiB, which no case is")
    try:
        return decode(data)
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None


def encode(case: Case) -> bytes:
    """The document as it is written: indented, members in the order of the schema."""
    return json.dumps(msgspec.to_builtins(case), indent=1).encode() + b"\n"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all; makes its directory.

    :class:`CaseError` says in one line why it cannot be (a full disk, no permission).
    """
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".partial", dir=path.parent)
        partial = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files that only their owner reads; results are for others too.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(path)
    except OSError as error:
        if partial is not None:
            with contextlib.suppress(OSError):
                partial.unlink()
        raise CaseError(f"cannot write {path}: {error.strerror or error}") from None


def write(case: Case, directory: Path) -> Path:
    """Write a case into ``directory`` under :func:`file_name`, and return its path."""
    path = directory / file_name(case.kind, case.dialect, case.signature)
    write_atomically(path, encode(case))
    return path


def load_known(directory: Path) -> dict[str, list[str]]:
    """The files in ``directory`` that show each hazard, by the hazard's identifier."""
    known: dict[str, list[str]] = {}
    if directory.is_dir():
        for path in sorted(directory.glob("*.json")):
            known.setdefault(load(path).provenance.get("hazard", "?"), []).append(path.name)
    return known


def schema() -> dict[str, Any]:
    """The JSON schema of a case, as published in ``docs/case.schema.json``."""
    document = msgspec.json.schema(Case)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "reopencheck case",
        **document,
    }
