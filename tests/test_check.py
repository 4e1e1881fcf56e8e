"""The audit passes every shipped block and finds the fault of every broken one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import attnsearch
from attnsearch.blocks import plugin, registry
from attnsearch.core.errors import UsageError
from attnsearch.tools.check_block import Finding, audit, properties
from tests.broken_blocks import BROKEN, Sound

EXPORTS = ("torch.export", "ONNX")  # seconds each
INSIDE = [name for name in properties() if name not in EXPORTS]
SHIPPED = sorted(registry.blocks())
PRESETS = [f"{name}.{preset}" for name, facts in registry.blocks().items() for preset in facts.presets]

WIDTH = {"psa.large": 128}  # its 32 groups do not fit into 64 channels


def failures(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.reason for finding in findings if finding.passed is not True}


@pytest.mark.parametrize("name", SHIPPED + PRESETS)
def test_shipped_blocks_pass(name: str) -> None:
    findings = audit(name, WIDTH.get(name, 64), only=INSIDE)
    assert not failures(findings)
    assert len(findings) >= len(INSIDE) - 1  # a neck has no stride and no gate
    assert all(finding.fact for finding in findings)


VARIANTS = [
    ("eca", {"kernel": 7}),
    ("ema", {"groups": 1}),
    ("gc", {"fusion": "mul"}),
    ("lska", {"kernel": 53}),
    ("mhsa.absolute", {"size": 14, "heads": 8}),
    ("sge", {"groups": 1}),
    ("shuffle", {"groups": 1}),
    ("sk", {"kernels": (3, 5, 7), "split_input": False}),
    ("triplet", {"kernel": 3, "spatial": False}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_variants_pass(name: str, options: dict) -> None:
    assert not failures(audit(name, options=options, only=[p for p in INSIDE if p != "widths"]))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("cbam", "eca", "mhsa") else pytest.mark.slow)
        for name in SHIPPED
    ],
)
def test_shipped_blocks_export(name: str) -> None:
    assert not failures(audit(name, only=EXPORTS))


def test_the_sound_block_passes() -> None:
    """Else a broken block, which differs from it in one place, might fail for another reason."""
    assert not failures(audit(Sound))


@pytest.mark.parametrize(
    ("block", "broken", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_broken_blocks_fail_for_their_fault(block: type, broken: str, words: str) -> None:
    found = failures(audit(block, only=[broken]))
    assert list(found) == [broken]
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(found[broken])


def test_a_conv_block_must_stride() -> None:
    class KeepsSize(torch.nn.Conv2d):
        block_slot = "conv"

        def __init__(self, channels: int, out_channels: int | None = None, stride: int = 1) -> None:
            super().__init__(channels, out_channels or channels, 3, padding=1)

    assert failures(audit(KeepsSize, only=["shape"])) == {}
    assert (
        "expected (2, 128, 4, 4), got (2, 128, 8, 8)" in failures(audit(KeepsSize, only=["stride"]))["stride"]
    )


def test_a_block_that_does_not_build_is_one_finding() -> None:
    (finding,) = audit("shuffle", 15)
    assert (finding.name, finding.passed) == ("builds", False)
    assert "even number of channels" in finding.reason


def test_missing_extra_is_skipped_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert audit("se", only=["ONNX"])[1] == Finding("ONNX", None, reason="pip install 'attnsearch[onnx]'")


def test_unknown_property_says_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'shape'"):
        audit("se", only=["shap"])


def test_the_audit_leaves_the_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    audit("se", only=INSIDE)
    assert torch.equal(before, torch.get_rng_state())


def test_a_file_that_fails_leaves_no_half_module(tmp_path: Path) -> None:
    file = tmp_path / "half.py"
    file.write_text("first = 1\nraise RuntimeError('broken')\n")
    for _ in range(2):  # a half that stayed would be taken for the module the second time
        with pytest.raises(RuntimeError, match="broken"):
            plugin.import_file("half_of_a_module", file)
        assert "half_of_a_module" not in sys.modules


def test_files_of_one_name_are_not_confused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edited between two readings, or lying in two folders: what runs is what the file says."""
    monkeypatch.setattr(registry, "_PLUGINS", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # Python's own loader would run what it kept
    text = (
        "from torch import Tensor, nn\n"
        "from attnsearch.blocks.registry import block\n\n\n"
        '@block("scaled")\n'
        "class Scaled(nn.Module):\n"
        "    def __init__(self, channels: int) -> None:\n"
        "        super().__init__()\n\n"
        "    def forward(self, x: Tensor) -> Tensor:\n"
        "        return x * {factor}\n"
    )
    file, elsewhere = tmp_path / "one.py", tmp_path / "folder" / "one.py"
    elsewhere.parent.mkdir()
    for factor in (2, 3):
        file.write_text(text.format(factor=factor))
        registry.add_plugin(file)
        assert attnsearch.create_block("scaled", 1)(torch.ones(1, 1, 1, 1)).item() == factor
    assert not any(tmp_path.rglob("__pycache__"))
    elsewhere.write_text(text.format(factor=4))
    with pytest.raises(UsageError, match=r"'scaled' is already registered by .*one\.py"):
        registry.add_plugin(elsewhere)


def test_a_users_file_is_audited_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_PLUGINS", {})
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import Tensor, nn\n"
        "from attnsearch.blocks.registry import block\n\n\n"
        '@block("mine")\n'
        "class Mine(nn.Module):\n"
        "    def __init__(self, channels: int, *, power: int = 2) -> None:\n"
        "        super().__init__()\n"
        "        self.power = power\n\n"
        "    def forward(self, x: Tensor) -> Tensor:\n"
        "        return x * x.abs().mean((2, 3), keepdim=True).pow(self.power)\n"
    )
    (facts,) = registry.add_plugin(file)
    assert not failures(audit(facts.name, options={"power": 3}, only=INSIDE))
    x = torch.ones(1, 4, 2, 2)
    torch.testing.assert_close(attnsearch.create_block("mine", 4, power=1)(2 * x), 4 * x)
