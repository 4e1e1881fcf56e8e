"""Engines run jobs somewhere else: they take (arch, seed, budget), give back metrics, and never touch the study.

`local_engine` is a pool of worker processes on this machine; another engine need only speak the messages of
`core.messages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from attnsearch.core.machine import worker_count
from attnsearch.core.messages import DataSource, Job, Message
from attnsearch.core.settings import Settings
from attnsearch.core.trial import Dtype
from attnsearch.space import module_file


class Engine(Protocol):
    """Runs jobs in `slots` places at once."""

    @property
    def slots(self) -> int:
        """Places that can take a job; they may become more or fewer."""

    @property
    def dtype(self) -> Dtype:
        """What `precision: auto` means here; only asked while there is a place."""

    def submit(self, job: Job) -> None:
        """Start a job; only called while fewer than `slots` are running."""

    def wait(self, seconds: float) -> list[Message]:
        """What happened, waiting at most so long for something to happen.

        Raises `DataError` or `EnvironmentFault` where no worker can start.
        """

    def answer(self, number: int, go: bool) -> None:
        """Let a waiting job go on, or stop it."""

    def cancel(self, number: int, reason: str) -> None:
        """End a running job now; its `Outcome` is failed with the reason."""

    def close(self) -> None:
        """Release everything; running jobs are dropped."""


def start_engine(
    settings: Settings, trainings: int, *, devices: Sequence[str], plugins: Sequence[Path]
) -> Engine:
    """The engine that the settings name, with the study's images and the files that may be hosts.

    Raises:
        EnvironmentFault: no cluster at the address, or no Ray installed.
    """
    source = DataSource(settings.data, settings.data_options())
    if settings.engine == "local":
        from attnsearch.train.local_engine import LocalPool

        return LocalPool(
            source,
            workers=worker_count(settings.workers, trainings, devices),
            devices=devices,
            plugins=plugins,
            modules=module_file.allowed(),
        )
    from attnsearch.train.ray_engine import RayNodes

    return RayNodes(
        source,
        address=settings.address,
        workers=settings.workers,
        use_gpu={"auto": None, "cpu": False}.get(settings.device, True),
        plugins=plugins,
        modules=module_file.allowed(),
        patience=settings.patience,
    )
