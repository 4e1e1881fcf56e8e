"""Where in a foreign unit a gate stands: the calls to write into its methods, found by a run and proved by another.

before_add  the end of the residual branch, before the addition, whatever the order of norm and convolution;
after a gate that the unit has already, and before stochastic depth, which drops the branch as a whole
after_conv  after conv2, before whatever reads it
after_add   what the unit returns
"""

from __future__ import annotations

import ast
import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnsearch.build import probe, rewrite
from attnsearch.build.probe import Addition, Call, Run
from attnsearch.build.rewrite import Edit, Expression
from attnsearch.core.errors import UsageError

_DROPS = ("DropPath", "StochasticDepth")  # zero a branch as a whole
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_CLASSES: dict[Any, type] = {}  # proved once: the same class, run the same way, takes the same calls


@dataclass(frozen=True)
class Place:
    """A place for a gate in one unit.

    Args:
        cls: the class that the unit takes; its methods call `self.attention` there.
        channels: of the map that the gate reads.
        gates_before: children of the unit that weigh the branch already, before this place.
    """

    cls: type
    channels: int
    gates_before: tuple[str, ...] = ()


def find(unit: nn.Module, position: str, width: int) -> Place:
    """The place of `position` in a unit that takes `width` channels; the unit is only read.

    Raises `UsageError` with the reason where the place cannot be told, or where no call can be written there.
    """
    copied = _copy(unit)
    seen = [_reads(copied, run, position) for run in _both(copied, width)]
    wheres = tuple(dict.fromkeys(place.where for place in seen))
    key = (type(unit), position, wheres)
    if key not in _CLASSES:
        _CLASSES[key] = _prove(copied, position, width, [_edits(unit, position, where) for where in wheres])
    return Place(_CLASSES[key], int(seen[0].map.shape[1]), seen[0].gates_before)


def out_channels(unit: nn.Module, width: int, position: str = "after_add") -> int:
    """Channels that a unit of `width` puts out, or those behind its conv2."""
    copied = _copy(unit)
    return int(_reads(copied, probe.run(copied, width), position).map.shape[1])


def norm_follows(unit: nn.Module, width: int) -> bool:
    """Whether bn2 reads what conv2 gives."""
    run = probe.run(_copy(unit), width)
    return [id(call.input) for call in run.of("bn2")] == [id(call.output) for call in run.of("conv2")]


def refuse_without_forward(unit: nn.Module) -> None:
    """Raise `UsageError` for a module whose class does not say what it computes: scripted, traced or patched ones."""
    if isinstance(unit, torch.jit.ScriptModule):
        raise UsageError("it is scripted already; insert first, then script")
    if type(unit).forward is nn.Module.forward:
        raise UsageError(
            "it has no forward of its own, as in a model traced by torch.fx; insert first, then trace"
        )
    if "forward" in vars(unit):
        raise UsageError("its forward was replaced on the instance, where no call can be written into it")


def _copy(unit: nn.Module) -> nn.Module:
    try:
        return probe.twin(unit, training=False)
    except Exception as error:  # a foreign module may refuse to be copied in any way
        raise UsageError(f"it cannot be copied to see what it does: {error}") from None


@dataclass(frozen=True)
class _Reading:
    """The map that a gate would read, the expression that makes or uses it, and the unit's own gates before it."""

    map: Tensor
    where: Expression | None
    gates_before: tuple[str, ...] = ()


def _both(copied: nn.Module, width: int) -> list[Run]:
    """A run in eval mode and one in train mode: a forward may read the flag."""
    return [probe.run(copied.train(training), width) for training in (False, True)]


def _reads(unit: nn.Module, run: Run, position: str) -> _Reading:
    if position == "after_add":
        return _Reading(_map(run.output), None)
    if position == "after_conv":
        calls = run.of("conv2")
        if len(calls) != 1:
            raise UsageError(f"conv2 runs {len(calls)} times a pass, and a gate stands once")
        return _Reading(_map(calls[0].output), calls[0].where)
    if len(run.additions) != 1:
        times = f"{len(run.additions)} times" if run.additions else "never"
        raise UsageError(
            f"its forward adds the residual branch to a shortcut {times}, so the end of the branch cannot be told"
        )
    (addition,) = run.additions
    branch, total = _map(addition.branch), _map(addition.result)
    if branch.shape != total.shape:
        widths = f"{tuple(branch.shape[1:])} and {tuple(total.shape[1:])}"
        raise UsageError(
            f"branch and sum differ in shape, {widths}, so the end of the branch is not of its width"
        )
    drop = _drop(unit, addition)
    return _Reading(branch, addition.where if drop is None else drop.where, _own_gates(unit, addition))


def _drop(unit: nn.Module, addition: Addition) -> Call | None:
    """The call of stochastic depth that ends the branch, before which a gate stands."""
    ends = [call for call in addition.before if call.output is addition.branch]
    kinds = [type(unit.get_submodule(call.child)).__name__ for call in ends]
    return next((call for call, kind in zip(ends, kinds, strict=True) if kind in _DROPS), None)


def _own_gates(unit: nn.Module, addition: Addition) -> tuple[str, ...]:
    """Children with parameters that the branch passes after its last convolution, but for norms."""
    named = {
        call.child: unit.get_submodule(call.child) for call in addition.before if call.child != "attention"
    }
    return tuple(
        name
        for name, child in named.items()
        if any(True for _ in child.parameters())
        and not isinstance(child, _NORMS)
        and not name.startswith(("bn", "norm", "act"))
    )


def _map(value: Any) -> Tensor:
    if isinstance(value, Tensor) and value.dim() == 4:
        return value
    shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    raise UsageError(f"a gate takes a map (B, C, H, W); here is {shape}")


def _edits(unit: nn.Module, position: str, where: Expression | None) -> list[tuple[Edit, ...]]:
    """Ways to write the call; which operand of an addition is the branch is left to the proof."""
    if position == "after_add":
        return [_around_returns(unit)]
    if where is None:
        raise UsageError("what stands there runs outside of the unit's own methods")
    method = rewrite.source(rewrite.resolved(type(unit), where.method))
    node = rewrite.node_at(where, method)
    if node is None:
        raise UsageError(f"the source of {method.function.__qualname__} is not what runs")
    ways: list[tuple[Edit, ...]]
    if position == "after_conv":
        ways = [] if isinstance(node, ast.AugAssign) else [rewrite.wrap(where.method, method, node)]
        return (
            [*ways, rewrite.wrap_if(where.method, method, node, "conv2")]
            if isinstance(node, ast.Call)
            else ways
        )
    ways = [rewrite.wrap(where.method, method, operand) for operand in _operands(node)]
    return (
        [*ways, rewrite.assign_before(where.method, method, node)]
        if isinstance(node, ast.AugAssign)
        else ways
    )


def _operands(node: ast.expr | ast.AugAssign) -> list[ast.expr]:
    if isinstance(node, ast.AugAssign):
        return [node.value]
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.Call):
        owner = [node.func.value] if isinstance(node.func, ast.Attribute) else []
        return [*node.args, *(keyword.value for keyword in node.keywords), *owner]
    return []


def _around_returns(unit: nn.Module) -> tuple[Edit, ...]:
    method = rewrite.source(rewrite.resolved(type(unit), "forward"))
    edits = [rewrite.wrap("forward", method, value) for value in rewrite.returned(method)]
    return tuple(itertools.chain.from_iterable(edits))


def _prove(copied: nn.Module, position: str, width: int, ways: list[list[tuple[Edit, ...]]]) -> type:
    """The class made by the one way of writing the calls that does what was asked in eval and in train mode."""
    base, problem = type(copied), "no way of writing the call into its forward puts the gate there"
    copied.attention = _Copy()
    for way in itertools.product(*ways):
        try:
            cls = rewrite.subclass(base, tuple(itertools.chain.from_iterable(way)))
            copied.__class__ = cls
            if all(_stands(copied, run, position) for run in _both(copied, width)):
                return cls
        except UsageError as error:
            problem = str(error)
        finally:
            copied.__class__ = base
    raise UsageError(problem)


class _Copy(nn.Module):
    """A gate that changes nothing but gives back another tensor, so that its output is told from its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


def _stands(unit: nn.Module, run: Run, position: str) -> bool:
    """Whether the gate ran once, at `position`."""
    gates = run.of("attention")
    if len(gates) != 1:
        return False
    (gate,) = gates
    if position == "after_add":
        return run.output is gate.output
    if position == "after_conv":
        return all(call.output is gate.input for call in run.of("conv2"))
    if len(run.additions) != 1:
        return False
    drop = _drop(unit, run.additions[0])
    return gate.output is (run.additions[0].branch if drop is None else drop.input)


__all__ = ["Place", "find", "norm_follows", "out_channels", "refuse_without_forward"]
