"""Studies that start from somebody's weights: what is trained, what is frozen, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import attnsearch
from attnsearch.__main__ import main
from attnsearch.build import host_weights
from attnsearch.build.host_weights import identify, start
from attnsearch.build.resnet import ResNet, build
from attnsearch.core.errors import SpaceError, UsageError
from attnsearch.core.messages import DataSource, Job, Message, Outcome
from attnsearch.core.settings import Settings
from attnsearch.core.trial import Recipe, Weights
from attnsearch.cost.cost_table import CostTable, small_map
from attnsearch.data import open_data
from attnsearch.data.batches import normalise
from attnsearch.export import choose, pack
from attnsearch.report import finalists
from attnsearch.space.arch import Arch
from attnsearch.space.presets import read_arch
from attnsearch.space.space import Space, load_space, read_space
from attnsearch.study.ablation import adapted, laid_out, positive, positive_control
from attnsearch.study.starting_weights import prepared, sized
from attnsearch.study.study import open_study, space_of
from attnsearch.train import finetune
from attnsearch.train.fit import fit, make_optimizer
from attnsearch.train.images import device_data, resplit, with_half_of_train
from attnsearch.train.precision import calibrate
from attnsearch.train.worker import Worker

HOST = {"name": "resnet8", "width": 4, "shortcut": "pad"}
SPACE = """
host: {{name: resnet8, width: 4, shortcut: pad, weights: {weights}}}
stages: {{attention: [none, se]}}
tied: true
design: add
recipe: {{epochs: 1, batch_size: 64, train_images: 128}}
"""


def network(seed: int = 0, classes: int = 10) -> ResNet:
    return build(read_arch({"host": HOST}), classes=classes, in_channels=1, seed=seed)


def gated(gate: str = "se", init: str = "identity", weights: Weights | None = None) -> ResNet:
    arch = read_arch({"host": HOST, "stages": [{"attention": gate, "init": init}]})
    return cast(ResNet, start(arch, weights, classes=10, in_channels=1, seed=1))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save({"net": network(seed=3).state_dict()}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


@pytest.fixture
def space_file(tmp_path: Path, weights: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(SPACE.format(weights=weights))
    return tmp_path / "mine.yaml"


class InThisProcess:
    """An engine whose one worker is here: real trainings, no processes."""

    slots = 1

    def __init__(self, source: DataSource, **options: Any) -> None:
        self.worker, self.waiting = Worker(source, "cpu"), list[Message]()
        self.dtype = calibrate("cpu").dtype

    def submit(self, job: Job) -> None:
        self.waiting.append(self.worker.run(job, lambda progress: True))

    def wait(self, seconds: float) -> list[Message]:
        said, self.waiting = self.waiting, []
        return said

    def answer(self, number: int, go: bool) -> None: ...
    def cancel(self, number: int, reason: str) -> None: ...
    def close(self) -> None: ...


def study(space: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    monkeypatch.setattr("attnsearch.train.local_engine.LocalPool", InThisProcess)
    monkeypatch.setattr("attnsearch.report.write", lambda record, folder, pictures=True: [])
    given = {"data": "digits", "out": out, "seeds": 2, "device": "cpu", **settings}
    return attnsearch.run(space, **given).record


# freeze -> beginnings of the names of what is trained.
TRAINED: dict[Any, set[str]] = {
    "none": {"conv1", "bn1", "layer1", "layer2", "layer3", "attention", "fc"},
    "stem": {"layer1", "layer2", "layer3", "attention", "fc"},
    (1, 2): {"layer3", "attention", "fc"},
    "host": {"attention", "fc"},
}


@pytest.mark.parametrize("freeze", TRAINED, ids=str)
def test_what_a_recipe_trains(freeze: Any) -> None:
    model, recipe = gated(), Recipe(freeze=freeze)
    finetune.freeze(model, recipe)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    heads = {"attention" if ".attention." in name else name.split(".")[0] for name in names}
    assert heads == TRAINED[freeze]
    finetune.train_mode(model, recipe)
    norms = {path: m.training for path, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms == {path: path.split(".")[0] in TRAINED[freeze] for path in norms}


def test_a_frozen_host_is_the_same_afterwards_and_gates_and_head_are_not() -> None:
    model = gated("cbam")  # with norms of its own inside
    before = {key: value.clone() for key, value in model.state_dict().items()}
    recipe = Recipe(epochs=2, freeze="host", train_images=256, augment=(), batch_size=64, lr=0.05)
    fit(model, device_data(open_data("digits"), recipe, "cpu"), recipe, seed=0)
    for key, value in model.state_dict().items():
        own = ".attention." not in key and not key.startswith("fc.")
        if own:
            torch.testing.assert_close(value, before[key], atol=0, rtol=0, msg=key)
    assert not torch.equal(model.fc.weight, before["fc.weight"])
    assert any(not torch.equal(v, before[k]) for k, v in model.state_dict().items() if k.endswith("scale"))


def test_frozen_norms_keep_statistics_and_scale_while_the_rest_is_trained() -> None:
    model = gated()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    recipe = Recipe(epochs=1, norm="frozen", train_images=128, augment=(), batch_size=64)
    fit(model, device_data(open_data("digits"), recipe, "cpu"), recipe, seed=0)
    after = model.state_dict()
    for key in before:
        if "bn" in key.rsplit(".", 2)[-2]:
            torch.testing.assert_close(after[key], before[key], atol=0, rtol=0, msg=key)
    assert not torch.equal(after["layer1.0.conv1.weight"], before["layer1.0.conv1.weight"])


def test_rate_of_the_head_and_decay_of_blocks() -> None:
    model = gated()
    recipe = Recipe(lr=0.02, head_lr=10.0, weight_decay=0.5, decay_blocks=False)
    optimizer = make_optimizer(model, recipe)
    of = {id(p): (g["weight_decay"], g["scale"]) for g in optimizer.param_groups for p in g["params"]}
    names = dict(model.named_parameters())
    assert of[id(names["layer1.0.conv1.weight"])] == (0.5, 1.0)
    assert of[id(names["layer1.0.bn1.weight"])] == (0.0, 1.0)
    assert of[id(names["fc.weight"])] == (0.5, 10.0)
    gates = {of[id(p)] for name, p in names.items() if ".attention." in name}
    assert gates == {(0.0, 1.0)}
    assert len(of) == len(names)


def test_images_are_normalised_as_the_recipe_says() -> None:
    data = open_data("digits")
    assert device_data(data, Recipe(), "cpu").mean == data.mean
    stated = device_data(data, Recipe(normalise="0.25/0.5"), "cpu")
    assert (stated.mean, stated.std) == ((0.25,), (0.5,))


def test_a_gate_enters_a_trained_network_as_the_identity(weights: Path) -> None:
    known = identify(str(weights))
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = network(seed=3).eval()(x)
    torch.testing.assert_close(gated(weights=known).eval()(x), plain, atol=1e-6, rtol=0)
    assert not torch.allclose(gated(init="default", weights=known).eval()(x), plain, atol=1e-3)


def read(text: str, weights: str | None = None) -> Space:
    return read_space(text, "mine", weights)


PLAIN = "host: resnet8\nstages: {attention: [none, se]}\nrecipe: {epochs: 3, lr: 0.4}\n"


def inits(space: Space) -> set[str]:
    return {stage.init for options in space.choices.values() for stage in options}  # type: ignore[union-attr]


def test_what_weights_change_in_a_space() -> None:
    without = read(PLAIN)
    assert (without.weights, inits(without), without.recipe.lr) == ("", {"default"}, 0.4)
    stated = read(PLAIN.replace("resnet8", "{name: resnet8, weights: w.pth}"))
    assert (stated.weights, inits(stated)) == ("w.pth", {"identity"})
    # its own values over those of `finetune`
    assert (stated.recipe.epochs, stated.recipe.lr, stated.recipe.head_lr) == (3, 0.4, 10.0)
    outside = read(PLAIN, "given.pth")  # a recipe for training from scratch is not meant for weights
    assert (outside.weights, inits(outside)) == ("given.pth", {"identity"})
    assert outside.recipe == Recipe(
        epochs=6, batch_size=64, lr=0.01, head_lr=10.0, warmup=0.1, weight_decay=1e-4, decay_blocks=False
    )
    both = read(PLAIN.replace("se]", "se], init: [identity, default]"), "given.pth")
    assert inits(both) == {"identity", "default"}
    scratch = read(PLAIN.replace("{epochs", "{start: scratch, epochs"), "given.pth")
    assert scratch.recipe == Recipe(epochs=3, lr=0.4)
    assert read(PLAIN.replace("{epochs: 3, lr: 0.4}", "finetune")).recipe.head_lr == 10.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("resnet8", "{name: resnet8, weights: [a]}"), "host.weights: expected a file of weights, got"),
        (("epochs: 3", "start: finetun"), "Did you mean 'finetune'"),
        (("epochs: 3", "freeze: hots"), "Did you mean 'host'"),
        (("epochs: 3", "freeze: [0]"), "list of stages from 1"),
        (("epochs: 3", "norm: froze"), "Did you mean 'frozen'"),
        (("epochs: 3", "head_lr: 0"), "must be a positive finite number"),
        (("epochs: 3", "normalise: imagenett"), "Did you mean 'imagenet'"),
    ],
)
def test_wrong_words_of_a_space(change: tuple[str, str], message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        read(PLAIN.replace(*change))
    assert message in str(caught.value)


def test_weights_beside_the_space_file_are_found_from_anywhere(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "s.yaml").write_text(SPACE.format(weights="w.pth"))
    assert load_space(tmp_path / "s.yaml").weights == str(weights)


def saved(folder: Path, host: str, **ends: int) -> str:
    """A file of a host's untrained weights."""
    path = folder / f"{host}-{'-'.join(map(str, ends.values()))}.pth"
    torch.save(build(read_arch({"host": host}), seed=0, **ends).state_dict(), path)
    return str(path)


@pytest.mark.parametrize(
    ("host", "channels", "classes", "word"),
    [
        ("resnet18", 3, 1000, "imagenet"),
        ("resnet20", 3, 10, "cifar10"),
        ("resnet20", 3, 100, "cifar100"),
        ("resnet20", 3, 7, "data"),  # trained on something else
        ("resnet20", 1, 10, "data"),  # on grey digits, perhaps
    ],
)
def test_images_are_normalised_as_the_weights_want_it(
    host: str, channels: int, classes: int, word: str, tmp_path: Path
) -> None:
    file = saved(tmp_path, host, in_channels=channels, classes=classes)
    space = read(f"host: {host}\nstages: {{attention: [none, se]}}\n", file)
    assert prepared(space, Settings()).recipe.normalise == word
    plain = read(f"host: {host}\nstages: {{attention: [none, se]}}\n")
    assert prepared(plain, Settings()).recipe.normalise == "auto"


def photos(folder: Path, side: int) -> str:
    """Twelve pictures of two classes."""
    for name, count in (("a", 6), ("b", 6)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return str(folder)


@pytest.mark.parametrize(
    ("host", "side", "asked", "size"),
    [
        ("resnet18", 300, None, 224),  # ImageNet's
        ("resnet18", 300, 96, 96),  # as asked
        ("resnet20", 300, None, 32),  # CIFAR's
        ("resnet20", 16, None, None),  # small images of one size stay as they are
    ],
)
def test_images_have_the_size_that_the_weights_want(
    host: str, side: int, asked: int | None, size: int | None, tmp_path: Path
) -> None:
    file = saved(tmp_path, host, in_channels=3, classes=10)
    space = replace(read(f"host: {host}\nstages: {{attention: [none, se]}}\n"), weights=file)
    settings = Settings(data=photos(tmp_path / "photos", side), image_size=asked)
    assert sized(space, settings).image_size == size
    assert sized(replace(space, weights=""), settings).image_size == asked


def test_a_study_from_weights_end_to_end(
    space_file: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = study(space_file, tmp_path / "out", monkeypatch, study="s", seeds=4)
    assert {trial.state for trial in record.trials} == {"complete"}, [t.reason for t in record.trials]
    kept = record.info.weights
    assert (kept.path, kept.sha256) == (str(weights), identify(str(weights)).sha256)
    assert (kept.missing, kept.loaded) == ((), len(network().state_dict()))
    assert record.attrs["weights"]["sha256"] == kept.sha256
    assert set(record.info.controls.values()) == {"null gate", "adapter", "half of the images"}
    told = finalists.control_sentence(record, 1)
    assert "the positive control, plain (half of the images), is" in told
    assert "4 seeds" in told
    # The plain host's error is that of the given weights, trained by the recipe.
    plain = next(trial for trial in record.trials if trial.key == record.info.space.baseline)
    recipe = record.info.recipe
    again = start(
        Arch.from_dict(plain.spec), identify(str(weights)), classes=10, in_channels=1, seed=plain.seed
    )
    history = fit(again, device_data(open_data("digits"), recipe, "cpu"), recipe, seed=plain.seed)
    assert history[-1].val_error == plain.error
    assert space_of(record).weights == str(weights)


def test_weights_from_the_command_line_are_part_of_the_question(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "plain.yaml"
    file.write_text(SPACE.format(weights=weights).replace(f", weights: {weights}", ""))
    record = study(file, tmp_path / "out", monkeypatch, study="s", weights=str(weights), train_images=128)
    assert all("identity" in trial.arch for trial in record.trials if "se" in trial.arch)
    assert space_of(record).fingerprint() == record.info.space.fingerprint


def test_a_resumed_study_refuses_other_weights(
    space_file: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    study(space_file, out, monkeypatch, study="s", trials=2)
    torch.save({"net": network(seed=4).state_dict()}, weights)
    with pytest.raises(UsageError, match="weights have changed since study 's' began"):
        study(space_file, out, monkeypatch, study="s", resume=True)
    assert len(open_study("s", out=out).record.trials) == 2
    code = main(
        ["run", "--space", str(space_file), "--data", "digits", "--out", str(out), "--study", "s", "--resume"]
    )
    assert code == 2


def test_a_moved_file_of_weights_goes_on(
    space_file: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = study(space_file, tmp_path / "out", monkeypatch, study="s")
    moved = weights.rename(tmp_path / "elsewhere.pth")
    host_weights._known.cache_clear()  # as in another process
    row = choose(record, "best")
    with pytest.raises(UsageError, match="not found"):
        pack(row, record.info, tmp_path / "e")
    package = pack(row, record.info, tmp_path / "e", weights=str(moved))
    assert package.started
    torch.save({"net": network(seed=5).state_dict()}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="began with other weights"):
        pack(row, record.info, tmp_path / "e", weights=str(tmp_path / "other.pth"))


def test_weights_that_do_not_fit_leave_no_study_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(build(read_arch({"host": "resnet14"}), in_channels=1).state_dict(), tmp_path / "w.pth")
    (tmp_path / "s.yaml").write_text(SPACE.format(weights=tmp_path / "w.pth"))
    out = tmp_path / "out"
    given = ["run", "--space", str(tmp_path / "s.yaml"), "--data", "digits", "--out", str(out)]
    assert main([*given, "--device", "cpu"]) == 2
    assert "The host that fits it: host: resnet14" in capsys.readouterr().err
    assert not out.exists()
    assert main([*given, "--weights", str(tmp_path / "gone.pth")]) == 2
    assert "Checkpoint not found" in capsys.readouterr().err


def test_a_worker_refuses_a_file_that_is_another_by_now(weights: Path) -> None:
    known = identify(str(weights))
    torch.save({"net": network(seed=9).state_dict()}, weights)
    job = Job(0, read_arch({"host": HOST}).to_dict(), 0, Recipe(epochs=1, train_images=64), weights=known)
    outcome = Worker(DataSource("digits"), "cpu").run(job, lambda progress: True)
    assert isinstance(outcome, Outcome)
    assert outcome.state == "failed"
    assert "have changed: SHA-256" in outcome.reason


def test_the_adapter_costs_what_the_costliest_gate_costs() -> None:
    """Per stage: 2 C h H W + bias-free counting of two 1x1 convolutions, h rounded to the nearest whole channel."""
    space = read("host: resnet8\nstages: {attention: [none, gam, se]}\ntied: true\ndesign: add\n", "w.pth")
    table = CostTable(space, (3, 32, 32), 10)
    variants = laid_out(space, table, Settings(seeds=2))[1]
    adapter = next(v for v in variants.values() if v.control == "adapter")
    gam = next(v for v in variants.values() if "gam" in v.name)
    spent, aimed = (table.direct(v.arch)["macs"] - table.baseline["macs"] for v in (adapter, gam))
    one = sum(
        2 * c * side * side for c, side in ((16, 32), (32, 16), (64, 8))
    )  # MACs of one hidden channel each
    assert abs(spent - aimed) <= one / 2
    cheap = read("host: resnet8\nstages: {attention: [none, se]}\ntied: true\n", "w.pth")
    arch = adapted(cheap.arch({"stages": "se@identity"}), CostTable(cheap, (3, 32, 32), 10))
    assert [dict(stage.attention.options)["hidden"] for stage in arch.stages] == [
        1,
        1,
        1,
    ]  # at least one channel


def test_little_maps_are_warned_of() -> None:
    """ResNet-18 divides by 32: 2×2 at 64 pixels, 7×7 at 224."""
    host = read_arch({"host": "resnet18"}).host
    assert "maps of 2×2 at images of 64×64" in small_map(host, (3, 64, 64))
    assert "--image-size 128" in small_map(host, (3, 64, 64))
    assert small_map(host, (3, 224, 224)) == ""
    assert small_map(read_arch({"host": "resnet20"}).host, (3, 32, 32)) == ""


def test_weights_of_a_deeper_network_are_refused_with_its_name(tmp_path: Path) -> None:
    """Every tensor of a ResNet-8 is in a ResNet-20's checkpoint, which computes something else."""
    file = tmp_path / "deep.pt"
    torch.save(build(read_arch("resnet20")).state_dict(), file)
    with pytest.raises(
        UsageError, match=r"deeper network than .*resnet8.*6 residual units .*host: .*resnet20"
    ):
        start(read_arch("resnet8"), identify(str(file)), classes=10, in_channels=3, seed=0)


def test_half_of_the_images_takes_as_many_steps_on_each_class_and_stays_out_of_validation() -> None:
    data = device_data(open_data("digits"), Recipe(), "cpu")
    half = with_half_of_train(data)
    assert len(half.train_labels) == len(data.train_labels)
    rows = half.train_images[:].flatten(1)
    distinct, counts = torch.unique(rows, dim=0, return_counts=True)
    before = torch.unique(data.train_images[:].flatten(1), dim=0)
    assert abs(len(distinct) - len(before) / 2) <= 1
    assert counts.float().mean() == pytest.approx(2, abs=0.01)
    spread = half.train_labels.bincount() / data.train_labels.bincount()
    torch.testing.assert_close(spread, torch.ones(10), atol=0.02, rtol=0)
    # Re-split first, then halved: no image that is judged is one that was learnt.
    model, recipe = network(), Recipe(epochs=1, batch_size=64, resplit=True, train_images=256, augment=())
    seen: list[torch.Tensor] = []
    model.conv1.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].flatten(1)) if model.training else None
    )
    data = device_data(open_data("digits"), recipe, "cpu")
    fit(model, replace(data, half=True), recipe, seed=3)
    assert len(torch.unique(torch.cat(seen), dim=0)) <= 128
    judged = normalise(resplit(data, 3).val_images[:], data.mean, data.std).flatten(1)
    both = torch.cat([torch.unique(torch.cat(seen).float(), dim=0), torch.unique(judged, dim=0)])
    assert len(torch.unique(both, dim=0)) == len(both)


def test_the_positive_control_of_given_weights_is_the_plain_host_on_half_of_the_images() -> None:
    text = "host: resnet8\nstages: {attention: [none, se]}\ntied: true\ndesign: add\n"
    given, without = read(text, "w.pth"), read(text)
    assert (positive(given), positive(without)) == ("half of the images", "narrow host")
    arch = positive_control(given)
    assert (str(arch), arch.images, arch.host) == ("plain (half of the images)", "half", given.host)
    assert arch.key != given.baseline().key
    assert Arch.from_dict(arch.to_dict()) == arch
    assert given.choice(arch) is None
    assert positive_control(without).host.widths == (8, 16, 32)


# What is wrong with a file -> what makes it of a good one, and what is said.
BAD_WEIGHTS: dict[str, tuple[Any, str]] = {
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:3000]),
        "is not a checkpoint of weights, or a damaged",
    ),
    "code": (lambda path: torch.save(network(), path), "it holds Python objects"),
    "another architecture": (
        lambda path: torch.save(
            build(read_arch({"host": {**HOST, "width": 8}}), in_channels=1).state_dict(), path
        ),
        "The host that fits it: host: {name: resnet8, width: 8",
    ),
    "NaN": (
        lambda path: torch.save({k: v * float("nan") for k, v in network().state_dict().items()}, path),
        "has NaN or infinity in conv1.weight",
    ),
    "no match": (
        lambda path: torch.save({"a.b": torch.zeros(2)}, path),
        "No tensor of the checkpoint fits the model",
    ),
    "channels": (
        lambda path: torch.save(build(read_arch({"host": HOST}), in_channels=3).state_dict(), path),
        "takes images of 3 channels, the data set's have 1",
    ),
    "empty": (lambda path: path.write_bytes(b""), "or a damaged one (0 bytes)"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights_end_a_run_with_2_and_a_sentence_and_leave_nothing(
    case: str, space_file: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, words = BAD_WEIGHTS[case]
    spoil(weights)
    out = tmp_path / "out"
    given = ["run", "--space", str(space_file), "--data", "digits", "--out", str(out), "--device", "cpu"]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not out.exists()
