"""A YAML file as plain values, with the line of each; hostile files are refused, nothing is executed.

PyYAML composes the node graph; values are made here, so that tags run nothing, aliases cannot explode, and every
value keeps the line it came from.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from attnsearch.core.errors import SpaceError, UsageError

MAX_BYTES = 1_000_000
MAX_NODES = 20_000

# YAML 1.1 reads 1e-3 as a string; people mean 0.001.
_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
# YAML 1.1 reads 012 as ten, and 1:30 as ninety; people mean neither.
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_SEXAGESIMAL = re.compile(r"[-+]?\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?")
_MERGE = "tag:yaml.org,2002:merge"


@dataclass
class Document:
    """Plain values of a YAML file and where they stand; `lines` maps a path like `stages[0].attention` to a line."""

    source: str
    text: str
    values: Any
    lines: dict[str, int] = field(default_factory=dict)

    def line(self, path: str) -> int | None:
        """The line of a path, or of the nearest thing around it that has one."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path)


def read(path: Path) -> Document:
    """Read one YAML document; raises `UsageError` or `SpaceError` naming file, line and column."""
    if path.is_dir():
        raise UsageError(f"{path} is a directory, expected a YAML file")
    if not path.is_file():
        raise UsageError(f"Space file not found: {path}")
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path}: file too large ({path.stat().st_size:,} bytes; limit 1 MB)")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Document:
    """Parse the text of one YAML document."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise UsageError(f"{where}: {error.problem or error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{source}: not readable as YAML: {str(error).splitlines()[0]}") from None
    document = Document(source, text, None)
    if root is None:
        raise UsageError(f"{source} is empty")
    document.values = _Builder(document).value(root, "", 0)
    if document.values in (None, {}, []):
        raise UsageError(f"{source} is empty")
    return document


class _Builder:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.visited = 0
        self.scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, path: str, depth: int) -> Any:
        self.visited += 1
        if self.visited > MAX_NODES or depth > 50:
            raise UsageError(
                f"{self.document.source}: too many nodes (aliases count each time; limit {MAX_NODES:,})"
            )
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            raise self.refused(node, f"unsafe tag refused: {node.tag}")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(node.value)]
        return self.scalar(node)

    def mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.refused(key_node, "a key must be a word or a number")
            if key_node.tag == _MERGE:
                merged = {**self.merged(value_node, path, depth), **merged}
                continue
            key = self.scalar(key_node)
            inner = f"{path}.{key}" if path else str(key)
            if key in out:
                raise self.refused(key_node, f"key '{key}' stands twice")
            self.document.lines[inner] = key_node.start_mark.line + 1
            out[key] = self.value(value_node, inner, depth + 1)
        return {**merged, **out}

    def merged(self, node: yaml.Node, path: str, depth: int) -> dict[Any, Any]:
        """What `<<` brings in: a mapping, or a list of them of which the first to have a key gives its value."""
        found: dict[Any, Any] = {}
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(part, yaml.MappingNode):
                raise self.refused(part, "<< merges a mapping, or a list of mappings")
            found = {**self.value(part, path, depth + 1), **found}
        return found

    def scalar(self, node: yaml.Node) -> Any:
        if (
            node.tag == "tag:yaml.org,2002:str"
            and not getattr(node, "style", None)
            and _SCIENTIFIC.fullmatch(node.value)
        ):
            return float(node.value)
        kind = node.tag.rsplit(":", 1)[-1]
        if kind == "int" and _OCTAL.fullmatch(node.value):
            plain = node.value.replace("_", "").lstrip("+-0") or "0"
            raise self.refused(
                node, f"{node.value} is an octal number in YAML; write {plain}, or quote it if text is meant"
            )
        if kind in ("int", "float") and _SEXAGESIMAL.fullmatch(node.value):
            raise self.refused(
                node,
                f"{node.value} counts by sixties in YAML; write a plain number, or quote it if text is meant",
            )
        if kind not in ("int", "float", "bool", "null", "str"):
            raise self.refused(node, f"a {kind} has no meaning here; quote it if text is meant")
        try:
            value = self.scalars.construct_object(node)
        except (ValueError, LookupError, TypeError, yaml.YAMLError):  # PyYAML's own, on tags that do not fit
            raise self.refused(node, f"cannot read {node.value!r} as {kind}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self.refused(node, f"{node.value} is not a finite number")
        return value

    def refused(self, node: yaml.Node, why: str) -> UsageError:
        mark = node.start_mark
        return UsageError(f"{self.document.source}:{mark.line + 1}:{mark.column + 1}: {why}")


def problems_error(document: Document, problems: list[tuple[str, str]]) -> SpaceError:
    """All problems of a file in one error: each with its line and path."""
    sentences = []
    for path, message in problems:
        line = document.line(path)
        sentences.append(
            f"line {line}: {path}: {message}" if line and path else f"{path}: {message}" if path else message
        )
    return SpaceError(document.source, sentences)
