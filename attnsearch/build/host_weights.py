"""Pretrained: a host that starts from a checkpoint, or the reason why it does not, with the host that would."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from attnsearch.build.checkpoint import Checkpoint, read_checkpoint, sha256
from attnsearch.build.hub_weights import fetched
from attnsearch.build.network import build_network
from attnsearch.build.parts import parts_of
from attnsearch.build.resnet import ResNet
from attnsearch.build.tensor_names import COUNTER, LoadReport, load, plain_names
from attnsearch.core.checks import CHOICE, split_weights
from attnsearch.core.errors import UsageError
from attnsearch.core.trial import Weights
from attnsearch.space.arch import HOSTS, Arch, Host, plain

LEAST_SHARE = 0.95  # of the host's own tensors: below it the file is another network's
_STEM = re.compile(r"^(?!.*layer\d).*conv1(\.0)?\.weight$")
_HEAD = re.compile(r"(^|\.)(fc|linear|classifier|head)(\.\d+|\.fc)?\.weight$")
_FIRST = re.compile(r"^(.*?)layer(\d+)\.(\d+)\.conv1\.weight$")


def load_host(
    model: nn.Module, checkpoint: Checkpoint, host: Host | None = None, *, head: bool = False
) -> LoadReport:
    """Load a checkpoint into a network that was built from an arch, blocks and all, in place.

    Args:
        host: of that arch; None for a `ResNet`, which knows it.
        head: whether the head must be loaded too, for a network that is used as it is.

    Raises:
        UsageError: less than 95 % of the host's own tensors are in the file, or residual units that the host lacks,
            with the host that it would fit; images of another number of channels; a head of another number of
            classes, where one is needed.
    """
    if host is None:
        assert isinstance(model, ResNet)
        host = model.arch.host
    _check_channels(model, checkpoint)
    try:
        report = load(model, checkpoint)
    except UsageError as error:
        raise UsageError(
            f"{error}{_advice(checkpoint, host)}" if "fits the model" in str(error) else str(error)
        ) from None
    own, loaded = own_tensors(model, host), set(report.loaded)
    share = sum(key in loaded for key in own) / len(own)
    if share < LEAST_SHARE:
        raise UsageError(
            f"{checkpoint.source}: {100 * share:.0f} % of the tensors of {_named(host)} are in it, "
            f"{100 * LEAST_SHARE:.0f} % are needed ({_fault(own, report)}).{_advice(checkpoint, host)}"
        )
    # All of a shallow host's tensors are in a deeper one's checkpoint too; what they compute together is not.
    deeper = [name for name in report.unexpected if name.endswith(".conv1.weight")]
    if deeper:
        raise UsageError(
            f"{checkpoint.source}: it is of a deeper network than {_named(host)}: {len(deeper)} residual "
            f"units would be left out, as that of {deeper[0]}.{_advice(checkpoint, host)}"
        )
    if head and not {key for key in model.state_dict() if key.startswith(parts_of(model).head)} <= loaded:
        why = next((note for note in report.notes if "head" in note), "the file has no head")
        raise UsageError(f"{checkpoint.source}: without a head that fits there is nothing to evaluate; {why}")
    return report


def start(
    arch: Arch, weights: Weights | None, *, classes: int, in_channels: int, seed: int | None
) -> nn.Module:
    """An arch as a network, with a study's weights in it where there are any.

    Raises:
        UsageError: the file is not the one that the study began with, or is not of this host.
    """
    model = build_network(arch, classes=classes, in_channels=in_channels, seed=seed)
    if weights is not None:
        load_host(model, _known(weights), arch.host)
    return model


@lru_cache(maxsize=1)  # every training of a worker starts from the same file
def _known(weights: Weights) -> Checkpoint:
    if (found := sha256(weights.path)) != weights.sha256:
        raise UsageError(
            f"the weights {weights.path} have changed: SHA-256 {found[:12]}, the study began with {weights.sha256[:12]}"
        )
    return read_checkpoint(weights.path)


def identify(path: str) -> Weights:
    """A file of weights by its absolute path and its hash; raises `UsageError` where there is none."""
    path = fetched(path)
    file, choice = split_weights(path)
    full = str(file.absolute()) + (f"{CHOICE}{choice}" if choice else "")
    return Weights(full, sha256(path))


def own_tensors(model: nn.Module, host: Host) -> list[str]:
    """Names of the host's tensors in a model: no block's, not the head's, no counters of batch norms."""
    first = next(part for part in model.modules() if isinstance(part, nn.Conv2d))
    with torch.device("meta"):
        bare = build_network(plain(host), in_channels=first.in_channels).state_dict()
    own, head = model.state_dict(), parts_of(model).head
    return [key for key in bare if key in own and not key.startswith(head) and not key.endswith(COUNTER)]


def nearest_host(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The host that a state dict was made for, as a space file names it; None where its names are no ResNet's."""
    named = {name: state[key] for name, key in plain_names(state).items()}
    counts = Counter(found[1] for name in named if (found := _FIRST.match(name)))
    if not counts:
        return None
    prefix = counts.most_common(1)[0][0]
    tensors = {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
    units: Counter[int] = Counter(int(found[2]) for name in tensors if (found := _FIRST.match(name)))
    stages = tuple(units[stage] for stage in range(1, len(units) + 1))
    host = Host(**_shape(tensors, stages), stem=_stem(tensors), **_shortcut(tensors))  # type: ignore[arg-type]
    return _brief(host)


def _shape(tensors: Mapping[str, Tensor], units: tuple[int, ...]) -> dict[str, Any]:
    """Name, width and unit by the first unit of the first stage."""
    deep = "layer1.0.conv3.weight" in tensors
    conv = tensors["layer1.0.conv2.weight" if "layer1.0.conv2.weight" in tensors else "layer1.0.conv1.weight"]
    inner = conv.shape[0]
    groups = inner // conv.shape[1] if deep else 1
    width = tensors["layer1.0.conv3.weight"].shape[0] // 4 if deep else inner
    shape: dict[str, Any] = {"width": width, "unit": "bottleneck" if deep else "basic"}
    if deep:
        shape |= {"cardinality": groups, "base_width": inner * 64 // (width * groups)}
    names = [name for name, own in HOSTS.items() if own == units]
    name = next((n for n in names if Host(n).filled().unit == shape["unit"]), "")
    if not name:
        name = "resnet50" if deep else "resnet20" if len(units) == 3 else "resnet18"
        shape["units"] = units
    return {"name": name, **shape}


def _stem(tensors: Mapping[str, Tensor]) -> str:
    """Three convolutions of two widths are a tiered stem, of one width a deep one; a single one by its kernel."""
    if "conv1.0.weight" in tensors:
        three = all(f"conv1.{i}.weight" in tensors for i in (0, 3))
        return "tiered" if three and len({len(tensors[f"conv1.{i}.weight"]) for i in (0, 3)}) > 1 else "deep"
    small = "conv1.weight" in tensors and tensors["conv1.weight"].shape[-1] <= 3
    return "cifar" if small else "imagenet"


def _shortcut(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """By the tensors of the first unit of the second stage, which changes the shape."""
    unit = "layer2.0.downsample"
    conv = next((i for i in (0, 1) if tensors.get(f"{unit}.{i}.weight", torch.empty(0)).dim() == 4), None)
    if conv is None:
        return {"shortcut": "pad"}
    return {"shortcut": ("conv", "pool")[conv], "shortcut_bias": f"{unit}.{conv}.bias" in tensors}


def _brief(host: Host) -> dict[str, Any]:
    """The host's fields that are not its name's own."""
    usual, full = Host(host.name).filled(), host.filled()
    fields = ("width", "stem", "unit", "units", "shortcut", "shortcut_bias", "cardinality", "base_width")
    changed = {f: getattr(full, f) for f in fields if getattr(full, f) != getattr(usual, f)}
    return {"name": host.name, **{k: list(v) if isinstance(v, tuple) else v for k, v in changed.items()}}


def ends_of(checkpoint: Checkpoint) -> tuple[int | None, int | None]:
    """(channels that the first convolution takes, classes that the head gives); None where the names are not usual."""
    channels = classes = None
    for state in checkpoint.groups.values():
        for name, key in plain_names(state).items():
            shape = tuple(state[key].shape)
            if len(shape) == 4 and _STEM.search(name):
                channels = shape[1]
            elif len(shape) == 2 and _HEAD.search(name):
                classes = shape[0]
    return channels, classes


def spelled(host: Mapping[str, Any]) -> str:
    """`{name: resnet20, shortcut: pad}`, as a space file has it."""
    words = (f"{key}: {str(value).lower() if value is True else value}" for key, value in host.items())
    return f"{{{', '.join(words)}}}" if len(host) > 1 else str(host["name"])


def host_of(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """`nearest_host` of the first part of a checkpoint that is a ResNet's."""
    return next((host for state in checkpoint.groups.values() if (host := nearest_host(state))), None)


def _advice(checkpoint: Checkpoint, host: Host) -> str:
    if host.module:
        return f" Weights for it are those that a model of {host.make}() in {host.module} has saved."
    fitting = host_of(checkpoint)
    if fitting is None:
        return " Its names are not those of a ResNet that attnsearch knows."
    return f" The host that fits it: host: {spelled(fitting)}"


def _fault(own: list[str], report: LoadReport) -> str:
    missing = [key for key in own if key in set(report.missing)]
    shapes = [key for key in own if key in set(report.mismatched)]
    parts = [
        f"{len(keys)} {word}, as {keys[0]}"
        for keys, word in ((missing, "missing"), (shapes, "of another shape"))
        if keys
    ]
    return "; ".join(parts)


def _named(host: Host) -> str:
    return host.name if host.module else spelled(_brief(host))


def _check_channels(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Refuse weights for images of another number of channels in a sentence of its own."""
    own = model.state_dict()
    first = next(f"{path}.weight" for path, part in model.named_modules() if isinstance(part, nn.Conv2d))
    for state in checkpoint.groups.values():
        for name, key in plain_names(state).items():
            theirs, ours = state[key].shape, own[first].shape
            ends = name == first or name.endswith(f".{first}") or first.endswith(f".{name}")
            if ends and not re.search(r"layer\d", name) and len(theirs) == 4 and theirs[1] != ours[1]:
                raise UsageError(
                    f"{checkpoint.source} takes images of {theirs[1]} channels, the data set's have {ours[1]}"
                )


__all__ = [
    "LEAST_SHARE",
    "ends_of",
    "host_of",
    "identify",
    "load_host",
    "nearest_host",
    "own_tensors",
    "spelled",
    "start",
]
