"""The far end of `ray_engine`: one actor on each node of a Ray cluster, with this machine's pool of workers inside.

A node is a pool. Heartbeats, failed starts, retirement of places and the environment of workers stay in `LocalPool`,
which has tests; messages leave the node in batches, and the images are written once into the node's cache.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from attnsearch.core.errors import EnvironmentFault
from attnsearch.core.machine import device_name, versions
from attnsearch.core.messages import DataSource, Job, Message, Outcome
from attnsearch.core.trial import Dtype
from attnsearch.data.shipping import Shipment, is_here, unpack
from attnsearch.space.module_file import sources
from attnsearch.train.local_engine import LocalPool

PAUSE = 0.5  # seconds after which a batch is sent though it is empty: a heartbeat
COMPARED = ("attnsearch", "torch", "numpy", "numba")  # numbers depend on them; Ray itself compares Python


@dataclass(frozen=True)
class Plugin:
    """A file of the user's code by its content."""

    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Module:
    """A file that may be a host, with the files beside it that it imports, by their paths from its folder."""

    name: str
    files: tuple[Plugin, ...]


def packed(path: Path) -> Module:
    """A file that may be a host, ready to be sent."""
    files = tuple(Plugin(name, file.read_bytes()) for name, file in sources(path).items())
    return Module(path.name, files)


@dataclass(frozen=True)
class Setup:
    """What a node needs before its first job."""

    source: DataSource
    versions: Mapping[str, str]
    plugins: tuple[Plugin, ...]
    workers: int
    on_gpu: bool
    modules: tuple[Module, ...] = ()


@dataclass(frozen=True)
class Place:
    """A node that is ready; `dtype` is what `precision: auto` means on it."""

    node: str
    device: str
    dtype: Dtype


@dataclass(frozen=True)
class Batch:
    """What happened on a node since the last batch; `slots` are its places that can take a job."""

    slots: int
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Submit:
    job: Job


@dataclass(frozen=True)
class Answer:
    number: int
    go: bool


@dataclass(frozen=True)
class Cancel:
    number: int
    reason: str


Command = Submit | Answer | Cancel


class Node:
    """The actor. `open` and `listen` run in one thread, which owns the pool; `send` may come at any time.

    Args:
        images: a list with the reference of a `Shipment`; fetched only if the cache does not hold it already.
    """

    def __init__(self, setup: Setup, images: list[Any]) -> None:
        self._setup, self._images = setup, images
        self._commands: list[Command] = []
        self._lock = Lock()
        self._wake, self._woken = Pipe()[::-1]  # (write end, read end)
        self._running: set[int] = set()

    def open(self) -> Place:
        """Check versions, keep the images, start the workers.

        Raises:
            EnvironmentFault: versions differ from the coordinator's, or no worker starts here.
        """
        check_versions(self._setup.versions)
        if not is_here(self._setup.source.shipped):
            import ray

            shipment: Shipment = ray.get(self._images[0])
            unpack(shipment)
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if self._setup.on_gpu else ["cpu"]
        self._pool = LocalPool(
            self._setup.source,
            workers=self._setup.workers,
            devices=devices,
            plugins=written(self._setup.plugins),
            modules=[written_module(module) for module in self._setup.modules],
        )
        return Place(_node_name(), device_name(torch.device(devices[0])), self._pool.dtype)

    def listen(self) -> Iterator[Batch]:
        """Batches of messages for as long as the actor lives."""
        while True:
            messages = self._pool.wait(PAUSE, wake=self._woken)
            while self._woken.poll():
                self._woken.recv_bytes()
            messages += self._obey()
            self._running -= {message.number for message in messages if isinstance(message, Outcome)}
            yield Batch(self._pool.slots, tuple(messages))

    def send(self, commands: Sequence[Command]) -> None:
        """Take commands for the pool's thread."""
        with self._lock:
            self._commands += commands
        self._wake.send_bytes(b"!")

    def _obey(self) -> list[Message]:
        with self._lock:
            commands, self._commands = self._commands, []
        lost: list[Message] = []
        for command in commands:
            if isinstance(command, Answer):
                self._pool.answer(command.number, command.go)
            elif isinstance(command, Cancel):
                self._pool.cancel(command.number, command.reason)
            elif len(self._running) < self._pool.slots:
                self._running.add(command.job.number)
                self._pool.submit(command.job)
            else:  # a place was retired while the job was on its way
                reason = "its place on the node was retired"
                lost.append(Outcome(command.job.number, "failed", reason=reason, lost=True, blameless=True))
        return lost


def check_versions(expected: Mapping[str, str]) -> None:
    """Refuse a node whose numbers could differ.

    Raises:
        EnvironmentFault: names the packages with both versions.
    """
    here = versions()
    skew = [
        f"{name} {here.get(name, 'missing')} here, {expected.get(name, 'missing')} on the coordinator"
        for name in COMPARED
        if here.get(name) != expected.get(name)
    ]
    if skew:
        raise EnvironmentFault(f"versions differ: {'; '.join(skew)}")


def written(plugins: Sequence[Plugin]) -> list[Path]:
    """The plug-ins as files of their own on this machine, which nobody edits while the study runs."""
    folder = Path(tempfile.mkdtemp(prefix="attnsearch-plugins-")) if plugins else Path()
    paths = [folder / plugin.sha256[:16] / plugin.name for plugin in plugins]
    for path, plugin in zip(paths, plugins, strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(plugin.content)
    return paths


def written_module(module: Module) -> Path:
    """A file that may be a host, with what it imports, in a folder of its own on this machine."""
    folder = Path(tempfile.mkdtemp(prefix="attnsearch-host-"))
    for file in module.files:
        (folder / file.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(file.content)
    return folder / module.name


def _node_name() -> str:
    import ray

    return str(ray.util.get_node_ip_address())
