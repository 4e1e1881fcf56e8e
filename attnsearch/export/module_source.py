"""A network whose host is a model of the user's own, as a Python file beside a copy of the user's.

    source(network, host, folder="best_host", ...) -> text

The user's files are copied as they are, since nobody can write somebody's model out as well as they did. The file here
makes that model, writes the calls of the gates into its units as `build.rewrite` did, and puts blocks and head in.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import textwrap
from dataclasses import dataclass, field
from types import FunctionType

from torch import nn

from attnsearch.build import rewrite
from attnsearch.build.layers import Layer
from attnsearch.build.module_host import made
from attnsearch.build.parts import parts_of, stages_of
from attnsearch.core.errors import UsageError
from attnsearch.export.source import Expressions, file_text
from attnsearch.space import module_file
from attnsearch.space.arch import Arch

_LOADER = """_FOLDER = Path(__file__).with_name("{folder}")
{siblings}_spec = importlib.util.spec_from_file_location("{folder}", _FOLDER / "{file}")
host = importlib.util.module_from_spec(_spec)
sys.modules["{folder}"] = host
_spec.loader.exec_module(host)"""
_SIBLINGS = "sys.path.insert(0, str(_FOLDER))  # for the files that it imports\n"


@dataclass
class _Kind:
    """Units of one class that carry a gate: the class with calls written in, and (path, gate) of each unit."""

    cls: type
    name: str
    gates: list[tuple[str, str]] = field(default_factory=list)


def source(network: nn.Module, arch: Arch, *, folder: str, classes: int, in_channels: int, head: str) -> str:
    """The file's text; its function `Network` makes the network, (B, in_channels, H, W) -> (B, classes).

    Args:
        network: of the arch. folder: beside the file, with the copy of the user's. head: more lines of the docstring.

    Raises:
        UsageError: a method that cannot be written out, or a block that uses a part of attnsearch that is no block.
    """
    host = arch.host
    path = module_file.find(host.name, host.module, host.sha256)
    writer = _Writer(network)
    body = writer.body(made(path, host.make), host.make)
    siblings = _SIBLINGS if len(module_file.sources(path)) > 1 else ""
    first = f"{host.name}, {arch}: (B, {in_channels}, H, W) -> (B, {classes})."
    loader = _LOADER.format(folder=folder, file=host.module, siblings=siblings)
    doc = "def Network() -> nn.Module:  # noqa: N802 - made as if it were a class\n    " + f'"""{first}"""'
    collector = writer.expressions.collector
    collector.needed |= {"import importlib.util", "import sys", "from pathlib import Path"}
    imports = collector.imports({"import torch", "from torch import nn", "from torch import Tensor"})
    parts = [loader, *collector.text(), *writer.classes(), "\n".join([doc, *body])]
    return file_text([first, head], imports, parts)


class _Writer:
    """What was put into a model, as statements that put it into a fresh one."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.expressions = network, Expressions()
        self.kinds: dict[type, _Kind] = {}

    def body(self, fresh: nn.Module, make: str) -> list[str]:
        """The statements; `fresh` is the model as the user's function makes it."""
        lines = [f"network = host.{make}()", *self._head(fresh)]
        for layer in stages_of(self.network):
            lines += self._convs(layer)
            lines += self._gates(layer)
        for kind in self.kinds.values():
            gates = ",\n".join(f'        ("{path}", {gate})' for path, gate in kind.gates)
            lines += [
                f'kind = {kind.name}(type(network.get_submodule("{kind.gates[0][0]}")))',
                f"for path, gate in (\n{gates},\n    ):",
                "    unit = network.get_submodule(path)",
                "    unit.__class__ = kind",
                "    unit.attention = gate",
            ]
        return [f"    {line}" for line in (*lines, "return network")]

    def classes(self) -> list[str]:
        """Functions that make the classes of units with a gate."""
        return [_class(kind) for kind in self.kinds.values()]

    def _head(self, fresh: nn.Module) -> list[str]:
        path = parts_of(self.network).head.rstrip(".")
        ours, theirs = self.network.get_submodule(path), fresh.get_submodule(path)
        if not isinstance(ours, nn.Linear) or not isinstance(theirs, nn.Linear):
            raise UsageError(f"{path} is no linear layer")
        if ours.out_features == theirs.out_features:
            return []
        return [_put(path, self.expressions.expression(ours, 4))]

    def _convs(self, layer: Layer) -> list[str]:
        """Conv blocks, and what goes with those that norm and activate for themselves."""
        lines = []
        for unit in layer.units:
            conv = unit.module.get_submodule("conv2")
            if not hasattr(conv, "block_name"):
                continue
            lines.append(_put(f"{unit.path}.conv2", self.expressions.expression(conv, 4)))
            if getattr(conv, "normalized", False):
                gone = [n for n in ("bn2", "act2") if isinstance(getattr(unit.module, n, None), nn.Identity)]
                lines += [_put(f"{unit.path}.{name}", "nn.Identity()") for name in gone]
        return lines

    def _gates(self, layer: Layer) -> list[str]:
        """Sort the gates of units by their class; a gate behind a stage of torch's own kind is put there at once."""
        owners = {layer.path: layer.module, **{unit.path: unit.module for unit in layer.units}}
        lines = []
        for path, owner in owners.items():
            gate = owner._modules.get("attention")
            if gate is None:
                continue
            text = self.expressions.expression(gate, 12)
            cls = type(owner)
            if rewrite.changed_methods(cls)[1]:
                name = f"_gated_{cls.__name__}"
                taken = [kind.name for kind in self.kinds.values() if kind.cls is not cls]
                name = f"{name}_{len(taken)}" if name in taken else name
                self.kinds.setdefault(cls, _Kind(cls, name)).gates.append((path, text))
            else:
                lines.append(f'network.get_submodule("{path}").add_module("attention", {text})')
        return lines


def _put(path: str, expression: str) -> str:
    """An assignment to a module's place."""
    owner, _, name = path.rpartition(".")
    where = f'network.get_submodule("{owner}")' if owner else "network"
    return (
        f"{where}.{name} = {expression}"
        if name.isidentifier()
        else f'setattr({where}, "{name}", {expression})'
    )


def _class(kind: _Kind) -> str:
    """A function that makes a unit's class with the calls of its gate, from the class of a fresh model's unit."""
    base, methods = rewrite.changed_methods(kind.cls)
    lines = [
        f"def {kind.name}(base: type) -> type:",
        f'    """`{base.__name__}` with the call of its gate written into {" and ".join(methods)}."""',
    ]
    for name, method in methods.items():
        lines += [f"    {line}" for line in _method(base, name, method)]
    pairs = ", ".join(f'"{name}": {name}' for name in methods)
    return "\n".join([*lines, f"    return type(base.__name__, (base,), {{{pairs}}})"])


def _method(base: type, name: str, method: FunctionType) -> list[str]:
    """A method's source, after the names of its own file that it uses."""
    function = inspect.unwrap(method)
    text = textwrap.dedent("".join(linecache.getlines(function.__code__.co_filename)[1:-1])).rstrip()
    free = [variable for variable in function.__code__.co_freevars if variable != "__class__"]
    if free:
        raise UsageError(
            f"{base.__name__}.{name} uses {free[0]} of the function it is defined in; format py cannot"
        )
    tree = ast.parse(text)
    for node in ast.walk(tree):  # annotations are not evaluated in the file
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    used = dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    local = set(function.__code__.co_varnames)
    wanted = [n for n in used if n in function.__globals__ and n not in local and not hasattr(builtins, n)]
    lines = []
    if wanted:
        own = function.__globals__["__name__"]
        where = "host" if own.startswith("attnsearch_host_") else f'sys.modules["{own}"]'
        lines.append(f"own = {where}")
        lines += [f"{n} = own.{n}" for n in wanted]
    if "__class__" in function.__code__.co_freevars:  # of the class that defines it, for super()
        lines.append(f'__class__ = next(cls for cls in base.__mro__ if "{name}" in vars(cls))')
    return [*lines, "", *text.splitlines(), ""]


__all__ = ["source"]
