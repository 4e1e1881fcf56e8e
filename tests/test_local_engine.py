"""The pool of worker processes when places, not trainings, are at fault."""

from __future__ import annotations

import multiprocessing
import time

import pytest

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
