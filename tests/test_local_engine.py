"""The pool of worker processes when places, not trainings, are at fault."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest
import torch

from attnsearch.core import machine
from attnsearch.core.errors import EnvironmentFault
from attnsearch.core.messages import Began, DataSource, Job, Outcome
from attnsearch.core.trial import Recipe
from attnsearch.space.arch import Arch
from attnsearch.train import local_engine
from attnsearch.train.local_engine import MAX_FAILED_STARTS, LocalPool

ARCH = Arch.from_dict({"host": {"name": "resnet8", "width": 4}, "stages": [{}, {}, {}]})
RECIPE = Recipe(epochs=1, train_images=64, batch_size=32)


def job(number: int) -> Job:
    return Job(number, ARCH.to_dict(), 0, RECIPE)


def messages_until(pool: LocalPool, done, seconds: float = 120.0) -> list:
    """What the pool reports until `done(messages)`."""
    messages: list = []
    until = time.monotonic() + seconds
    while not done(messages):
        assert time.monotonic() < until, messages
        messages += pool.wait(0.5)
    return messages


def outcomes(messages) -> dict[int, Outcome]:
    return {m.number: m for m in messages if isinstance(m, Outcome)}


def test_a_place_whose_workers_cannot_start_is_retired_and_the_other_goes_on():
    pool = LocalPool(DataSource("digits"), workers=2, devices=["nosuchdevice", "cpu"])
    try:
        assert pool.slots == 2
        pool.submit(job(1))
        pool.submit(job(2))
        messages = messages_until(pool, lambda found: len(outcomes(found)) == 2)
        assert pool.slots == 1
        lost, trained = outcomes(messages)[1], outcomes(messages)[2]
        assert (lost.lost, lost.blameless) == (True, True)
        assert "nosuchdevice" in lost.reason
        assert trained.state == "complete"
        pool.submit(job(3))  # to the place that is left
        assert outcomes(messages_until(pool, lambda found: 3 in outcomes(found)))[3].state == "complete"
    finally:
        pool.close()


def test_a_pool_without_a_place_left_ends_the_run():
    pool = LocalPool(DataSource("digits"), workers=1, devices=["nosuchdevice"])
    try:
        with pytest.raises(EnvironmentFault, match=r"workers cannot start: RuntimeError: .*nosuchdevice"):
            messages_until(pool, lambda found: False)
    finally:
        pool.close()


def test_workers_that_we_end_ourselves_do_not_count_as_failed_starts():
    pool = LocalPool(DataSource("digits"), workers=1, devices=["cpu"])
    try:
        for number in range(MAX_FAILED_STARTS + 1):  # each is ended long before it can be ready
            pool.submit(job(number))
            pool.cancel(number, "timeout")
            ended = outcomes(messages_until(pool, lambda found, n=number: n in outcomes(found)))[number]
            assert (ended.state, ended.reason, ended.lost) == ("failed", "timeout", False)
        pool.submit(job(99))
        messages = messages_until(pool, lambda found: 99 in outcomes(found))
        assert messages[0] == Began(99)
        assert outcomes(messages)[99].state == "complete"
    finally:
        pool.close()


GATE = """from torch import nn

from attnsearch.registry import block


@block("edited")
class Edited(nn.Identity):
    def __init__(self, channels: int) -> None:
        super().__init__()
"""


def test_a_plugin_that_is_edited_in_mid_run_is_refused_by_a_replaced_worker(tmp_path):
    """It would be trained under the name of the other; the first workers go on with what they read."""
    plugin = tmp_path / "edited.py"
    plugin.write_text(GATE)
    pool = LocalPool(DataSource("digits"), workers=1, devices=["cpu"], plugins=[plugin])
    try:
        pool.submit(job(1))
        messages_until(pool, lambda found: 1 in outcomes(found))
        plugin.write_text(GATE.replace("nn.Identity", "nn.ReLU"))
        pool.submit(job(2))
        pool.cancel(2, "timeout")
        with pytest.raises(EnvironmentFault, match=r"edited\.py was changed while the study ran"):
            messages_until(pool, lambda found: False)
    finally:
        pool.close()


def test_workers_are_told_to_repeat_themselves_on_a_gpu(monkeypatch):
    """What torch's page on reproducibility asks for: cuDNN and cuBLAS keep to one order of sums."""
    started = {}

    class Process:
        def __init__(self, **arguments):
            self.sentinel, self.exitcode = None, None

        def start(self):
            started.update(os.environ)

        def kill(self): ...

        def join(self, seconds): ...

    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(local_engine._SPAWN, "Process", Process)
    LocalPool(DataSource("digits"), workers=1, devices=["cuda:0"]).close()
    assert started["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    ours, theirs = multiprocessing.Pipe()
    monkeypatch.setattr(local_engine._WorkerPipe, "send_heartbeats", lambda self, pause: None)
    local_engine._serve(theirs, DataSource("no such data"), "cpu", None, ((), ()), 1.0)
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert "no such data" in ours.recv().reason


@pytest.mark.parametrize(
    ("devices", "workers"), [(["cpu"], 192), (["cuda:0"], 4), ([f"cuda:{i}" for i in range(8)], 32)]
)
def test_a_box_of_many_cores_does_not_crowd_its_gpus(monkeypatch, devices, workers):
    """192 workers on eight cards hold 24 contexts of half a gigabyte on each."""
    monkeypatch.setattr(machine, "cores", lambda: 192)
    assert machine.worker_count(None, 1000, devices) == workers
    assert machine.worker_count(None, 3, devices) == 3
    assert machine.worker_count(7, 1000, devices) == 7


class Stuck:
    """A process in a device's driver: killed, and not ended."""

    def __init__(self):
        self.waited = 0.0

    def kill(self):
        pass

    def join(self, seconds):
        self.waited = seconds
        time.sleep(seconds)


def test_workers_that_cannot_be_killed_hold_up_the_end_once_and_not_each_in_turn(monkeypatch):
    monkeypatch.setattr(local_engine, "CLOSE", 0.3)
    pool = LocalPool(DataSource("digits"), workers=0, devices=["cpu"])
    processes = [Stuck() for _ in range(8)]
    pool._places = [local_engine._Place(process, multiprocessing.Pipe()[0]) for process in processes]
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 8 * 0.3 / 2
    assert sum(process.waited for process in processes) <= 0.3 + 0.01
