"""`run --host --blocks`: the space that is made, and its answers to mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnsearch.__main__ import main
from attnsearch.core.errors import UsageError
from attnsearch.space.question import written
from attnsearch.space.space import read_space
from attnsearch.study.study import open_study
from tests.test_pretrained import InThisProcess


def test_blocks_in_all_stages_are_one_variant_each() -> None:
    space = read_space(written("resnet18", ["se", "cbam", "eca"]), "x")
    assert (space.design, space.tied, space.host.name) == ("add", True, "resnet18")
    assert len(space.sites["stages"]) == 4  # the three blocks and none
    assert space.baseline().key in {arch.key for arch in space.enumerate()}


def test_some_stages_are_asked_each_for_itself() -> None:
    space = read_space(written("resnet18", ["se"], [3, 4]), "x")
    assert [len(options) for options in space.sites.values()] == [1, 1, 2, 2]


def test_conv_blocks_stand_for_convolutions() -> None:
    space = read_space(written("resnet20", ["dsconv"]), "x")
    assert any("dsconv" in label for label in space.sites["stages"])


def test_weights_are_part_of_what_is_written() -> None:
    space = read_space(written("resnet20", ["se"], weights="it's here/w.pth"), "x")
    assert space.weights == "it's here/w.pth"
    assert any("identity" in label for label in space.sites["stages"])


@pytest.mark.parametrize(
    ("host", "blocks", "stages", "message"),
    [
        ("resnet19", ["se"], [], "Unknown host 'resnet19'. Did you mean"),
        ("resnet18", ["sse"], [], "Did you mean 'se'"),
        ("resnet18", [], [], "at least one block"),
        ("resnet18", ["se", "dsconv"], [], "two questions"),
        ("resnet18", ["pmfs"], [], "neck slot"),
        ("resnet20", ["se"], [4], "resnet20 has stages 1 to 3, got 4"),
    ],
)
def test_mistakes(host: str, blocks: list[str], stages: list[int], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        written(host, blocks, stages)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--host resnet18", "takes both"),
        ("--blocks se", "takes both"),
        ("--space cbam_variants --host resnet18 --blocks se", "--space states the whole question"),
        ("--host resnet18 --blocks se --stages x", "must be an integer"),
    ],
)
def test_mistakes_of_flags(given: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *given.split()]) == 2
    assert message in capsys.readouterr().err


def test_the_question_is_answered_and_its_space_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("attnsearch.train.local_engine.LocalPool", InThisProcess)
    given = ["run", "--host", "resnet8", "--blocks", "eca", "--data", "digits", "--out", str(tmp_path)]
    sizes = ["--epochs", "1", "--train-images", "64", "--seeds", "2", "--controls", "none", "--device", "cpu"]
    assert main([*given, *sizes]) == 0, capsys.readouterr().err
    record = open_study("eca_in_resnet8", out=tmp_path).record
    assert {trial.state for trial in record.trials} == {"complete"}
    assert len(record.trials) == 4  # the host and one variant, two seeds each
    kept = (tmp_path / "eca_in_resnet8" / "space.yaml").read_text(encoding="utf-8")
    assert read_space(kept, "again").fingerprint() == record.info.space.fingerprint
