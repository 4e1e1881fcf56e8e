"""Definitions carried over from their own files into one, each after what it uses."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from attnsearch.blocks import registry
from attnsearch.core.errors import UsageError

_LEFT_OUT = (
    "attnsearch.blocks.registry",
    "attnsearch.core.errors",
)  # `block` and `BlockError`; see `Collector.text`
_DECORATORS = ("block", "overridable")


class Collector:
    """Definitions that are needed, each after what it uses."""

    def __init__(self) -> None:
        self.files: dict[str, _File] = {}
        self.taken: dict[str, str] = {}  # name in the new file -> module that it came from
        self.order: list[tuple[_File, str]] = []
        self.needed: set[str] = set()

    def add(self, cls: type) -> str:
        """Take a class with all that it uses; the name it has in the new file."""
        return self._take(cls.__module__, cls.__name__)

    def imports(self, also: set[str]) -> str:
        """The import lines, the standard library first; only those of `also` that are used stay."""
        used = "\n".join([*self.text(), "torch. nn."])
        lines = self.needed | {line for line in also if re.search(rf"\b{line.split()[-1]}\b", used)}
        ours = sorted(line for line in lines if "torch" in line.split()[1])
        rest = sorted(lines - set(ours))
        return "\n".join(
            [*rest, *([""] if rest else []), *sorted(ours, key=lambda line: (line[0] != "i", line))]
        )

    def text(self) -> list[str]:
        """Source of every definition."""
        out = []
        for file, name in self.order:
            text = file.segment(file.definitions[name]).replace("BlockError", "ValueError")
            text = re.sub(r"  # type: ignore\S*", "", text)
            for old, new in file.renamed.items():
                text = re.sub(rf"\b{old}\b", new, text)
            out.append(text)
        return out

    def _take(self, module: str, name: str) -> str:
        file = self._file(module)
        if (file, name) in [(f, n) for f, n in self.order]:
            return file.renamed.get(name, name)
        if self.taken.setdefault(name, module) != module:
            file.renamed[name] = (
                f"{name}_of_{file.path.stem}" if name.islower() else f"{file.path.stem.upper()}_{name}"
            )
        for used in _names(ast.parse(file.segment(file.definitions[name]))):
            if used in file.definitions and used != name:
                self._take(module, used)
            elif used in file.imports:
                self._import(file, used)
        if (file, name) not in [(f, n) for f, n in self.order]:
            self.order.append((file, name))
        return file.renamed.get(name, name)

    def _import(self, file: _File, used: str) -> None:
        module, name = file.imports[used]
        if module in _LEFT_OUT:
            return
        if module.split(".")[0] == "attnsearch":
            if not module.startswith(("attnsearch.blocks", "attnsearch.build")) or not name:
                raise UsageError(f"{file.path} uses {module}, which a file without attnsearch cannot")
            self._take(module, name)
        elif not name and used == module.split(".")[0]:
            self.needed.add(f"import {module}")
        else:  # `import a.b as c` is written as `from a import b as c`, or both forms would stand in one file
            parent, _, leaf = (module, "", name) if name else module.rpartition(".")
            alias = "" if leaf == used else f" as {used}"
            self.needed.add(f"{f'from {parent} ' if parent else ''}import {leaf}{alias}")

    def _file(self, module: str) -> _File:
        if module not in self.files:
            plugins = {facts.module: facts.path for facts in registry.blocks().values()}
            spec = None if module in plugins else importlib.util.find_spec(module)
            path = plugins.get(module) or Path(str(spec.origin if spec else ""))
            self.files[module] = _File(path, module)
        return self.files[module]


@dataclass
class _File:
    """One Python file: its top-level definitions and its imports, as text."""

    path: Path
    module: str
    renamed: dict[str, str] = field(default_factory=dict)

    @cached_property
    def lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()

    @cached_property
    def definitions(self) -> dict[str, ast.stmt]:
        found: dict[str, ast.stmt] = {}
        for node in ast.parse("\n".join(self.lines)).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name):
                    found[target.id] = node
        return found

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """Local name -> (module, name in it), the name empty for a module itself."""
        found: dict[str, tuple[str, str]] = {}
        for node in ast.walk(ast.parse("\n".join(self.lines))):
            if isinstance(node, ast.ImportFrom) and node.module != "__future__":
                found.update({a.asname or a.name: (node.module or "", a.name) for a in node.names})
            elif isinstance(node, ast.Import):
                found.update({a.asname or a.name.split(".")[0]: (a.name, "") for a in node.names})
        return found

    def segment(self, node: ast.stmt) -> str:
        """The statement's lines, less our decorators and the method `resolve`."""
        dropped: set[int] = set()
        decorators = list(getattr(node, "decorator_list", []))
        first = min([node.lineno, *(each.lineno for each in decorators)])
        for each in decorators:
            called = each.func if isinstance(each, ast.Call) else each
            if getattr(called, "id", getattr(called, "attr", "")) in _DECORATORS:
                dropped |= set(range(each.lineno, (each.end_lineno or 0) + 1))
        for method in getattr(node, "body", []):
            if isinstance(method, ast.FunctionDef) and method.name == "resolve":
                begin = min([method.lineno, *(each.lineno for each in method.decorator_list)])
                dropped |= set(range(begin, (method.end_lineno or 0) + 1))
        kept = [self.lines[i - 1] for i in range(first, (node.end_lineno or 0) + 1) if i not in dropped]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).rstrip()


def _names(tree: ast.AST) -> list[str]:
    """Names that a statement reads, in the order they appear."""
    return list(dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))
