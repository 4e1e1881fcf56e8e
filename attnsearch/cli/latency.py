"""`attnsearch latency ARCH`: how long a forward pass takes on this machine."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from attnsearch.cli.common import (
    HostModule,
    Json,
    Plugins,
    add_plugins,
    allow_host_module,
    check_host_module,
    note,
    show_json,
    show_text,
    whole,
)
from attnsearch.cli.cost import ArchArgument, Classes, Image, ImageSize, setting
from attnsearch.core.errors import UsageError, unknown

DTYPES = ("float32", "bfloat16", "float16")


def _dtype(name: str) -> str:
    if name not in DTYPES:
        raise UsageError(unknown("dtype", name, DTYPES))
    return name


def latency(
    arch: ArchArgument,
    image: Image = None,
    image_size: ImageSize = None,
    classes: Classes = None,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, cuda or cuda:1.")] = "cpu",
    batch: Annotated[int, typer.Option("--batch", parser=whole, metavar="N", help="Images per pass.")] = 1,
    dtype: Annotated[
        str, typer.Option("--dtype", callback=_dtype, metavar="TYPE", help=f"One of {', '.join(DTYPES)}.")
    ] = "float32",
    repeats: Annotated[int, typer.Option("--repeats", parser=whole, metavar="N", help="Timed passes.")] = 30,
    plugin: Plugins = [],  # noqa: B006  # typer makes a fresh list for each call
    host_module: HostModule = None,
    json: Json = False,
) -> None:
    """Time a network on this machine.

    Median and quartiles of forward passes in eval mode, with what they hold for.
    """
    from attnsearch.space.presets import read_arch

    add_plugins(plugin)
    allow_host_module(host_module)
    network = read_arch(arch)  # a mistyped name is answered before torch is imported
    check_host_module(host_module, network.host.module, network.host.name)

    from dataclasses import asdict

    import torch

    from attnsearch.build.network import build_network
    from attnsearch.core.machine import cores
    from attnsearch.cost.measure import latency as measure_latency

    shape, outputs = setting(network, image, classes, image_size)
    model = build_network(network, classes=outputs, in_channels=shape[0])
    found = measure_latency(
        model, shape, device=device, batch=batch, dtype=getattr(torch, dtype), repeats=repeats
    )
    if (load := os.getloadavg()[0]) > cores():
        note(f"the machine is busy (load {load:.1f} on {cores()} cores), so these times mean little")
    if json:
        show_json({"arch": str(network), "image": list(shape), **asdict(found)})
        return
    show_text(
        f"{arch}: {found.median_ms:.2f} ms per pass of {batch}, {found.median_ms / batch:.2f} ms per image",
        "bold",
    )
    show_text(f"Half of {found.n} passes took {found.q25_ms:.2f} to {found.q75_ms:.2f} ms.")
    threads = "" if device.startswith("cuda") else f", {found.threads} threads"
    show_text(f"{found.device}{threads}, {found.dtype}, image {'×'.join(map(str, shape))}, eval mode, eager.")
