"""What a residual unit of somebody else's model does, seen by running a copy of it once.

Every call of PyTorch and of the unit's children is recorded with the expression of the unit's source that made it and
with what its tensors were computed from. So the end of the residual branch is known whatever the order of norm and
convolution: the operand of the addition that depends on the branch's convolutions, where the other does not.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attnsearch.build import rewrite
from attnsearch.build.rewrite import Expression
from attnsearch.core.errors import UsageError

UNIT = (
    "conv1",
    "bn1",
    "conv2",
    "bn2",
)  # the children by which a residual unit is known; bottlenecks add conv3, bn3
_SIZES = (8, 7, 14, 16, 28, 32, 56)  # of the map that a unit is run on; some units are built for one size
_ADDITIONS = frozenset({"add", "add_", "__add__", "__iadd__", "__radd__"})


@dataclass(frozen=True)
class Call:
    """One call of a child of the unit."""

    child: str
    where: Expression | None
    input: Tensor | None
    output: Tensor | None
    after_branch: bool  # its input was computed from the branch's last convolution


@dataclass(frozen=True)
class Addition:
    """An addition of the residual branch to something that was computed without it."""

    where: Expression | None
    branch: Tensor
    result: Tensor
    before: tuple[Call, ...]  # calls of children between the branch's last convolution and this addition


@dataclass(frozen=True)
class Run:
    """What one pass of a unit did."""

    calls: tuple[Call, ...]
    additions: tuple[Addition, ...]
    output: Any

    def of(self, child: str) -> tuple[Call, ...]:
        return tuple(call for call in self.calls if call.child == child)


def children(module: nn.Module) -> dict[str, nn.Module]:
    """The children by name; what a wrapper forwards to the module inside does not count."""
    return {name: child for name, child in module._modules.items() if child is not None}


def is_unit(module: nn.Module) -> bool:
    """Whether a module has the children of a residual unit, and is not a network of stages with a deep stem."""
    own = children(module)
    return all(name in own for name in UNIT) and not any(name.startswith("layer") for name in own)


def convolutions(unit: nn.Module) -> tuple[str, ...]:
    """The convolutions of the residual branch by name; the last ends it, but for norms and activations."""
    return tuple(name for name in ("conv1", "conv2", "conv3") if name in children(unit))


def twin(module: nn.Module, *, training: bool) -> nn.Module:
    """A copy of a module on the CPU in float32, for a pass that must leave the original alone."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for tensor in (*part._parameters.values(), *part._buffers.values(), *vars(part).values()):
            if isinstance(tensor, nn.Parameter):
                memo[id(tensor)] = nn.Parameter(tensor.detach().clone(), tensor.requires_grad)
            elif isinstance(tensor, Tensor):
                memo[id(tensor)] = tensor.detach().clone()
    made = copy.deepcopy(module, memo)
    for part in made.modules():
        part._forward_hooks.clear()  # a user's, which may keep what passes
    if all(not t.is_meta for t in (*made.parameters(), *made.buffers())):
        made = made.to("cpu")
    return made.float().train(training)


def run(unit: nn.Module, width: int) -> Run:
    """Run a copied unit on noise of `width` channels and record what it does; `UsageError` where it does not run."""
    first, problem = next(unit.parameters()), ""
    for size in _SIZES:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, width, size, size, generator=generator).to(first.device)
        recorder = _Recorder(unit, x)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), recorder:
                output = unit(x)
            return Run(tuple(recorder.calls), tuple(recorder.additions), output)
        except Exception as error:  # a foreign forward may raise anything
            problem = (
                problem
                or f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            )
        finally:
            recorder.close()
    raise UsageError(f"it does not run on a map of {width} channels ({problem})")


def in_channels(unit: nn.Module) -> int:
    """Channels that a unit takes: its first convolution's, or its first norm's."""
    for module in unit.get_submodule("conv1").modules():
        if isinstance(getattr(module, "in_channels", None), int):
            return int(module.in_channels)  # type: ignore[arg-type]
    for parameter in unit.get_submodule("conv1").parameters():
        if parameter.dim() == 4:
            return int(parameter.shape[1])
    raise UsageError("its conv1 has no convolution")


class _Recorder(TorchFunctionMode):
    """Follows tensors through a pass: which children each was computed from."""

    def __init__(self, unit: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.unit, self.branch = unit, convolutions(unit)
        self.methods = rewrite.methods(type(unit))
        self.sources: dict[int, frozenset[str]] = {id(x): frozenset({"input"})}
        self.alive: list[Tensor] = [x]  # an id is a tensor's as long as it lives
        self.calls: list[Call] = []
        self.additions: list[Addition] = []
        self.handles = [
            child.register_forward_hook(self._hook(name), with_kwargs=True)
            for name, child in children(unit).items()
        ]

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        operands = list(_tensors((args, kwargs or {})))
        sources = [self._of(tensor) for tensor in operands]
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in _ADDITIONS and len(operands) == 2:
            self._add(operands, sources, out)
        union = frozenset[str]().union(*sources)
        changed = list(_tensors(out)) or operands[:1]  # __setitem__ and the like return nothing
        for tensor in changed:
            self._mark(tensor, union)
        return out

    def _add(self, operands: list[Tensor], sources: list[frozenset[str]], out: Any) -> None:
        for i, j in ((0, 1), (1, 0)):
            ends = bool(self.branch) and self.branch[-1] in sources[i]
            if ends and "input" in sources[j] and not sources[j].intersection(self.branch):
                before = tuple(c for c in self.calls if c.after_branch and c.child in sources[i])
                self.additions.append(Addition(self._where(sys._getframe(2)), operands[i], out, before))

    def _hook(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            inputs, outputs = list(_tensors((args, kwargs))), list(_tensors(output))
            where = self._where(sys._getframe(1))
            union = frozenset[str]().union(*(self._of(tensor) for tensor in inputs))
            after = bool(self.branch) and self.branch[-1] in union - {name}
            self.calls.append(Call(name, where, next(iter(inputs), None), next(iter(outputs), None), after))
            for tensor in outputs:
                self._mark(tensor, union | {name})

        return hook

    def _where(self, frame: FrameType | None) -> Expression | None:
        """The innermost expression of the unit's own methods on the stack."""
        while frame is not None:
            if frame.f_code in self.methods:
                name, function = self.methods[frame.f_code]
                owner = (
                    frame.f_locals.get(function.__code__.co_varnames[0])
                    if function.__code__.co_varnames
                    else None
                )
                if owner is self.unit or frame.f_code is not function.__code__:
                    return rewrite.expression_of(frame, name, function)
            frame = frame.f_back
        return None

    def _of(self, tensor: Tensor) -> frozenset[str]:
        return self.sources.get(id(tensor), frozenset())

    def _mark(self, tensor: Tensor, sources: frozenset[str]) -> None:
        self.sources[id(tensor)] = self._of(tensor) | sources
        self.alive.append(tensor)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


__all__ = [
    "UNIT",
    "Addition",
    "Call",
    "Run",
    "children",
    "convolutions",
    "in_channels",
    "is_unit",
    "run",
    "twin",
]
