"""Weights by their public names: fetched by the hub's client, refused in a sentence where that cannot be."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from attnsearch.__main__ import main
from attnsearch.build.host_weights import identify, start
from attnsearch.build.hub_weights import fetched, normalisation
from attnsearch.build.resnet import build
from attnsearch.core.errors import EnvironmentFault, UsageError
from attnsearch.core.settings import Settings
from attnsearch.space.presets import read_arch
from attnsearch.space.space import read_space
from attnsearch.study.starting_weights import prepared


class EntryNotFoundError(Exception): ...


class LocalEntryNotFoundError(EntryNotFoundError): ...


class RepositoryNotFoundError(Exception): ...


class HFValidationError(ValueError): ...


ERRORS = SimpleNamespace(  # a part of huggingface_hub.errors, with its tree
    EntryNotFoundError=EntryNotFoundError,
    LocalEntryNotFoundError=LocalEntryNotFoundError,
    RepositoryNotFoundError=RepositoryNotFoundError,
    HFValidationError=HFValidationError,
)
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# As timm's registry knows them: name -> repository on the hub, elsewhere, mean and standard deviation.
KNOWN = {
    "resnet8": ("timm/resnet8.a1", "", ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
    "resnet14": ("timm/resnet14.x", "", HALF),
    "resnet20": ("", "https://example.org/r20.pth", ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))),
}


def config(name: str) -> SimpleNamespace | None:
    if name.endswith(".nothing"):
        raise RuntimeError("Invalid pretrained tag")
    if name not in KNOWN:
        return None
    repository, url, (mean, std) = KNOWN[name]
    return SimpleNamespace(hf_hub_id=repository, url=url, mean=mean, std=std)


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """timm's registry, and a hub with one model, whose weights are not in safetensors."""
    model = build(read_arch({"host": {"name": "resnet8", "width": 4}}), classes=10, seed=5)
    torch.save(model.state_dict(), tmp_path / "cached.bin")

    def download(repository: str, file: str) -> str:
        if repository == "timm/resnet14.x":
            raise LocalEntryNotFoundError("not in the cache")
        if repository == "nobody/nothing":
            raise ConnectionError("[Errno -3] Temporary failure in name resolution")
        if file == "model.safetensors" or repository == "timm/empty":
            raise EntryNotFoundError(f"404: {file}")
        return str(tmp_path / "cached.bin")

    client = SimpleNamespace(hf_hub_download=download, errors=ERRORS)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", ERRORS)
    registry = SimpleNamespace(get_pretrained_cfg=config, list_pretrained=lambda: list(KNOWN))
    monkeypatch.setitem(sys.modules, "timm", registry)
    return tmp_path


@pytest.mark.parametrize("name", ["timm:resnet8", "hf-hub:timm/resnet8.a1"])
def test_a_public_name_is_a_file_from_then_on(name: str, hub: Path) -> None:
    assert fetched(name) == str(hub / "cached.bin")
    weights = identify(name)
    assert (weights.path, weights.sha256) == (
        str(hub / "cached.bin"),
        identify(str(hub / "cached.bin")).sha256,
    )
    arch = read_arch({"host": {"name": "resnet8", "width": 4}})
    model = start(arch, weights, classes=10, in_channels=3, seed=0)
    same = build(arch, classes=10, seed=5).state_dict()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, same[key], atol=0, rtol=0)
    assert fetched(f"{name}::model") == f"{hub / 'cached.bin'}::model"
    assert fetched("my.pth") == "my.pth"


def test_images_are_normalised_as_timm_says() -> None:
    assert [normalisation(name) for name in ("timm:resnet8", "timm:resnet14", "timm:resnet20", "w.pth")] == [
        "imagenet",
        "half",
        "0.1,0.2,0.3/0.4,0.5,0.6",
        "",
    ]
    space = read_space("host: resnet18\nstages: {attention: [none, se]}\n", "s", "timm:resnet14")
    assert prepared(space, Settings()).recipe.normalise == "half"  # not ImageNet's, as the stem would say


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("timm:resnet9", UsageError, "timm has no pretrained model 'resnet9'. Did you mean 'timm:resnet8'?"),
        ("timm:resnet8.nothing", UsageError, "timm has no pretrained model 'resnet8.nothing'"),
        ("timm:resnet20", UsageError, "has its weights elsewhere (https://example.org/r20.pth)"),
        ("timm:resnet14", EnvironmentFault, "the hub cannot be reached (no connection)"),
        ("hf-hub:nobody/nothing", EnvironmentFault, "Temporary failure in name resolution"),
        ("hf-hub:timm/empty", UsageError, "has none of model.safetensors, pytorch_model.bin"),
    ],
)
def test_what_cannot_be_fetched(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        fetched(name)
    assert words in str(caught.value)


def test_a_missing_extra_and_a_missing_network_end_a_run_with_4(
    hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (hub / "s.yaml").write_text("host: resnet8\nstages: {attention: [none, se]}\ntied: true\n")
    given = ["run", "--space", str(hub / "s.yaml"), "--data", "digits", "--out", str(hub / "out")]
    assert main([*given, "--weights", "timm:resnet14"]) == 4
    assert "Fetch the file where there is a network, and name it: --weights FILE" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "timm", None)
    assert main([*given, "--weights", "timm:resnet8"]) == 4
    assert "timm:resnet8 needs an extra: pip install 'attnsearch[timm]'" in capsys.readouterr().err
    assert not (hub / "out").exists()
