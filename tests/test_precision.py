"""The dtype of `precision: auto` is measured once and then holds for every process; other CPUs than this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from attnsearch.build.shortcuts import SubsampledConv1x1
from attnsearch.train import precision
from tests import faults
from tests.faults import Instant, question


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    precision._calibrated.cache_clear()
    monkeypatch.setattr(precision, "_has_instructions", lambda device: True)


def timed(monkeypatch: pytest.MonkeyPatch, single: float, half: float) -> list[str]:
    """Steps that take so many seconds by a clock of our own; the list grows by one per measuring."""
    now, measured = [0.0], []

    def step(device: torch.device, dtype: torch.dtype) -> object:
        measured.append(str(dtype))

        def advance() -> None:
            now[0] += half if dtype == torch.bfloat16 else single

        return advance

    monkeypatch.setattr(precision, "_step", step)
    monkeypatch.setattr("attnsearch.train.precision.time.process_time", lambda: now[0])
    return measured


@pytest.mark.parametrize(
    ("single", "half", "dtype"),
    [(0.02, 0.01, "bfloat16"), (0.01, 0.02, "float32"), (0.0100, 0.0095, "float32")],
)
def test_bfloat16_has_to_pay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, single: float, half: float, dtype: str
) -> None:
    timed(monkeypatch, single, half)
    found = precision.calibrate("cpu", tmp_path)
    assert found.dtype == dtype
    assert (found.float32_ms, found.bfloat16_ms) == pytest.approx((1e3 * single, 1e3 * half))


def test_it_is_measured_once_for_a_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured = timed(monkeypatch, 0.02, 0.01)
    first = precision.calibrate("cpu", tmp_path)
    precision._calibrated.cache_clear()  # as in another process
    assert precision.calibrate("cpu", tmp_path) == first
    assert len(measured) == 2  # one per dtype


def test_of_two_that_measure_at_once_the_first_to_write_is_right(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    one = precision.Calibration("cpu", 2.0, 1.0, "bfloat16")
    precision._write_first(path, one)
    assert precision._write_first(path, precision.Calibration("cpu", 1.0, 2.0, "float32")) == one
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("damage", ["", "[]", json.dumps({"dtype": "int8"}), '{"device": "cpu", "dtype"'])
def test_a_damaged_memory_is_measured_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    timed(monkeypatch, 0.02, 0.01)
    precision.calibrate("cpu", tmp_path)
    (path,) = (tmp_path / "precision").iterdir()
    path.write_text(damage)
    precision._calibrated.cache_clear()
    assert precision.calibrate("cpu", tmp_path).dtype == "bfloat16"
    assert json.loads(path.read_text())["dtype"] == "bfloat16"


def test_without_instructions_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(precision, "_has_instructions", lambda device: False)
    assert precision.calibrate("cpu", tmp_path).dtype == "float32"
    assert not list(tmp_path.iterdir())


def test_the_real_step_runs_and_leaves_the_generator_alone(tmp_path: Path) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    found = precision.calibrate("cpu", tmp_path)
    assert found.float32_ms is not None
    assert found.float32_ms > 0
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_a_subsampled_shortcut_is_the_strided_convolution() -> None:
    torch.manual_seed(0)
    subsampled = SubsampledConv1x1(4, 8, 1, 2, bias=False).double()
    plain = torch.nn.Conv2d(4, 8, 1, 2, bias=False).double()
    plain.load_state_dict(subsampled.state_dict())
    x = torch.randn(2, 4, 7, 10, dtype=torch.float64)
    grads = []
    for conv in (subsampled, plain):
        y = conv(x)
        y.square().sum().backward()
        grads.append(conv.weight.grad)
    torch.testing.assert_close(subsampled(x), plain(x))
    torch.testing.assert_close(*grads)


NARROW = """
import torch
from attnsearch.space.arch import Arch, Host, Stage
from attnsearch.build.resnet import build
torch.set_num_threads(1)
model = build(Arch(Host("resnet8", width=4), (Stage(),) * 3)).to(memory_format=torch.channels_last)
for _ in range(20):
    x = torch.randn(64, 3, 16, 16).to(memory_format=torch.channels_last)
    model(x).logsumexp(1).sum().backward()
"""


def test_a_narrow_host_trains_where_there_is_avx2_and_no_more() -> None:
    """Whoever runs the tests has AVX-512, or has not: oneDNN is told so here."""
    environment = {**os.environ, "DNNL_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", NARROW], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_auto_is_decided_once_for_a_study(tmp_path: Path) -> None:
    """By where its first training ran; a resume on a machine that would decide otherwise keeps to it."""
    first, later = Instant(), Instant()
    first.dtype = "bfloat16"
    study = faults.run(tmp_path, first, trials=3, confirm=0.0)
    assert {job.recipe.precision for job in first.jobs} == {"bfloat16"}
    assert study.record.info.run.precision == "bfloat16"
    faults.run(tmp_path, later, trials=6, confirm=0.0, resume=True)
    assert {job.recipe.precision for job in later.jobs} == {"bfloat16"}


def test_a_recipe_that_names_its_precision_is_kept_to(tmp_path: Path) -> None:
    engine = Instant()
    engine.dtype = "bfloat16"
    text = faults.TINY.replace("batch_size: 64", "batch_size: 64, precision: float32")
    with patch("tests.faults.question", lambda folder: question(folder, text)):
        study = faults.run(tmp_path, engine, trials=3, confirm=0.0)
    assert {job.recipe.precision for job in engine.jobs} == {"float32"}
    assert study.record.info.run.precision is None
