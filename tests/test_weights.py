"""Checkpoints as other people's training leaves them, and as they must not be loaded."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from attnsearch import create_model, load_weights
from attnsearch.build.checkpoint import read_checkpoint
from attnsearch.build.host_weights import load_host, nearest_host
from attnsearch.build.resnet import ResNet, build
from attnsearch.core.errors import UsageError
from attnsearch.space.presets import read_arch

State = dict[str, Tensor]


def network(host: Any = "resnet8", classes: int = 10, seed: int = 0, in_channels: int = 3) -> ResNet:
    return build(read_arch({"host": host}), classes=classes, seed=seed, in_channels=in_channels)


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + key: value for key, value in state.items()}


def hugging_face(state: State) -> State:
    """The names of transformers' ResNetForImageClassification, written down from its module tree."""

    def renamed(name: str) -> str:
        if name.startswith("fc."):
            return name.replace("fc.", "classifier.1.")
        if found := re.fullmatch(r"(conv|bn)1\.(.+)", name):
            kind = "convolution" if found[1] == "conv" else "normalization"
            return f"resnet.embedder.embedder.{kind}.{found[2]}"
        found = re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.+)", name)
        assert found is not None
        unit = f"resnet.encoder.stages.{int(found[1]) - 1}.layers.{found[2]}"
        if found[3] == "downsample.":
            return f"{unit}.shortcut.{('convolution', 'normalization')[int(found[4])]}.{found[5]}"
        kind = "convolution" if found[3] == "conv" else "normalization"
        return f"{unit}.layer.{int(found[4]) - 1}.{kind}.{found[5]}"

    return {renamed(name): tensor for name, tensor in state.items()}


def small_words(state: State) -> State:
    """The names of the CIFAR repositories: `shortcut` and `linear`."""
    return {
        key.replace("downsample", "shortcut").replace("fc.", "linear."): value for key, value in state.items()
    }


def without_counters(state: State) -> State:
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": 0.1},
    "net": lambda state: {"net": state, "acc": 91.2},
    "nested": lambda state: {"checkpoint": {"model": {"state_dict": state}}},
    "data parallel": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "compiled in parallel": prefixed("module._orig_mod."),
    "parallel in compiled": prefixed("_orig_mod.module."),
    "backbone": prefixed("backbone."),
    "encoder": prefixed("model.encoder."),
    "Lightning, any name": lambda state: {"state_dict": prefixed("our_resnet.")(state), "global_step": 7},
    "Hugging Face": hugging_face,
    "CIFAR": small_words,
    "old norms": without_counters,
    "head outside the backbone": lambda state: {
        key if key.startswith("fc.") else f"backbone.{key}": value for key, value in state.items()
    },
}


@pytest.mark.parametrize("name", WRAPPED)
def test_every_wrapping_of_one_network_is_loaded_whole(name: str, tmp_path: Path) -> None:
    source, model = network(seed=1), network(seed=2)
    torch.save(WRAPPED[name](source.state_dict()), tmp_path / "w.pth")
    report = load_weights(model, tmp_path / "w.pth")
    assert not report.missing
    assert not report.mismatched
    wanted, loaded = without_counters(source.state_dict()), without_counters(model.state_dict())
    torch.testing.assert_close(loaded, wanted, atol=0, rtol=0)


@pytest.mark.parametrize("name", ["plain", "data parallel", "compiled", "backbone", "CIFAR"])
def test_wrapped_models_load_plain_and_wrapped_files(name: str) -> None:
    source = network(seed=1)
    for wrap in (nn.DataParallel, torch.compile, lambda model: nn.Sequential(model)):
        model: Any = wrap(network(seed=2))
        report = load_weights(model, WRAPPED[name](source.state_dict()))
        assert len(report.loaded) == len(source.state_dict())
        assert not report.missing


def test_names_of_safetensors_are_those_of_torch(tmp_path: Path) -> None:
    source, model = network(seed=1), network(seed=2)
    file = tmp_path / "no_suffix_that_says_so.bin"
    safetensors.torch.save_file(prefixed("model.")(source.state_dict()), file)
    assert not load_weights(model, file).missing
    torch.testing.assert_close(model.state_dict(), source.state_dict())


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
def test_what_else_trainers_put_into_a_file_is_passed_over(
    tmp_path: Path, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = ModuleType("pytorch_lightning.utilities.parsing")  # not installed where weights are read

    class AttributeDict(dict[str, Any]):
        pass

    AttributeDict.__module__, AttributeDict.__qualname__ = library.__name__, "AttributeDict"
    library.AttributeDict = AttributeDict  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.utilities", library.__name__):
            patch.setitem(sys.modules, name, library)
        held = {
            "net": network(seed=1).state_dict(),
            "best_acc": np.float64(91.25),
            "history": np.arange(6, dtype=np.float32),
            "counts": np.int64(3),
            "args": argparse.Namespace(lr=0.1, data=Path("/tmp/x")),
            "out": Path("runs"),
            "hyper_parameters": AttributeDict(lr=0.1, nested={"depth": 3}),
        }
        torch.save(held, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    model = network(seed=2)
    assert not load_weights(model, tmp_path / "w.pth").missing
    torch.testing.assert_close(model.state_dict(), held["net"])


class Code:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_file_with_code_runs_nothing_and_is_answered_with_the_way_out(tmp_path: Path) -> None:
    torch.save({"state_dict": network().state_dict(), "x": Code(tmp_path / "ran")}, tmp_path / "code.pth")
    torch.save(network(), tmp_path / "whole.pth")
    for file, what in (("code.pth", "posix.mkdir"), ("whole.pth", "attnsearch.build.resnet.ResNet")):
        with pytest.raises(UsageError, match=re.escape(what)) as caught:
            load_weights(network(), tmp_path / file)
        lines = str(caught.value).splitlines()
        assert len(lines) == 3
        assert "torch.load(" in lines[1]
        assert "torch.save(model.state_dict()" in lines[2]
        assert "\x1b" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_torchscript_program_is_told_how_to_be_saved_anew(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(network().eval(), torch.zeros(1, 3, 32, 32)), tmp_path / "s.pt")
    with pytest.raises(UsageError, match=r"TorchScript(.|\n)*torch\.jit\.load"):
        load_weights(network(), tmp_path / "s.pt")


@pytest.mark.parametrize("form", ["zip", "old", "safetensors"])
def test_damaged_files_are_one_sentence(tmp_path: Path, form: str) -> None:
    """Cut off anywhere: refused. With a byte changed: refused, or loaded where a format keeps no checksums."""
    state, file = network(seed=1).state_dict(), tmp_path / "w.pth"
    if form == "safetensors":
        safetensors.torch.save_file(state, file)
    else:
        torch.save({"net": state}, file, _use_new_zipfile_serialization=form == "zip")
    whole, chooser = file.read_bytes(), random.Random(0)
    for i in range(60):
        bad = bytearray(whole)
        if i % 2:
            bad = bad[: chooser.randrange(len(bad))]
        else:
            bad[chooser.randrange(len(bad))] ^= 1 << chooser.randrange(8)
        file.write_bytes(bad)
        if not i % 2:
            with contextlib.suppress(UsageError):
                load_weights(network(), file)
            continue
        with pytest.raises(UsageError) as caught:
            load_weights(network(), file)
        assert len(str(caught.value).splitlines()) == 1


def test_a_changed_byte_of_a_zip_is_noticed(tmp_path: Path) -> None:
    torch.save(network(seed=1).state_dict(), tmp_path / "w.pth")
    raw = bytearray((tmp_path / "w.pth").read_bytes())
    raw[len(raw) // 2] ^= 1  # among the numbers of some tensor
    (tmp_path / "w.pth").write_bytes(raw)
    with pytest.raises(UsageError, match="checksum"):
        load_weights(network(), tmp_path / "w.pth")


def test_of_weights_and_their_average_the_weights_are_taken_and_it_is_said(tmp_path: Path) -> None:
    plain, mean = network(seed=1).state_dict(), network(seed=3).state_dict()
    file = tmp_path / "w.pth"
    torch.save({"model_ema": mean, "model": plain}, file)
    model = network(seed=2)
    report = load_weights(model, file)
    torch.testing.assert_close(model.state_dict(), plain)
    assert f"{file}::model_ema" in str(report)
    assert not load_weights(model, f"{file}::model_ema").notes
    torch.testing.assert_close(model.state_dict(), mean)
    with pytest.raises(UsageError, match="has no weights under 'ema'; it has model_ema, model"):
        load_weights(model, f"{file}::ema")


def test_of_two_networks_in_one_state_dict_the_one_that_fits_is_taken() -> None:
    large = prefixed("teacher.")(network({"name": "resnet20", "width": 24}, seed=4).state_dict())
    small = network(seed=1).state_dict()
    model = network(seed=2)
    report = load_weights(model, {"state_dict": {**large, **prefixed("student.")(small)}})
    assert not report.missing
    torch.testing.assert_close(model.state_dict(), small)


def test_nan_zero_matches_and_no_tensors() -> None:
    bad = network().state_dict()
    bad["layer2.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    with pytest.raises(UsageError, match=r"NaN or infinity in layer2\.0\.conv1\.weight"):
        load_weights(network(), bad)
    with pytest.raises(
        UsageError, match=r"No tensor of the checkpoint fits the model: it has encoder\.weight"
    ):
        load_weights(network(), {"encoder.weight": torch.zeros(3)})
    with pytest.raises(UsageError, match="holds keys epoch, lr, expected a state dict"):
        load_weights(network(), {"epoch": 3, "lr": 0.1})


# What a state dict was made for -> how a space file names that host.
HOSTS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"name": "resnet32", "shortcut": "pad"}, {"name": "resnet32", "shortcut": "pad"}),
    ({"name": "resnet18"}, {"name": "resnet18"}),
    ({"name": "resnet50"}, {"name": "resnet50"}),
    ({"name": "resnet18", "stem": "cifar", "width": 32}, {"name": "resnet18", "width": 32, "stem": "cifar"}),
    (
        {"name": "resnet50", "stem": "deep", "shortcut": "pool"},
        {"name": "resnet50", "stem": "deep", "shortcut": "pool"},
    ),
    (
        {"name": "resnet50", "cardinality": 32, "base_width": 4},
        {"name": "resnet50", "cardinality": 32, "base_width": 4},
    ),
    ({"name": "resnet20", "units": [4, 1, 2]}, {"name": "resnet20", "units": [4, 1, 2]}),
)


@pytest.mark.parametrize(("made", "named"), HOSTS, ids=[str(named) for _, named in HOSTS])
def test_the_host_of_a_state_dict_is_known_by_its_names_and_shapes(
    made: dict[str, Any], named: dict[str, Any]
) -> None:
    with torch.device("meta"):
        state = prefixed("module.")(network(made).state_dict())
    assert nearest_host(state) == named
    again = read_arch({"host": named}).host
    assert again == read_arch({"host": made}).host


def checkpoint(tmp_path: Path, host: Any, **options: Any) -> Any:
    torch.save({"state_dict": network(host, **options).state_dict()}, tmp_path / "w.pth")
    return read_checkpoint(tmp_path / "w.pth")


def test_another_architecture_is_refused_with_the_host_that_fits(tmp_path: Path) -> None:
    deep = checkpoint(tmp_path, {"name": "resnet20", "shortcut": "pad"})
    with pytest.raises(
        UsageError, match=r"% of the tensors of resnet32(.|\n)*host: \{name: resnet20, shortcut: pad\}"
    ):
        load_host(network("resnet32"), deep)
    wide = checkpoint(tmp_path, {"name": "resnet18", "width": 32})
    with pytest.raises(UsageError, match=r"host: \{name: resnet18, width: 32\}"):
        load_host(network("resnet18"), wide)
    odd = checkpoint(tmp_path, "resnet8")
    (tmp_path / "w.pth").unlink()
    torch.save({"fc1.weight": torch.zeros(4, 4)}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="not those of a ResNet"):
        load_host(network("resnet8"), read_checkpoint(tmp_path / "w.pth"))
    assert load_host(network("resnet8"), odd).complete


def test_option_a_takes_public_weights_that_option_b_does_not(tmp_path: Path) -> None:
    given = checkpoint(tmp_path, {"name": "resnet8", "shortcut": "pad"})
    assert load_host(network({"name": "resnet8", "shortcut": "pad"}), given).complete
    with pytest.raises(UsageError, match="shortcut: pad"):  # 10 of its 57 tensors would start at random
        load_host(network("resnet8"), given)


def test_images_of_other_channels_and_heads_of_other_classes(tmp_path: Path) -> None:
    grey = checkpoint(tmp_path, "resnet8", in_channels=1)
    with pytest.raises(UsageError, match="takes images of 1 channels, the data set's have 3"):
        load_host(network(), grey)
    other = checkpoint(tmp_path, "resnet8", classes=7)
    model = network(seed=5)
    before = model.fc.weight.clone()
    report = load_host(model, other)
    torch.testing.assert_close(model.fc.weight, before)
    assert "the head is left out" in str(report)
    assert "7 classes, here there are 10" in str(report)
    with pytest.raises(UsageError, match="head that fits"):
        load_host(network(), other, head=True)


def test_blocks_are_not_counted_as_the_hosts_own(tmp_path: Path) -> None:
    given = checkpoint(tmp_path, "resnet8")
    gated = create_model({"host": "resnet8", "stages": [{"attention": "gam", "init": "identity"}]})
    assert isinstance(gated, ResNet)
    report = load_host(gated, given, head=True)
    assert report.missing
    assert all(".attention." in key for key in report.missing)


def total(state: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for key, value in state.items() if "running" not in key and "num" not in key)


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_parameters_of_the_papers_networks(depth: int) -> None:
    """He et al. 2015, section 4.2: 3x3 convolutions, norms, a linear layer, nothing in the shortcuts."""
    n = (depth - 2) // 6
    convolutions = 9 * 3 * 16
    norms = 2 * 16
    wide = 16
    for stage in (16, 32, 64):
        convolutions += 9 * wide * stage + 9 * stage * stage * (2 * n - 1)
        norms += 2 * stage * 2 * n
        wide = stage
    counted = total(network({"name": f"resnet{depth}", "shortcut": "pad"}).state_dict())
    assert counted == convolutions + norms + 64 * 10 + 10
    assert round(counted / 1e6, 2) == {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85}[depth]  # the paper's table 6


def test_option_a_by_hand() -> None:
    """One channel to four: the pixels at even places, one zero channel before, two after."""
    from attnsearch.build.shortcuts import PadChannels

    x = torch.arange(9.0).view(1, 1, 3, 3)
    out = PadChannels(1, 4, 2)(x)
    wanted = torch.zeros(1, 4, 2, 2)
    wanted[0, 1] = torch.tensor([[0.0, 2.0], [6.0, 8.0]])
    torch.testing.assert_close(out, wanted, atol=0, rtol=0)


@pytest.mark.parametrize("name", ["resnet8", "resnet18"])
def test_option_a_is_exported_and_counted(name: str, tmp_path: Path) -> None:
    """The file without attnsearch computes the same, and the shortcut costs no multiply-add and no parameter."""
    from attnsearch import measure
    from attnsearch.blocks.plugin import import_file
    from attnsearch.export.source import source

    arch = read_arch(
        {
            "host": {"name": name, "width": 8, "stem": "cifar", "shortcut": "pad"},
            "stages": [{"attention": "se"}],
        }
    )
    model = build(arch, seed=0).eval()
    (tmp_path / "net.py").write_text(source(arch))
    copy = import_file("exported_option_a", tmp_path / "net.py").Network().eval()
    copy.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(copy(x), model(x), atol=1e-6, rtol=0)
    conv = build(read_arch({**arch.to_dict(), "host": {"name": name, "width": 8, "stem": "cifar"}}))
    pad, full = measure(model, (3, 32, 32)), measure(conv, (3, 32, 32))
    stages = range(1, len(arch.stages))
    widths = [(8 << (i - 1), 8 << i, 32 >> i) for i in stages]  # channels in and out, side of the map
    assert full.params - pad.params == sum(a * b + 2 * b for a, b, _ in widths)
    assert full.macs - pad.macs == sum(a * b * side * side for a, b, side in widths)
