"""A network written down computes what it computed, and needs no attnsearch."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attnsearch import export
from attnsearch.blocks import registry
from attnsearch.build.resnet import build
from attnsearch.core.errors import DataError, EnvironmentFault, NoResultError, UsageError
from attnsearch.core.study_info import StudyInfo, StudyRecord
from attnsearch.core.trial import Epoch, Recipe, TrialResult
from attnsearch.data import open_data
from attnsearch.export import package
from attnsearch.export.source import source
from attnsearch.space.arch import Arch
from attnsearch.space.presets import read_arch
from attnsearch.train.fit import fit
from attnsearch.train.images import device_data

HOST = {"name": "resnet8", "width": 64}  # wide enough for the default groups of psa


def network_of(text, folder):
    """The class `Network` of a written file."""
    path = folder / "network.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("network", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Network


def assert_equal(arch, folder, side=16):
    text = source(arch)
    written, built = network_of(text, folder)(), build(arch, seed=0)
    # Without a sigmoid these grow from unit to unit: at 0.1 their maps overflow or are beyond the tolerance's scale.
    alpha = 0.02 if any(name in str(arch) for name in ("cpca", "msca")) else 0.1
    for tensor in built.state_dict().values():  # off the start, where a zero scale may hide a difference
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1)), alpha=alpha)
    written.load_state_dict(built.state_dict())
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(written.eval()(images), built.eval()(images), rtol=1e-5, atol=1e-5)
    return text


@pytest.mark.parametrize("name", registry.blocks())
def test_every_block_is_carried_over(name, tmp_path):
    slot = registry.info(name).slot
    spec = {"neck": name} if slot == "neck" else {"stages": [{slot: name}]}
    text = assert_equal(Arch.from_dict({"host": HOST, **spec}), tmp_path)
    modules = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {module.split(".")[0] for module in modules} <= {
        "torch",
        "math",
        "typing",
        "collections",
        "__future__",
    }
    assert "BlockError" not in text
    assert "@block" not in text
    assert "def resolve" not in text


STRUCTURES = {
    "narrow shortcuts": {"host": {"name": "resnet8", "width": 4}},
    "positions": {
        "host": HOST,
        "stages": [
            {"attention": "se", "position": "after_conv"},
            {"attention": "eca", "position": "after_add"},
            {"attention": "bam", "position": "after_stage"},
        ],
    },
    "units": {
        "host": "resnet20",
        "stages": [{"attention": "se", "units": u} for u in ("first", "alternate", [1])],
    },
    "identity": {"host": HOST, "stages": [{"attention": "cbam", "init": "identity"}]},
    "same names in two files": {"host": HOST, "stages": [{"attention": "sge"}, {"attention": "shuffle"}, {}]},
    "both convolutions": {"host": HOST, "stages": [{"conv": "dsconv", "convs": "both"}]},
    "single": {
        "host": {**HOST, "unit": "single"},
        "stages": [{"conv": "dsconv.article", "attention": "gam_article"}],
    },
    "bottleneck": {"host": {"name": "resnet50", "units": [1, 1, 1, 1]}, "stages": [{"conv": "psa.official"}]},
    "grouped": {"host": {"name": "resnet50", "units": [1, 2, 1, 1], "base_width": 4, "cardinality": 32}},
    "deep stem": {
        "host": {
            "name": "resnet50",
            "units": [1, 2, 1, 1],
            **{"stem": "deep", "stem_width": 64, "shortcut": "pool", "downsample": "pool"},
        },
        "stages": [{"conv": "splat", "attention": "cbam.article"}],
    },
    "pool first": {
        "host": {"name": "resnet50", "units": [1, 1, 1, 1], "downsample": "pool_first"},
        "stages": [{"conv": "sk"}],
    },
    "neck and preset": {
        "host": HOST,
        "stages": [{"attention": "se.article"}],
        "neck": {"block": "pmfs", "width": 8},
    },
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_is_written_down(name, tmp_path):
    text = assert_equal(Arch.from_dict(STRUCTURES[name]), tmp_path, side=32)
    assert max(map(len, text.splitlines())) <= 120
    bound = [line.split()[-1] for line in text.splitlines() if re.match("from|import", line)]
    assert len(bound) == len(set(bound)), f"imported twice: {bound}"


def test_equal_units_are_written_once(tmp_path):
    text = assert_equal(Arch.from_dict({"host": "resnet44", "stages": [{"attention": "eca"}]}), tmp_path)
    assert text.count("class BasicUnit") == 1
    assert "for _ in range(7)" in text  # the first stage; the others begin with a stride


def test_a_fresh_network_starts_as_ours_does(tmp_path):
    """He initialisation, fan out, of the host's convolutions: standard deviation sqrt(2 / (9 x 64))."""
    written = network_of(
        source(Arch.from_dict({"host": HOST, "stages": [{"attention": "cbam"}]})), tmp_path
    )()
    assert float(written.layer1[0].conv1.weight.detach().std()) == pytest.approx(
        (2 / (9 * 64)) ** 0.5, rel=0.02
    )
    assert written.layer1[0].attention.spatial.body[1].weight.item() == 0.0  # the block keeps its own


def test_the_file_runs_where_attnsearch_is_not(tmp_path):
    (tmp_path / "network.py").write_text(
        source(Arch.from_dict({"host": HOST, "stages": [{"attention": "cbam"}]}))
    )
    code = (
        "import sys; sys.modules['attnsearch'] = None; sys.path.insert(0, '.');"
        "import torch, network; print(tuple(network.Network()(torch.zeros(2, 3, 16, 16)).shape))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "(2, 10)", done.stderr


PLUGIN = """
from torch import Tensor, nn
from attnsearch.blocks.registry import block
{imported}

def half(x: Tensor) -> Tensor:
    return x / 2

@block("halved")
class Halved(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return {body}
"""


def test_a_block_of_the_users_own_is_carried_over(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_PLUGINS", {})
    (tmp_path / "halved.py").write_text(PLUGIN.format(imported="", body="half(x)"))
    registry.add_plugin(tmp_path / "halved.py")
    text = assert_equal(Arch.from_dict({"host": HOST, "stages": [{"attention": "halved"}]}), tmp_path)
    assert "def half(" in text


def test_a_block_that_needs_attnsearch_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_PLUGINS", {})
    imported, body = "from attnsearch.space.arch import format_value", "half(x) if format_value(1) else x"
    (tmp_path / "needy.py").write_text(PLUGIN.format(imported=imported, body=body))
    registry.add_plugin(tmp_path / "needy.py")
    with pytest.raises(UsageError, match=r"needy\.py uses attnsearch\.space\.arch"):
        source(Arch.from_dict({"host": HOST, "stages": [{"attention": "halved"}]}))


ARCH = Arch.from_dict({"host": "resnet8", "stages": [{"attention": "se"}]})
FACTS = {
    "data": {"name": "digits", "image": [1, 8, 8], "classes": list("0123456789")},
    "recipe": Recipe(epochs=1, batch_size=32, train_images=64).to_dict(),
}


INFO = StudyInfo.from_attrs(FACTS)


def trial(number=3, error=None, key=ARCH.key, state="complete", seed=5):
    return TrialResult(key, str(ARCH), seed, 1, state, number=number, spec=ARCH.to_dict(), error=error)


def test_every_format_is_compared_with_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # it would lie beside the files
    package = export.pack(trial(), INFO, tmp_path / "new", formats=export.FORMATS)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        *("trial_3.py", "trial_3.safetensors", "trial_3.pt2", "trial_3.onnx", "trial_3.json")
    }
    assert max(package.differences.values()) <= 1e-6
    record = json.loads(package.record.read_text())
    assert record["trained"] is False
    assert record["max_abs_difference"] == package.differences
    assert record["classes"] == list(INFO.data.classes)
    assert read_arch(package.record).key == ARCH.key  # so `cost` and `latency` read it
    read_by_torch_alone = (
        "import sys; sys.modules['safetensors'] = sys.modules['attnsearch'] = None; sys.path.insert(0, '.');"
        "import trial_3; network = trial_3.Network();"
        "network.load_state_dict(trial_3.load_weights('trial_3.safetensors'));"
        "print({name: value.double().sum().item() for name, value in network.state_dict().items()})"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", read_by_torch_alone],
        cwd=tmp_path / "new",
        capture_output=True,
        text=True,
    )
    expected = {
        name: value.double().sum().item() for name, value in load_file(package.files["safetensors"]).items()
    }
    assert ast.literal_eval(done.stdout) == pytest.approx(expected), done.stderr
    program = torch.export.load(package.files["pt2"]).module()
    assert program(torch.zeros(7, 1, 8, 8)).shape == (7, 10), "any batch"


def test_a_file_that_computes_something_else_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(
        package._WRITERS, "py", lambda subject, images, file, head: subject.network(images).detach() + 0.01
    )
    with pytest.raises(
        NoResultError, match=r"the py file computes something else: its output differs by 0\.01"
    ):
        export.pack(trial(), INFO, tmp_path, formats=("py",))


def test_training_again_opens_the_data_as_the_study_did(tmp_path):
    small = open_data("digits", image_size=4)
    facts = {**FACTS, "data": small.facts(), "data_options": {"image_size": 4}}
    assert export.pack(trial(), StudyInfo.from_attrs(facts), tmp_path, train=True).error is not None


def test_training_again_gives_the_trials_own_network(tmp_path):
    data, recipe = open_data("digits"), Recipe(epochs=1, batch_size=32, train_images=64)
    network = build(ARCH, in_channels=1, seed=5)
    history: tuple[Epoch, ...] = fit(network, device_data(data, recipe, "cpu"), recipe, seed=5)
    package = export.pack(
        trial(error=history[-1].val_error),
        StudyInfo.from_attrs({**FACTS, "data": data.facts()}),
        tmp_path,
        train=True,
    )
    assert package.error == history[-1].val_error
    from safetensors.torch import load_file

    weights = load_file(package.files["safetensors"])
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    head = ast.get_docstring(ast.parse(package.files["py"].read_text()))
    assert "(x / 255 - mean) / std" in head
    assert "Classes: 0, 1, 2" in head


def test_other_images_than_the_studys_are_refused(tmp_path):
    facts = {**FACTS, "data": {**FACTS["data"], "fingerprint": "other"}}
    with pytest.raises(DataError, match="the images of 'digits' have changed"):
        export.pack(trial(), StudyInfo.from_attrs(facts), tmp_path, train=True)


def test_best_is_the_arch_with_the_least_mean_error():
    rows = (
        trial(0, 9.0, "lucky"),
        trial(1, 20.0, "lucky"),
        trial(2, 11.0, "steady"),
        trial(3, 10.0, "steady"),
        trial(4, None, "broken", "failed"),
    )
    record = StudyRecord("s", {}, rows)
    assert export.choose(record, "best").number == 3
    assert export.choose(record, "1").number == 1
    with pytest.raises(
        UsageError, match="No trial '9' in study 's': 0 to 4, A1 and so on as in reports, or best"
    ):
        export.choose(record, "9")
    with pytest.raises(NoResultError, match="no finished trial"):
        export.choose(StudyRecord("s", {}, rows[4:]), "best")


def test_best_is_not_what_an_audit_trained_longer():
    audited = (trial(0, 12.0, "a"), replace(trial(1, 5.0, "a"), role="audit", epochs=4), trial(2, 11.0, "b"))
    assert export.choose(StudyRecord("s", {}, audited), "best").number == 2


def test_formats_and_extras_are_checked_first(monkeypatch):
    with pytest.raises(UsageError, match=r"Unknown format 'pyy'\. Did you mean 'py'\?"):
        export.check_formats(["pyy"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'attnsearch\[onnx\]'"):
        export.check_formats(["py", "onnx"])


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot create"):
        export.pack(trial(), INFO, Path(tmp_path / "taken"), formats=("py",))
