"""What a run will take, told before it takes it: timed steps, the sums made of them, and `run --dry-run`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnsearch.__main__ import main
from attnsearch.cli._progress import Lines
from attnsearch.core.messages import DataSource, Job, Outcome, Timing
from attnsearch.core.requirements import Requirements, Timed, compared
from attnsearch.core.settings import Settings
from attnsearch.core.trial import Recipe
from attnsearch.space.arch import Arch, Host, plain
from attnsearch.space.question import written
from attnsearch.space.space import read_space
from attnsearch.study.dry_run import estimate, extremes, predicted
from attnsearch.study.run import Run
from attnsearch.study.signals import Stop
from attnsearch.study.study import open_study
from attnsearch.train.worker import Worker
from tests.engine import FakeEngine, ending_in

MEMORY = 400_000_000
NEEDED = Requirements(
    7, 2, 60.0, 90.0, 120.0, 360.0, 2_100_000_000, "cpu, 1 thread", (Timed("plain", 0.5, 3, 60.0),)
)


class Clocked(FakeEngine):
    """Timed jobs answer with seconds of a step by their arch; trainings end at once."""

    def __init__(self, step: Callable[[Arch], float], slots: int = 2) -> None:
        super().__init__(ending_in(lambda arch, seed, epochs: 10.0 + seed), slots=slots, steps=False)
        self.step, self.timed = step, list[Job]()

    def submit(self, job: Job) -> None:
        if not job.timed:
            return super().submit(job)
        self.timed.append(job)
        timing = Timing(1.0, self.step(Arch.from_dict(job.spec)), 10, 3, 0.5, MEMORY)
        self.messages.append(Outcome(job.number, "complete", device="cpu, 1 thread", timing=timing))
        return None


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Clocked:
    """Every run uses this engine: a step of the plain host takes 0.2 s, of any other 0.4 s."""
    engine = Clocked(lambda arch: 0.2 if arch.key == plain(arch.host).key else 0.4)
    monkeypatch.setattr("attnsearch.train.local_engine.LocalPool", lambda *args, **options: engine)
    return engine


def test_a_training_is_its_start_and_its_epochs() -> None:
    timing = Timing(start=1.0, step=0.1, steps=10, timed=3, validation=0.5, memory=0)
    assert timing.seconds(3) == pytest.approx(1.0 + 3 * (10 * 0.1 + 0.5))


def test_seconds_of_other_archs_follow_from_their_work() -> None:
    # A second for each 100 MACs and one for each 50 bytes.
    costs = [{"macs": 100.0, "bytes_moved": 50.0}, {"macs": 200.0, "bytes_moved": 50.0}]
    between = {"macs": 150.0, "bytes_moved": 100.0}
    archs = [
        (plain(Host("resnet8", width=width)), each)
        for width, each in zip((4, 8, 6), (*costs, between), strict=True)
    ]
    assert predicted(archs, [(archs[0], 2.0), (archs[1], 3.0)]) == pytest.approx([2.0, 3.0, 3.5])


def test_one_timed_arch_is_enough_and_work_takes_no_negative_time() -> None:
    costs = [{"macs": 100.0, "bytes_moved": 50.0}, {"macs": 300.0, "bytes_moved": 60.0}]
    archs = [(plain(Host("resnet8", width=width)), each) for width, each in zip((4, 8), costs, strict=True)]
    other = (plain(Host("resnet8", width=6)), {"macs": 200.0, "bytes_moved": 55.0})
    assert predicted([archs[0]], [(archs[0], 2.0)]) == pytest.approx([2.0])
    falling = predicted([*archs, other], [(archs[0], 4.0), (archs[1], 2.0)])  # more work in less time: noise
    assert falling[:2] == [4.0, 2.0]  # what was timed stays as it was
    assert 2.0 <= falling[2] <= 4.0


def test_the_archs_that_are_timed_do_most_and_least_work() -> None:
    hosts = [plain(Host("resnet8", width=width)) for width in (4, 8, 12, 16)]
    rows = [(arch, {"macs": float(i), "bytes_moved": float(-i)}) for i, arch in enumerate(hosts)]
    middle_first = [rows[1], rows[0], rows[2], rows[3]]
    assert [arch for arch, _ in extremes(middle_first)] == [hosts[1], hosts[3], hosts[0]]


def test_every_place_is_busy_while_steps_are_timed() -> None:
    engine = Clocked(lambda arch: 0.2, slots=3)
    arch = plain(Host("resnet8"))
    sample = Job(-1, {}, 0, Recipe(epochs=2))
    needed, _ = estimate(
        engine, [(arch, {"macs": 1.0, "bytes_moved": 1.0})], 7, sample, Stop(), time.monotonic()
    )
    assert needed is not None
    assert len(engine.timed) == 3
    assert len({job.number for job in engine.timed}) == 3
    # 1 s, and 2 epochs of 10 steps and half a second; 7 trainings on 3 workers are 3 rounds.
    assert needed.mean == pytest.approx(6.0)
    assert needed.seconds == pytest.approx(18.0, abs=1.0)  # and what the timing takes
    assert needed.memory > 3 * MEMORY  # and this process
    (timed,) = needed.timed
    assert (timed.arch, timed.steps) == (str(arch), 9)
    assert (timed.step, timed.seconds) == pytest.approx((0.2, 6.0))


def test_it_is_said_in_a_sentence() -> None:
    assert str(NEEDED) == (
        "takes about 6:00: 7 trainings of 1:00 to 2:00 on 2 workers (cpu, 1 thread), and 2.1 GB of memory in all "
        "processes; by 3 timed steps of 1 arch"
    )
    early = str(replace(NEEDED, at_most="trainings may be stopped early"))
    assert early.startswith("takes about 6:00 at most (trainings may be stopped early): 7")


@pytest.mark.parametrize(("seconds", "words"), [(450.0, "25 % more"), (270.0, "25 % less")])
def test_how_near_it_was(seconds: float, words: str) -> None:
    text = compared(NEEDED, seconds, 1_900_000_000)
    assert f"{words} than expected; peak memory 1.9 GB, expected 2.1" in text


# A resnet8 on digits with one gate in all stages: plain, eca, its null gate and the narrow host, two seeds each.
QUESTION = "--host resnet8 --blocks eca --data digits --epochs 3 --seeds 2 --controls null --device cpu"


def test_a_dry_run_says_what_it_takes_and_leaves_nothing(
    tmp_path: Path, clocked: Clocked, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    assert main(["run", *QUESTION.split(), "--out", str(out), "--dry-run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert not out.exists()
    assert not clocked.jobs  # nothing was trained
    assert (answer["study"], answer["trials"], answer["workers"]) == ("eca_in_resnet8", 6, 2)
    # 1 s, and 3 epochs of 10 steps of 0.2 or 0.4 s and half a second of validation.
    assert answer["least"] == pytest.approx(8.5, rel=0.02)
    assert answer["most"] == pytest.approx(14.5, rel=0.02)
    # 6 trainings on 2 workers, and the start
    assert answer["seconds"] == pytest.approx(3 * answer["mean"], abs=2.0)
    assert main(["run", *QUESTION.split(), "--out", str(out), "--dry-run"]) == 0
    assert "6 trainings of 0:08 to 0:14 on 2 workers" in " ".join(capsys.readouterr().out.split())


def test_a_run_says_it_before_and_afterwards_how_near_it_was(
    tmp_path: Path, clocked: Clocked, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *QUESTION.split(), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert said.index("6 trainings of 0:08 to 0:14") < said.index("[1/6]") < said.index("less than expected")
    kept = open_study("eca_in_resnet8", out=tmp_path).record.info.run.estimate
    assert kept is not None
    assert 3 * 8.5 < kept["expected"]["seconds"] < 3 * 14.5  # three rounds of trainings of 8.5 to 14.5 s
    assert kept["took"]["seconds"] < 30
    assert kept["took"]["memory"] > 0


def test_the_rest_of_a_study_is_what_a_resumed_one_takes(tmp_path: Path, clocked: Clocked) -> None:
    space = read_space(written("resnet8", ["eca"]), "eca_in_resnet8")
    values: dict[str, Any] = {"data": "digits", "seeds": 2, "controls": "null", "out": tmp_path}
    settings = Settings(**values, device="cpu").check()
    Run(space, replace(settings, trials=2), Lines()).execute()
    before = open_study("eca_in_resnet8", out=tmp_path).record
    needed = Run(space, replace(settings, resume=True), Lines()).estimate()
    assert needed.trials == 4
    assert open_study("eca_in_resnet8", out=tmp_path).record == before


def test_a_dry_run_whose_steps_cannot_be_timed_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(Clocked):
        def submit(self, job: Job) -> None:
            self.messages.append(Outcome(job.number, "failed", reason="RuntimeError: shapes"))

    monkeypatch.setattr(
        "attnsearch.train.local_engine.LocalPool", lambda *args, **options: Failing(lambda arch: 1.0)
    )
    assert main(["run", *QUESTION.split(), "--out", str(tmp_path / "results"), "--dry-run"]) == 5
    assert "cannot be estimated: RuntimeError: shapes" in capsys.readouterr().err


def test_timed_steps_change_nothing_in_the_trainings_after_them() -> None:
    recipe = Recipe(epochs=1, batch_size=64, train_images=256)
    job = Job(1, plain(Host("resnet8", width=4)).to_dict(), 5, recipe)
    worker = Worker(DataSource("digits"), "cpu")
    before = worker.run(job, lambda progress: True)
    timed = worker.run(replace(job, timed=True), lambda progress: True)
    after = worker.run(job, lambda progress: True)
    assert timed.curve == ()
    assert timed.timing is not None
    assert timed.timing.steps == 4  # 256 images in batches of 64
    assert timed.timing.timed >= 3
    assert timed.timing.memory > 0
    errors = [(epoch.train_loss, epoch.val_error) for epoch in before.curve]
    assert errors == [(epoch.train_loss, epoch.val_error) for epoch in after.curve]
