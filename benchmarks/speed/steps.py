"""One training step, on one thread: its arithmetic, what a gate adds to it, and where a training's time goes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from attnsearch.blocks import registry
from attnsearch.core.trial import Recipe
from attnsearch.space.arch import Arch

BLOCKS = ("none", "cbam")
STEPS = 8  # of which the median counts
GATED = "resnet8"  # a deeper host holds some gigabytes of non-local scores


def arch_of(host: str, block: str) -> Arch:
    """A CIFAR host with the gate in every unit."""
    stage = {} if block == "none" else {"attention": {"block": block}}
    return Arch.from_dict({"host": {"name": host}, "stages": [stage] * 3})


def recipe_of(args: argparse.Namespace) -> Recipe:
    return Recipe(epochs=args.epochs, batch_size=args.batch, lr=0.1, train_images=args.images)


def step(args: argparse.Namespace) -> dict[str, list[float]]:
    """A step's arithmetic per CPU second against matrix products of the same dtype, and its convolutions' alone."""
    import torch

    from attnsearch.build.resnet import build
    from attnsearch.cost.measure import measure

    torch.set_num_threads(1)
    work = 3 * 2 * measure(build(arch_of(args.host, "none")), image=(3, 32, 32)).macs * args.batch / 1e9
    found: dict[str, list[float]] = {}
    for dtype in ("float32", "bfloat16"):
        runs = {b: stepper(args.host, b, dtype, args.batch) for b in BLOCKS}
        a = torch.randn(1024, 1024).to(getattr(torch, dtype))
        convolutions = convolutions_of(args.host, getattr(torch, dtype), args.batch)
        times = in_turn({**runs, "convolutions": convolutions, "product": lambda a=a: a @ a})
        product = [2 * 1.024**3 / t for t in times["product"]]
        rate = {name: [work / t for t in times[name]] for name in ("none", "convolutions")}
        found[f"{dtype}: step of {args.host} (ms)"] = [1e3 * t for t in times["none"]]
        found[f"{dtype}: matrix product of 1024 (GFLOP/s)"] = product
        for name, words in (("none", "a step"), ("convolutions", "its convolutions alone")):
            found[f"{dtype}: {words} / the product's rate"] = ratios(rate[name], product)
        found[f"{dtype}: CBAM everywhere / none"] = ratios(times["cbam"], times["none"])
    return found


def convolutions_of(host: str, dtype: Any, batch: int) -> Callable[[], None]:
    """One call runs every convolution of the host forward and backward, as torch does, and nothing else."""
    import torch
    from torch import nn

    from attnsearch.build.resnet import build

    model, layers = build(arch_of(host, "none")), []

    def note(module: nn.Module, given: tuple[Any, ...], y: Any) -> None:
        assert isinstance(module, nn.Conv2d)
        x = torch.randn(batch, *given[0].shape[1:]).to(dtype, memory_format=torch.channels_last)
        g = torch.randn(batch, *y.shape[1:]).to(dtype, memory_format=torch.channels_last)
        layers.append((x, module.weight.detach().to(dtype), g, list(module.stride), list(module.padding)))

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    with torch.no_grad():
        model(torch.randn(2, 3, 32, 32))

    def run() -> None:
        for x, w, g, stride, padding in layers:
            torch.conv2d(x, w, None, stride, padding)
            wanted = [x.shape[1] != 3, True, False]  # nobody wants the images' gradient
            torch.ops.aten.convolution_backward(
                g, x, w, None, stride, padding, [1, 1], False, [0, 0], 1, wanted
            )

    return run


def gates(args: argparse.Namespace) -> dict[str, list[float]]:
    """A ResNet-8's training step with each gate in every unit, over the step without; beside it, its MACs over."""
    import torch

    from attnsearch.build.resnet import build
    from attnsearch.cost.measure import measure

    torch.set_num_threads(1)
    base = measure(build(arch_of(GATED, "none")), image=(3, 32, 32)).macs
    plain, found = stepper(GATED, "none", "auto", args.batch), {}
    for name in sorted(registry.blocks()):
        if registry.info(name).slot != "attention":
            continue
        times = in_turn({"none": plain, name: stepper(GATED, name, "auto", args.batch)}, 5)
        macs = measure(build(arch_of(GATED, name)), image=(3, 32, 32)).macs / base
        found[f"{name} (MACs x {macs:.2f})"] = ratios(times[name], times["none"])
    return found


def fused(args: argparse.Namespace) -> dict[str, list[float]]:
    """A ResNet-8's training step by torch alone over the step with the fused kernels, turn by turn.

    `ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16` stands in for a processor without AMX.
    """
    import torch

    from attnsearch.train import fit

    def without_kernels(step: Callable[[], None]) -> None:
        kernels, fit._fused = fit._fused, lambda device: nullcontext()
        try:
            step()
        finally:
            fit._fused = kernels

    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    for dtype in ("bfloat16", "float32"):
        for name in ("none", "se", "cbam"):
            step = stepper(GATED, name, dtype, args.batch)
            times = in_turn({"torch": lambda step=step: without_kernels(step), "fused": step}, 7)
            found[f"{name}, {dtype}: torch / fused"] = ratios(times["torch"], times["fused"])
    return found


def stepper(host: str, block: str, dtype: str, batch: int) -> Callable[[], None]:
    """One call is one training step: what `fit` does for an epoch of one batch."""
    import torch

    from attnsearch.build.resnet import build
    from attnsearch.train import fit
    from attnsearch.train.images import DeviceData

    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 32, 32, 3), dtype=torch.uint8, generator=drawn).permute(0, 3, 1, 2)
    labels = torch.randint(0, 10, (batch,), generator=drawn)
    halves = images, labels, images[:1], labels[:1]
    data = DeviceData(*halves, mean=(0.5,) * 3, std=(0.25,) * 3, augment=("flip", "crop"))
    recipe = Recipe(epochs=10**6, batch_size=batch, precision=dtype, lr=1e-4)  # type: ignore[arg-type]
    model = build(arch_of(host, block), seed=0)
    training = fit.Training(model, data, recipe, seed=0)
    return lambda: float(training.train_epoch()) and None


def in_turn(runs: dict[str, Callable[[], Any]], repeats: int = STEPS) -> dict[str, list[float]]:
    """CPU seconds of each call, called in turns so that a neighbour hits all alike; the first turn warms up."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, call in runs.items():
            began = time.process_time()
            call()
            if turn:
                taken[name].append(time.process_time() - began)
    return taken


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Turn by turn."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def shares(args: argparse.Namespace) -> dict[str, list[float]]:
    """Where one training's time goes, in percent, by clocks around the parts of `fit`."""
    import torch

    from attnsearch.build.resnet import build
    from attnsearch.data import open_data
    from attnsearch.train import fit
    from attnsearch.train.images import device_data

    torch.set_num_threads(1)
    data = open_data(args.data)
    recipe = replace(recipe_of(args), epochs=1)
    there = device_data(data, recipe, "cpu")
    clock: dict[str, float] = dict.fromkeys(("data", "forward", "backward", "optimiser", "validation"), 0.0)
    found: dict[str, list[float]] = {}
    for block in BLOCKS:
        stepper(
            args.host, block, "auto", args.batch
        )()  # what is loaded or compiled once is no part of a trial
        clock = dict.fromkeys(clock, 0.0)
        model = build(arch_of(args.host, block), classes=len(data.classes), seed=0)
        with clocks(fit, model, clock):
            began = time.process_time()
            fit.fit(model, there, recipe, seed=0)
            whole = time.process_time() - began
        found |= {f"{block}: {name} (%)": [100 * seconds / whole] for name, seconds in clock.items()}
        found[f"{block}: rest (%)"] = [100 * (1 - sum(clock.values()) / whole)]
    return found


@contextmanager
def clocks(train: Any, model: Any, clock: dict[str, float]) -> Iterator[None]:
    """Count CPU seconds into `clock` while inside."""
    import torch

    inside = {"validation": False}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                if name == "validation" or not inside["validation"]:
                    clock[name] += time.process_time() - began

        return call

    def validation(*args: Any, **kwargs: Any) -> Any:
        inside["validation"] = True
        try:
            return timed("validation", evaluate)(*args, **kwargs)
        finally:
            inside["validation"] = False

    evaluate, before = train.evaluate, (train.augment, train.normalise, torch.Tensor.backward)
    torch.optim.SGD.step, step = timed("optimiser", torch.optim.SGD.step), torch.optim.SGD.step  # type: ignore[method-assign]
    train.augment, train.normalise = timed("data", train.augment), timed("data", train.normalise)
    train.evaluate, torch.Tensor.backward = validation, timed("backward", torch.Tensor.backward)
    model.forward = timed("forward", model.forward)
    try:
        yield
    finally:
        train.evaluate, (train.augment, train.normalise, torch.Tensor.backward) = evaluate, before
        torch.optim.SGD.step = step  # type: ignore[method-assign]
        del model.forward


def stacked(args: argparse.Namespace) -> dict[str, list[float]]:
    """Four seeds of a layer as one grouped convolution against four convolutions: CPU time, forward and backward."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(1)
    found = {}
    for channels, size in ((16, 32), (64, 8)):
        x = torch.randn(args.batch, channels, size, size).bfloat16()
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        wide = torch.cat([x.detach()] * 4, 1).contiguous(memory_format=torch.channels_last).requires_grad_()
        w = torch.randn(channels, channels, 3, 3, dtype=torch.bfloat16, requires_grad=True)
        wides = torch.randn(4 * channels, channels, 3, 3, dtype=torch.bfloat16, requires_grad=True)
        times = in_turn(
            {
                "one": lambda x=x, w=w: [F.conv2d(x, w, padding=1).sum().backward() for _ in range(4)],
                "grouped": lambda x=wide, w=wides: F.conv2d(x, w, padding=1, groups=4).sum().backward(),
            }
        )
        found[f"{channels} channels: grouped / four alone"] = ratios(times["grouped"], times["one"])
    return found
