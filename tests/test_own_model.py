"""A model of the user's own as the host: what is read from it, searched on it, and refused."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import attnsearch
from attnsearch.__main__ import main
from attnsearch.build import module_host
from attnsearch.build.network import build_network
from attnsearch.build.parts import parts_of, stem_paths
from attnsearch.core.errors import SpaceError, UsageError
from attnsearch.core.settings import Settings
from attnsearch.core.study_attrs import DataInfo
from attnsearch.core.study_info import StudyInfo
from attnsearch.core.trial import Recipe, TrialResult
from attnsearch.cost.cost_table import CostTable
from attnsearch.cost.measure import measure
from attnsearch.export import pack
from attnsearch.report import build as build_report
from attnsearch.report.provenance import facts
from attnsearch.space import module_file
from attnsearch.space.arch import Arch, plain
from attnsearch.space.presets import read_arch
from attnsearch.space.space import Space, load_space
from attnsearch.study.ablation import laid_out, positive_control
from attnsearch.study.study import open_study, space_of
from attnsearch.train import finetune
from attnsearch.train.ray_node import packed, written_module
from tests.test_pretrained import InThisProcess

FOREIGN = Path(__file__).parent / "foreign_resnets.py"
MODEL = """
import torch
from torch import nn
from foreign_resnets import StraightResNet


class Net(StraightResNet):  # two stages of two units, 8 and 16 channels, a head for 5 classes
    def __init__(self):
        super().__init__(width=8)
        self.conv1 = nn.Conv2d(1, 8, 3, 1, 1)
        self.fc = nn.Linear(16, 5)


def build():
    return Net()
"""
SPACE = """
host: {{module: {module}, make: build}}
stages: {{attention: [none, se]}}
tied: true
design: add
recipe: {{epochs: 1, batch_size: 64, train_images: 128}}
"""


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module_file, "_ALLOWED", {})
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """The user's file, and beside it one that it imports."""
    shutil.copy(FOREIGN, tmp_path / "foreign_resnets.py")
    (tmp_path / "my_model.py").write_text(MODEL)
    return tmp_path / "my_model.py"


@pytest.fixture
def space_file(tmp_path: Path, model_file: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(SPACE.format(module="my_model.py"))
    return tmp_path / "mine.yaml"


def space(file: Path, model: Path) -> Space:
    module_host.allow(model)
    return load_space(file)


def gated_arch(question: Space) -> Arch:
    """SE in both stages."""
    return next(arch for arch in question.enumerate() if any(stage.attention for stage in arch.stages))


def test_what_is_read_of_a_model(space_file: Path, model_file: Path) -> None:
    host = space(space_file, model_file).host
    assert (host.name, host.module, host.make) == ("my_model.build", "my_model.py", "build")
    assert (host.units, host.widths, host.inner) == ((2, 2), (8, 16), (8, 16))
    assert (host.unit, host.stem) == ("basic", "cifar")
    assert [host.channels(i) for i in range(2)] == [host.conv_channels(i) for i in range(2)] == [8, 16]


def test_an_arch_says_all_of_its_host_without_the_file(space_file: Path, model_file: Path) -> None:
    question = space(space_file, model_file)
    arch = gated_arch(question)
    model_file.unlink()
    again = Arch.from_dict(arch.to_dict())
    assert again == arch
    assert again.key == arch.key
    assert str(again) == "se(ratio=8) | se"  # one hidden channel in each


def test_the_fingerprint_is_of_the_file_and_of_what_it_imports_beside_it(model_file: Path) -> None:
    both = module_file.fingerprint(model_file)
    (model_file.parent / "foreign_resnets.py").write_text(FOREIGN.read_text() + "\nX = 1\n")
    assert module_file.fingerprint(model_file) != both
    alone = model_file.parent / "alone.py"
    alone.write_text("")  # whose SHA-256 is published
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert module_file.fingerprint(alone) == empty
    package = model_file.parent / "parts"
    package.mkdir()
    for name in ("__init__", "inner", "other"):
        (package / f"{name}.py").write_text("")
    (package / "units.py").write_text("from . import inner\nfrom .other import *\n")
    alone.write_text("def build():\n    from parts.units import Unit\n")
    assert set(module_file.sources(alone)) == {
        "alone.py",
        "parts/__init__.py",
        "parts/units.py",
        "parts/inner.py",
        "parts/other.py",
    }


def test_a_network_keeps_the_models_names_and_takes_a_head_that_fits(
    space_file: Path, model_file: Path
) -> None:
    question = space(space_file, model_file)
    bare = build_network(plain(question.host), classes=10, in_channels=1, seed=3)
    gated = build_network(gated_arch(question), classes=10, in_channels=1, seed=3)
    assert isinstance(bare.fc, nn.Linear)
    assert bare.fc.out_features == 10
    own, more = bare.state_dict(), gated.state_dict()
    assert [key for key in more if ".attention." not in key] == list(own)
    for key, value in own.items():  # one seed, one start, whatever was put in
        torch.testing.assert_close(more[key], value, atol=0, rtol=0, msg=key)
    assert {key.split(".attention.")[0] for key in more if ".attention." in key} == {
        f"layer{stage}.{unit}" for stage in (1, 2) for unit in (0, 1)
    }
    other = build_network(plain(question.host), classes=10, in_channels=1, seed=4)
    assert not torch.equal(other.state_dict()["layer1.0.conv1.weight"], own["layer1.0.conv1.weight"])
    assert parts_of(gated).stages == ("layer1.", "layer2.")
    assert (parts_of(gated).head, stem_paths(gated)) == ("fc.", ("conv1.",))


def test_costs_add_up_and_are_those_of_the_network(space_file: Path, model_file: Path) -> None:
    space_file.write_text(
        SPACE.format(module="my_model.py").replace(
            "[none, se]}",
            "[none, se, bam], position: [before_add, after_conv, after_stage], units: [all, last]}",
        )
        + "\n"
    )
    question = space(space_file, model_file)
    table = CostTable(question, (1, 12, 12), 10)
    assert table.additive
    choice = {"stages": next(o for o in question.sites["stages"] if "se" in o and "after_conv" in o)}
    arch = question.arch(choice)
    direct = measure(build_network(arch, classes=10, in_channels=1), (1, 12, 12))
    assert table.of(arch, choice)["macs"] == direct.macs
    # SE of ratio 16 has at least one hidden channel: 2 C h a unit, with the network's own MACs beside.
    assert direct.params - table.baseline["params"] > 0


def test_what_a_recipe_freezes_in_it(space_file: Path, model_file: Path) -> None:
    arch = gated_arch(space(space_file, model_file))
    trained = {
        "none": {"conv1", "layer1", "layer2", "attention", "fc"},
        "stem": {"layer1", "layer2", "attention", "fc"},
        (1,): {"layer2", "attention", "fc"},
        "host": {"attention", "fc"},
    }
    for freeze, heads in trained.items():
        model = build_network(arch, classes=10, in_channels=1, seed=0)
        finetune.freeze(model, Recipe(freeze=freeze))  # type: ignore[arg-type]
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        assert {"attention" if ".attention." in n else n.split(".")[0] for n in names} == heads, freeze


def test_the_controls_of_a_host_that_cannot_be_resized(space_file: Path, model_file: Path) -> None:
    question = space(space_file, model_file)
    variants = laid_out(question, CostTable(question, (1, 8, 8), 10), Settings(seeds=2))[1]
    kinds = {v.control for v in variants.values() if v.control}
    assert kinds == {"null gate", "adapter", "half of the images"}
    assert positive_control(question).images == "half"


def study(space: Path, model: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    monkeypatch.setattr("attnsearch.train.local_engine.LocalPool", InThisProcess)
    monkeypatch.setattr("attnsearch.report.write", lambda record, folder, pictures=True: [])
    given = {"data": "digits", "out": out, "seeds": 2, "device": "cpu", "host_module": str(model), **settings}
    return attnsearch.run(space, **given).record


def test_a_study_on_it_end_to_end(
    space_file: Path, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = study(space_file, model_file, tmp_path / "out", monkeypatch, study="s")
    assert {trial.state for trial in record.trials} == {"complete"}, [t.reason for t in record.trials]
    kept = record.info.module
    assert (kept.path, kept.sha256) == (str(model_file), module_file.fingerprint(model_file))
    assert record.info.space.host == "my_model.build"
    told = dict(facts(build_report(record)))
    assert told["host's file"] == f"{model_file}, SHA-256 {kept.sha256}"
    row = next(trial for trial in record.trials if "se" in trial.arch)
    package = pack(row, record.info, tmp_path / "e", train=True)
    assert package.error == row.error  # its training is the same in an export as in the study
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert space_of(record).fingerprint() == record.info.space.fingerprint


def test_weights_for_it(
    space_file: Path, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = space(space_file, model_file).host
    trained = build_network(plain(host), classes=10, in_channels=1, seed=8)
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    space_file.write_text(SPACE.format(module="my_model.py, weights: w.pth"))
    record = study(space_file, model_file, tmp_path / "out", monkeypatch, study="s", seeds=1, controls="none")
    assert record.info.weights.missing == ()
    assert {trial.state for trial in record.trials} == {"complete"}, [t.reason for t in record.trials]
    assert any("identity" in trial.arch for trial in record.trials)
    torch.save({"layer1.0.conv1.weight": torch.zeros(8, 8, 3, 3)}, tmp_path / "w.pth")
    with pytest.raises(
        UsageError, match=r"% of the tensors of my_model.build .* a model of build\(\) in my_model"
    ):
        study(space_file, model_file, tmp_path / "o", monkeypatch, study="t")


@pytest.mark.slow
def test_worker_processes_find_it(space_file: Path, model_file: Path, tmp_path: Path) -> None:
    given = [
        *("run", "--space", str(space_file), "--host-module", str(model_file), "--data", "digits"),
        *("--seeds", "1", "--controls", "none", "--out", str(tmp_path / "out"), "--study", "s"),
        *("--device", "cpu", "--workers", "2"),
    ]
    assert main([*given, "--dry-run"]) == 0
    assert main(given) == 0
    record = open_study("s", out=tmp_path / "out").record
    assert {trial.state for trial in record.trials} == {"complete"}, [t.reason for t in record.trials]


def test_it_travels_to_other_machines_by_content(model_file: Path) -> None:
    copy = written_module(packed(model_file))
    assert copy.parent != model_file.parent
    assert module_file.fingerprint(copy) == module_file.fingerprint(model_file)
    assert (copy.parent / "foreign_resnets.py").exists()


def test_a_resumed_study_refuses_another_file(
    space_file: Path,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    study(space_file, model_file, out, monkeypatch, study="s", trials=2)
    model_file.write_text(MODEL + "\nX = 1\n")
    with pytest.raises(
        UsageError, match=r"my_model.py has changed since study 's' began: SHA-256 \w{12}, now \w{12}"
    ):
        study(space_file, model_file, out, monkeypatch, study="s", resume=True)
    assert len(open_study("s", out=out).record.trials) == 2
    given = ["--space", str(space_file), "--data", "digits", "--out", str(out), "--study", "s", "--resume"]
    assert main(["run", *given, "--host-module", str(model_file)]) == 2
    assert "has changed since study 's' began" in capsys.readouterr().err
    assert main(["export", "s", "--trial", "0", "--out", str(out), "--host-module", str(model_file)]) == 2
    assert "has changed since" in capsys.readouterr().err


# What is wrong with the file -> (what is said, line that replaces `return Net()` or the whole file).
WRONG: dict[str, tuple[str, str]] = {
    "raises": ("my_model.py:15: ValueError: no weights here", "raise ValueError('no weights here')"),
    "returns a tuple": ("build() gives a tuple, expected a torch.nn.Module", "return Net(), 3"),
    "has no stage": (
        "No ResNet found in Sequential",
        "return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Linear(8, 5))",
    ),
    "has no head": (
        "has no linear layer behind its stages",
        "net = Net(); net.fc = nn.Identity(); return net",
    ),
    "its forward returns a tuple": (
        "its forward gives a tuple, expected a tensor of class scores (N, 10)",
        "net = Net(); net.fc = nn.Sequential(nn.Linear(16, 10), Twice()); return net",
    ),
    "its forward raises": (
        "RuntimeError: on purpose",
        "net = Net(); net.fc = nn.Sequential(Broken(), nn.Linear(16, 10)); return net",
    ),
    "its output is no score": (
        "its forward gives (N, 3), expected class scores (N, 10)",
        "net = Net(); net.fc = nn.Sequential(nn.Linear(16, 10), Three()); return net",
    ),
    "takes other images": (
        "my_model.build takes images of 3 channels, the data set's have 1",
        "net = Net(); net.conv1 = nn.Conv2d(3, 8, 3, 1, 1); return net",
    ),
    "leaves": ("SystemExit: 3", "raise SystemExit(3)"),
}
MORE = """

class Twice(nn.Module):
    def forward(self, x):
        return x, x


class Three(nn.Module):
    def forward(self, x):
        return x[:, :3]


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("on purpose")
"""


def refused(capsys: pytest.CaptureFixture[str], space: Path, *given: str) -> str:
    """The one sentence of a run that ends with 2 and leaves nothing behind."""
    out = space.parent / "out"
    code = main(
        ["run", "--space", str(space), "--data", "digits", "--out", str(out), "--device", "cpu", *given]
    )
    said = capsys.readouterr().err
    assert code == 2, said
    assert "bug in attnsearch" not in said
    assert len([line for line in said.splitlines() if line.startswith("error:")]) == 1
    assert not out.exists()
    return said


@pytest.mark.parametrize("case", WRONG)
def test_a_model_that_is_no_host(
    case: str, space_file: Path, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, line = WRONG[case]
    model_file.write_text(MODEL.replace("return Net()", line) + MORE)
    assert words in refused(capsys, space_file, "--host-module", str(model_file))


def test_a_space_that_names_it_wrongly(
    space_file: Path, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ("--host-module", str(model_file))
    assert "add --host-module my_model.py" in refused(capsys, space_file)
    other = tmp_path / "other.py"
    other.write_text(MODEL)
    told = refused(capsys, space_file, "--host-module", str(other))
    assert f"the host is the module my_model.py, while --host-module names {other}" in told
    assert "file not found: gone.py" in refused(capsys, space_file, "--host-module", "gone.py")
    text = SPACE.format(module="my_model.py")
    for old, new, words in (
        (", make: build", "", "'make' is missing: the function in it that makes the model"),
        ("make: build", "make: biuld", "Unknown function 'biuld'. Did you mean 'build'?"),
        ("make: build", "make: build, width: 8", "'width' is of other hosts"),
        ("tied: true", "tied: true\nneck: pmfs", "which has no place for a neck"),
        ("[none, se]", "none, conv: [conv3x3, psa], convs: both", "in my_model.build only conv2 is replaced"),
    ):
        space_file.write_text(text.replace(old, new))
        assert words in refused(capsys, space_file, *named)
    space_file.write_text(text.replace("{module: my_model.py, make: build}", "resnet8"))
    assert "the host is resnet8, which is no model of your own" in refused(capsys, space_file, *named)
    model_file.write_text("def build(:\n")
    assert "my_model.py:1: not valid Python" in refused(capsys, space_file, *named)


def test_a_model_that_needs_arguments_or_has_no_one_width(space_file: Path, model_file: Path) -> None:
    model_file.write_text(MODEL.replace("def build():", "def build(classes):"))
    with pytest.raises(SpaceError, match=r"build\(\) is called without arguments.*missing.*'classes'"):
        space(space_file, model_file)
    uneven = "net = Net(); net.layer1[1] = net.layer2[0]; return net"
    model_file.write_text(MODEL.replace("return Net()", uneven))
    with pytest.raises(SpaceError, match="units of layer1 have 8 and 16 channels, and a stage has one width"):
        space(space_file, model_file)


@pytest.mark.parametrize("command", ["spaces", "cost", "plan"])
def test_other_commands_ask_for_consent_too(
    command: str, space_file: Path, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "arch.yaml").write_text(
        "host: {module: my_model.py, make: build}\nstages: [{attention: se}]\n"
    )
    words = {
        "spaces": ["spaces", str(space_file), "--data", "digits"],
        "cost": ["cost", "arch.yaml", "--image", "1x12x12", "--classes", "10"],
        "plan": ["plan", "--space", str(space_file), "--data", "digits", "--sd", "1"],
    }[command]
    assert main(words) == 2
    assert "add --host-module my_model.py" in capsys.readouterr().err
    assert main([*words, "--host-module", str(model_file)]) == 0


def test_create_model_takes_it(model_file: Path) -> None:
    with pytest.raises(UsageError, match="add --host-module my_model"):
        read_arch({"host": {"module": "my_model.py", "make": "build"}})
    module_host.allow(model_file)
    given = {"host": {"module": "my_model.py", "make": "build"}, "stages": [{"conv": "dsconv"}]}
    model = attnsearch.create_model(given, num_classes=7, in_channels=1)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


STAGES: dict[str, Any] = {
    "gates": [{"attention": "se"}, {"attention": {"block": "cbam", "ratio": 4}, "position": "after_conv"}],
    "identity start, one unit": [{"attention": "eca", "init": "identity", "units": "last"}, {}],
    "after": [{"attention": "se", "position": "after_add"}, {"attention": "se", "position": "after_stage"}],
    "convolutions": [{"conv": "dsconv"}, {"conv": "sk", "attention": "se"}],
    "null": [{"attention": "se", "control": "null"}, {}],
}


def exported(model_file: Path, stages: Any, folder: Path, formats: tuple[str, ...]) -> dict[str, float]:
    """The differences of an export of a network off its start from the network itself."""
    module_host.allow(model_file)
    arch = read_arch({"host": {"module": model_file.name, "make": "build"}, "stages": stages})
    row = TrialResult(arch.key, str(arch), 3, 1, "complete", number=0, spec=arch.to_dict())
    data = DataInfo("digits", classes=tuple("0123456789"), image=(1, 12, 12))
    return dict(pack(row, StudyInfo(data=data), folder, name="best", formats=formats).differences)


@pytest.mark.parametrize("case", STAGES)
def test_an_export_is_the_network_and_runs_without_attnsearch(
    case: str, model_file: Path, tmp_path: Path
) -> None:
    """In a process of its own, from the exported folder alone, it takes the weights and computes the same."""
    folder = tmp_path / "export"
    differences = exported(model_file, STAGES[case], folder, ("py", "safetensors"))
    assert max(differences.values()) <= 1e-5
    network = build_network(
        read_arch({"host": {"module": "my_model.py", "make": "build"}, "stages": STAGES[case]}),
        classes=10,
        in_channels=1,
        seed=3,
    ).eval()
    x = torch.linspace(-1, 1, 2 * 144).reshape(2, 1, 12, 12)
    code = (
        "import sys; sys.modules['attnsearch'] = None\n"
        "import torch; from best import Network; from safetensors.torch import load_file\n"
        "network = Network(); network.load_state_dict(load_file('best.safetensors')); network.eval()\n"
        "x = torch.linspace(-1, 1, 2 * 144).reshape(2, 1, 12, 12)\n"
        "print(network(x).flatten().tolist())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), network(x).flatten(), atol=1e-5, rtol=0)
    assert (folder / "best_host" / "foreign_resnets.py").exists()


def test_graphs_of_it_are_the_network(model_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    differences = exported(model_file, STAGES["gates"], tmp_path / "e", ("pt2", "onnx"))
    assert max(differences.values()) <= 1e-5


def test_a_method_of_a_unit_that_calls_its_parent_is_written_out(model_file: Path, tmp_path: Path) -> None:
    child = """
class Child(StraightUnit):
    def forward(self, x, scale=SCALE):
        return super().forward(x) * scale


"""
    text = MODEL.replace("import StraightResNet", "import StraightResNet, StraightUnit\n\nSCALE = 1.0")
    text = text.replace("class Net", child + "class Net").replace("(width=8)", "(width=8, unit=Child)")
    model_file.write_text(text)
    stages = [{"attention": "se", "position": "after_add"}, {}]
    assert exported(model_file, stages, tmp_path / "e", ("py",))["py"] <= 1e-5
    written = (tmp_path / "e" / "best.py").read_text()
    assert "SCALE = own.SCALE" in written
    assert "self.attention(super().forward(x) * scale)" in written


def test_a_gate_of_its_own_is_told(model_file: Path) -> None:
    gated = """
class Gated(StraightUnit):
    def __init__(self, *shape):
        super().__init__(*shape)
        self.se = nn.Conv2d(shape[1], shape[1], 1)

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out = out * self.se(out).sigmoid()
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


"""
    text = MODEL.replace("import StraightResNet", "import StraightResNet, StraightUnit")
    model_file.write_text(text.replace("class Net", gated + "class Net").replace("(width=8)", "(8, Gated)"))
    module_host.allow(model_file)
    host = read_arch({"host": {"module": "my_model.py", "make": "build"}}).host
    first, second = module_host.notes(host, 10)
    assert first == (
        "units of my_model.build have a gate of their own (se), which comes before what is put in"
    )
    assert "(fc) is for 5 classes; a new one for 10 is in its place" in second


def test_what_it_is_worth_as_it_comes(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a checkpoint a model is evaluated with the weights that it makes or loads, if its head fits."""
    (tmp_path / "arch.yaml").write_text("host: {module: my_model.py, make: build}\n")
    given = ["evaluate", "arch.yaml", "--data", "digits", "--split", "val", "--host-module", "my_model.py"]
    assert main(given) == 2
    assert (
        "is for 5 classes; a new one for 10 is in its place, untrained: there is" in capsys.readouterr().err
    )
    model_file.write_text(MODEL.replace("nn.Linear(16, 5)", "nn.Linear(16, 10)"))
    assert main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["notes"] == ["the weights are those that my_model.build makes or loads itself"]
    assert told["n"] > 100


def test_a_file_runs_once_and_again_when_it_or_what_it_imports_has_changed(model_file: Path) -> None:
    """Each training would else have classes of its own; and an edited file beside it would be the old one."""
    counted = MODEL + "\nfrom pathlib import Path\nwith open('runs', 'a') as file:\n    file.write('x')\n"
    model_file.write_text(counted)
    first, second = (module_host.made(model_file, "build") for _ in range(2))
    assert type(first) is type(second)
    assert Path("runs").read_text() == "x"
    beside = model_file.parent / "foreign_resnets.py"
    beside.write_text(FOREIGN.read_text().replace("width: int = 16", "width: int = 16, more: int = 0"))
    assert "more" in inspect.signature(type(module_host.made(model_file, "build")).__mro__[1]).parameters
    assert Path("runs").read_text() == "xx"
