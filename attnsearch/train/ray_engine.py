"""Trainings on the nodes of a Ray cluster: one actor a node, which holds today's pool of workers (`ray_node`).

Ray starts the actors, ships images and plug-ins, and says when a node is gone. It decides nothing: actors are never
restarted and calls never retried, so a job runs at most once under its number. A lost node's jobs come back as lost
without blame; nodes may come and go while a study runs.

Whoever reaches the ports of a Ray cluster can run code on it, and what travels between its processes is pickled. Beyond
this machine a cluster must therefore ask for a token (`RAY_AUTH_MODE=token`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attnsearch.core.errors import EnvironmentFault, UsageError
from attnsearch.core.machine import versions
from attnsearch.core.messages import DataSource, Job, Message, Notice, Outcome
from attnsearch.core.text import many
from attnsearch.core.trial import Dtype
from attnsearch.data.shipping import Shipment
from attnsearch.train.ray_node import (
    Answer,
    Batch,
    Cancel,
    Command,
    Node,
    Place,
    Plugin,
    Setup,
    Submit,
    packed,
)

PATIENCE = 600.0  # seconds without one place after which the run ends: SLURM starts nodes in minutes
HEARTBEAT_TIMEOUT = 20.0  # seconds without a batch after which a node is given up
LOOK = 5.0  # seconds between looks for new nodes
MAX_LOSSES = 3  # of a node in a row, with no training finished between, after which it is left out
CONNECT = 10.0  # seconds in which the cluster's port must answer


@dataclass(eq=False)
class _Node:
    """An actor and what is known of it."""

    name: str
    actor: Any
    opening: Any  # reference of its `Place`
    workers: int
    place: Place | None = None
    stream: Any = None
    slots: int = 0
    jobs: dict[int, Job] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)


class RayNodes:
    """The engine; see `engine.Engine`.

    Args:
        source: opened here; its train and val images travel to the nodes, the test split never does.
        address: `HOST:PORT` of a running cluster.
        workers: at most so many places in all; None for one a core, or one a GPU.
        use_gpu: None uses GPUs where a node has them, False never.
        plugins: files of blocks, modules: files that may be hosts; sent by content.
        patience: seconds without a place that is ready after which `wait` raises `EnvironmentFault`.
    """

    def __init__(
        self,
        source: DataSource,
        *,
        address: str,
        workers: int | None = None,
        use_gpu: bool | None = None,
        plugins: Sequence[Path] = (),
        modules: Sequence[Path] = (),
        patience: float = PATIENCE,
    ) -> None:
        from attnsearch.data import open_data
        from attnsearch.data.shipping import pack

        with contextlib.ExitStack() as quiet:  # undone where anything fails
            # Ray prints the last words of lost nodes on stdout, where results are read; notices say what matters.
            nowhere = quiet.enter_context(open(os.devnull, "w", encoding="utf-8"))
            quiet.enter_context(contextlib.redirect_stdout(nowhere))
            self._ray = _connect(address)
            data = open_data(source.name, **source.options)
            self._address, self._at_most, self._use_gpu, self._patience = address, workers, use_gpu, patience
            self._setup = Setup(
                source=replace(source, shipped=data.fingerprint),
                versions=versions(),
                plugins=tuple(Plugin(path.name, path.read_bytes()) for path in plugins),
                workers=0,
                on_gpu=False,
                modules=tuple(map(packed, modules)),
            )
            self._nodes: list[_Node] = []
            self._losses: dict[str, int] = {}  # node -> in a row
            self._refused: dict[str, str] = {}  # node -> why
            self._dtype: Dtype = "float32"
            self._device = ""  # of the first node: pairs of trainings must not differ in it
            self._looked = float("-inf")
            self._had_place = self._waited = time.monotonic()
            self._images = self._stored(pack(data))
            self._quiet = quiet.pop_all()

    @property
    def slots(self) -> int:
        """Places that are ready now; none until the first node is."""
        return sum(node.slots for node in self._nodes)

    @property
    def dtype(self) -> Dtype:
        """What `precision: auto` means on the first node, and so on all: each would decide for itself."""
        return self._dtype

    def submit(self, job: Job) -> None:
        free = [node for node in self._nodes if len(node.jobs) < node.slots]
        node = max(free, key=lambda node: node.slots - len(node.jobs))
        node.jobs[job.number] = job
        self._send(node, Submit(job))

    def answer(self, number: int, go: bool) -> None:
        for node in self._nodes:
            if number in node.jobs:
                self._send(node, Answer(number, go))

    def cancel(self, number: int, reason: str) -> None:
        for node in self._nodes:
            if number in node.jobs:
                self._send(node, Cancel(number, reason))

    def wait(self, seconds: float) -> list[Message]:
        """What the nodes report; see `Engine.wait`."""
        messages = self._grow()
        references = {(node.opening if node.place is None else node.stream): node for node in self._nodes}
        if references:
            ready, _ = self._ray.wait(list(references), num_returns=1, timeout=seconds)
            if ready:  # one that is ready is not all that are
                ready, _ = self._ray.wait(list(references), num_returns=len(references), timeout=0)
            for reference in ready:
                messages += self._read(references[reference], reference)
        else:
            time.sleep(seconds)
        messages += self._give_up_silent()
        self._check_patience()
        return messages

    def close(self) -> None:
        """End our actors and leave the cluster, which is not ours to stop."""
        for node in self._nodes:
            self._ray.kill(node.actor, no_restart=True)
        self._nodes = []
        self._ray.shutdown()
        self._quiet.close()

    def _stored(self, images: Shipment) -> Any:
        """Reference of the images, which Ray keeps in memory that nodes share, and on disk beyond that.

        Raises:
            EnvironmentFault: there is no room.
        """
        from ray.exceptions import RayError

        try:
            return self._ray.put(images)
        except RayError as error:
            self._ray.shutdown()
            raise EnvironmentFault(
                f"the images do not fit into the object store of the Ray cluster at {self._address} "
                f"({type(error).__name__}): start it with a larger `--object-store-memory`"
            ) from None

    def _send(self, node: _Node, command: Command) -> None:
        node.actor.send.options(concurrency_group="commands").remote([command])

    def _grow(self) -> list[Message]:
        """An actor on every node that has none of ours, as far as workers are wanted."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return []
        self._looked = now
        ours = {node.name for node in self._nodes}
        for entry in self._ray.nodes():
            name, resources = entry["NodeID"], entry["Resources"]
            if not entry["Alive"] or name in ours or name in self._refused:
                continue
            gpus = 0 if self._use_gpu is False else int(resources.get("GPU", 0))
            places = gpus or (0 if self._use_gpu else int(resources.get("CPU", 0)))
            if self._at_most is not None:
                places = min(places, self._at_most - sum(node.workers for node in self._nodes))
            if places > 0:
                self._nodes.append(self._start(name, places, gpus=min(gpus, places)))
        return []

    def _start(self, name: str, workers: int, gpus: int) -> _Node:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote = self._ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"commands": 1})(
            Node
        )
        actor = remote.options(
            num_cpus=workers,
            num_gpus=gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False),
        ).remote(replace(self._setup, workers=workers, on_gpu=gpus > 0), [self._images])
        return _Node(name, actor, actor.open.remote(), workers)

    def _read(self, node: _Node, reference: Any) -> list[Message]:
        from ray.exceptions import RayError, RayTaskError

        try:
            if node.place is None:
                return self._opened(node, self._ray.get(reference))
            batch: Batch = self._ray.get(next(reference))
        except RayTaskError as error:  # an error in our own code over there, in its own words
            return self._refuse(node, str(error.cause or error).strip().splitlines()[-1])
        except (RayError, StopIteration) as error:  # died, or unavailable and perhaps still training
            return self._lose(node, type(error).__name__)
        node.heard, node.slots = time.monotonic(), batch.slots
        messages = [m for m in batch.messages if getattr(m, "number", None) in node.jobs]  # others are late
        for message in messages:
            if isinstance(message, Outcome):
                del node.jobs[message.number]
                self._losses[node.name] = 0
        return messages

    def _opened(self, node: _Node, place: Place) -> list[Message]:
        if self._device and place.device != self._device:
            return self._refuse(node, f"it has {place.device}, the study's first node {self._device}")
        if not self._device:
            self._device, self._dtype = place.device, place.dtype
        node.place, node.slots, node.heard = place, node.workers, time.monotonic()
        node.stream = node.actor.listen.options(num_returns="streaming").remote()
        return [Notice(f"node {place.node} joined with {many(node.workers, 'place')} on {place.device}")]

    def _refuse(self, node: _Node, why: str) -> list[Message]:
        self._refused[node.name] = why
        return [Notice(f"node {node.name[:8]} is not used: {why}"), *self._drop(node, why)]

    def _lose(self, node: _Node, why: str) -> list[Message]:
        losses = self._losses[node.name] = self._losses.get(node.name, 0) + 1
        if losses >= MAX_LOSSES:
            return self._refuse(node, f"lost {losses} times in a row, at last by {why}")
        return [Notice(f"node {node.name[:8]} was lost ({why})"), *self._drop(node, f"node lost: {why}")]

    def _drop(self, node: _Node, why: str) -> list[Message]:
        """End the actor before its jobs begin elsewhere: it may be unreachable and alive."""
        with contextlib.suppress(Exception):  # Ray raises what it likes for an actor that is gone
            self._ray.kill(node.actor, no_restart=True)
        self._nodes.remove(node)
        return [Outcome(number, "failed", reason=why, lost=True, blameless=True) for number in node.jobs]

    def _give_up_silent(self) -> list[Message]:
        """Nodes without a batch; not after a time in which this process itself was suspended."""
        now = time.monotonic()
        if now - self._waited > HEARTBEAT_TIMEOUT / 2:
            for node in self._nodes:
                node.heard = now
        self._waited = now
        silent = [n for n in self._nodes if n.place is not None and now - n.heard > HEARTBEAT_TIMEOUT]
        return [m for node in silent for m in self._lose(node, f"no heartbeat for {HEARTBEAT_TIMEOUT:g} s")]

    def _check_patience(self) -> None:
        now = time.monotonic()
        if self.slots:
            self._had_place = now
        elif now - self._had_place > self._patience:
            reasons = "; ".join(sorted(set(self._refused.values()))) or "no node has joined"
            raise EnvironmentFault(
                f"no node of the Ray cluster at {self._address} could train within {self._patience:g} s: {reasons}"
            )


def _connect(address: str) -> Any:
    """Ray, connected to a running cluster.

    Raises:
        EnvironmentFault: no Ray installed, nobody at the address, no token beyond this machine, other versions.
    """
    if importlib.util.find_spec("ray") is None:
        raise EnvironmentFault("--engine ray needs Ray: pip install 'attnsearch[ray]'")
    host, port = split_address(address)
    require_token(host, address)
    try:
        socket.create_connection((host, port), CONNECT).close()
    except OSError as error:
        raise EnvironmentFault(
            f"no Ray cluster at {address}: {error.strerror or error}; start one with `ray start --head`"
        ) from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except (RuntimeError, ConnectionError, ValueError) as error:
        raise EnvironmentFault(
            f"cannot join the Ray cluster at {address}: {str(error).splitlines()[0]}"
        ) from None
    return ray


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`.

    Raises:
        UsageError: anything else.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--address takes HOST:PORT of a running Ray cluster, got '{address}'")
    return host.strip("[]"), int(port)


def require_token(host: str, address: str) -> None:
    """Refuse a cluster beyond this machine that runs code for whoever asks.

    Raises:
        EnvironmentFault: RAY_AUTH_MODE is not `token`.
    """
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and os.environ.get("RAY_AUTH_MODE") != "token":
        raise EnvironmentFault(
            f"the Ray cluster at {address} is beyond this machine and no token is used: anybody who reaches it can run "
            "code on it. Make one with `ray get-auth-token --generate` and set RAY_AUTH_MODE=token on every node"
        )
