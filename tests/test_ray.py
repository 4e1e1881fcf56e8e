"""The Ray engine: its checks, its handling of lost nodes with a stand-in for Ray, and a real cluster (slow)."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest

from attnsearch.core.errors import EnvironmentFault, UsageError
from attnsearch.core.machine import versions
from attnsearch.core.messages import Began, DataSource, Job, Notice, Outcome
from attnsearch.core.trial import Recipe
from attnsearch.train import ray_engine
from attnsearch.train.ray_engine import RayNodes, require_token, split_address
from attnsearch.train.ray_node import Batch, Node, Place, Plugin, Setup, Submit, check_versions, written

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port", "head:0", "head:70000"])
def test_an_address_is_host_and_port(address):
    with pytest.raises(UsageError, match=f"--address takes HOST:PORT .*got '{address}'"):
        split_address(address)


@pytest.mark.parametrize(
    ("address", "parts"),
    [("head:6379", ("head", 6379)), ("10.0.0.7:1", ("10.0.0.7", 1)), ("[::1]:6379", ("::1", 6379))],
)
def test_hosts_by_name_and_number(address, parts):
    assert split_address(address) == parts


def test_a_cluster_beyond_this_machine_needs_a_token(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost"):
        require_token(host, f"{host}:6379")
    for host in ("10.0.0.7", "head", "2001:db8::1"):
        with pytest.raises(EnvironmentFault, match="RAY_AUTH_MODE=token"):
            require_token(host, f"{host}:6379")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    require_token("head", "head:6379")


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'attnsearch\[ray\]'"):
        ray_engine._connect("127.0.0.1:6379")


def test_nobody_at_the_address(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EnvironmentFault, match=f"no Ray cluster at {address}: .*ray start --head"):
            ray_engine._connect(address)


def test_other_versions_are_named_on_both_sides():
    check_versions(versions())
    with pytest.raises(EnvironmentFault, match=r"torch \S+ here, 1\.0 on the coordinator"):
        check_versions({**versions(), "torch": "1.0"})


def test_plugins_travel_by_content():
    one, other = Plugin("gate.py", b"x = 1\n"), Plugin("gate.py", b"x = 2\n")
    paths = written([one, other])
    assert [path.read_bytes() for path in paths] == [one.content, other.content]
    assert {path.name for path in paths} == {"gate.py"}


class OnePlace:
    """A pool of one place that only remembers."""

    slots = 1

    def __init__(self):
        self.jobs = []

    def submit(self, job):
        self.jobs.append(job)

    def wait(self, seconds, wake=None):
        return []


def test_a_job_without_a_place_comes_back_without_blame():
    node = Node(Setup(DataSource("digits"), {}, (), 1, False), [])
    node._pool = OnePlace()
    node.send([Submit(job(1)), Submit(job(2))])
    batch = next(node.listen())
    assert [j.number for j in node._pool.jobs] == [1]
    (lost,) = batch.messages
    assert (lost.number, lost.lost, lost.blameless) == (2, True, True)


def job(number: int) -> Job:
    return Job(number, {}, 0, Recipe())


# A stand-in for Ray: actors answer what the test has written down for them.


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


class RayTaskError(RayError):
    """As `ray.exceptions.RayTaskError`; its cause is the error over there."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class Method:
    def __init__(self, call):
        self.remote = call

    def options(self, **_):
        return self


class Actor:
    def __init__(self, script):
        self.script, self.killed, self.sent = list(script), False, []
        self.open = Method(lambda: "open")
        self.listen = Method(lambda: iter(lambda: self, None))
        self.send = Method(lambda commands: self.sent.extend(commands))


class FakeRay(types.ModuleType):
    """`ray.get` of an actor gives the next entry of its script, raising those that are errors."""

    def __init__(self, scripts):
        super().__init__("ray")
        self.scripts, self.actors, self.gone = scripts, [], False

    def put(self, value):
        return value

    def nodes(self):
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 1.0}} for name in self.scripts]

    def remote(self, **_):
        def options(**given):
            def remote(*_):
                actor = Actor(self.scripts[given["scheduling_strategy"]])
                self.actors.append(actor)
                actor.open = Method(lambda: Opening(actor))
                actor.listen = Method(lambda: Stream(actor))
                return actor

            return types.SimpleNamespace(remote=remote)

        return lambda cls: types.SimpleNamespace(options=options)

    def wait(self, references, num_returns, timeout):
        ready = [r for r in references if r.actor.script]
        return (ready[:num_returns], [])

    def get(self, reference):
        value = reference.actor.script.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    def kill(self, actor, no_restart):
        actor.killed = True

    def shutdown(self):
        self.gone = True


class Opening:
    def __init__(self, actor):
        self.actor = actor


class Stream(Opening):
    def __next__(self):
        return self


@pytest.fixture
def cluster(monkeypatch):
    """Makes an engine over nodes that behave as written down: {name: [place, batch or error, ...]}."""

    made = []

    def make(scripts, **options):
        fake = FakeRay(scripts)
        errors = types.ModuleType("ray.exceptions")
        errors.RayError, errors.RayTaskError = RayError, RayTaskError
        strategies = types.ModuleType("ray.util.scheduling_strategies")
        strategies.NodeAffinitySchedulingStrategy = lambda name, soft: name
        for name, module in {
            "ray": fake,
            "ray.exceptions": errors,
            "ray.util": types.ModuleType("ray.util"),
            "ray.util.scheduling_strategies": strategies,
        }.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(ray_engine, "_connect", lambda address: fake)
        monkeypatch.setattr(ray_engine, "LOOK", 0.0)
        engine = RayNodes(DataSource("digits"), address="127.0.0.1:1", **options)
        made.append(engine)
        return engine, fake

    yield make
    for engine in made:
        engine.close()


def heard(engine, turns: int) -> list:
    return [message for _ in range(turns) for message in engine.wait(0.0)]


PLACE = Place("127.0.0.1", "a processor", "float32")


def test_a_lost_node_is_ended_before_its_jobs_come_back(cluster):
    lost = RayError("the actor is unavailable")
    engine, fake = cluster({"one": [PLACE, Batch(1, (Began(5),)), lost]})
    assert engine.slots == 0
    (joined,) = heard(engine, 1)
    assert "joined with 1 place on a processor" in joined.sentence
    engine.submit(job(5))
    assert heard(engine, 1) == [Began(5)]
    note, outcome = heard(engine, 1)
    assert "was lost" in note.sentence
    assert (outcome.number, outcome.lost, outcome.blameless) == (5, True, True)
    assert fake.actors[0].killed
    engine.close()
    assert fake.gone


def test_late_messages_of_other_numbers_are_dropped(cluster):
    engine, _ = cluster({"one": [PLACE, Batch(1, (Outcome(4, "complete"), Outcome(5, "complete")))]})
    heard(engine, 1)
    engine.submit(job(5))
    assert heard(engine, 1) == [Outcome(5, "complete")]


def test_a_node_with_other_versions_is_refused_and_the_others_are_used(cluster):
    skew = RayTaskError(EnvironmentFault("versions differ: torch 2.1 here, 2.13 on the coordinator"))
    engine, fake = cluster({"old": [skew], "new": [PLACE]})
    notes = [m.sentence for m in heard(engine, 2) if isinstance(m, Notice)]
    assert any("not used: versions differ: torch 2.1 here" in note for note in notes)
    assert engine.slots == 1
    assert len(fake.actors) == 2, "the refused node is not tried again"


def test_a_node_that_is_lost_three_times_in_a_row_is_left_out(cluster):
    engine, fake = cluster({"one": [PLACE, RayError("died")]})
    notes = [m.sentence for m in heard(engine, 12) if isinstance(m, Notice)]
    assert len(fake.actors) == ray_engine.MAX_LOSSES
    assert f"lost {ray_engine.MAX_LOSSES} times in a row" in notes[-1]


def test_another_device_is_refused_by_both_names(cluster):
    engine, _ = cluster({"one": [PLACE], "two": [Place("127.0.0.2", "another processor", "float32")]})
    notes = " ".join(m.sentence for m in heard(engine, 3) if isinstance(m, Notice))
    assert "it has another processor, the study's first node a processor" in notes
    assert engine.slots == 1


def test_a_node_that_dies_while_images_travel_is_left_out_and_the_other_trains(cluster):
    died = RayError("The node died while the object was fetched")
    engine, fake = cluster({"dying": [died], "sound": [PLACE]})
    notes = [m.sentence for m in heard(engine, 2) if isinstance(m, Notice)]
    assert any("node dying was lost (RayError)" in note for note in notes)
    assert fake.actors[0].killed
    assert engine.slots == 1


def test_a_node_whose_disk_is_full_is_refused_in_the_words_of_the_system(cluster):
    full = RayTaskError(OSError(28, "No space left on device"))
    engine, _ = cluster({"full": [full], "sound": [PLACE]})
    notes = [m.sentence for m in heard(engine, 2) if isinstance(m, Notice)]
    assert any("node full is not used: [Errno 28] No space left on device" in note for note in notes)
    assert engine.slots == 1


def test_a_full_object_store_ends_the_run_with_what_to_do(cluster, monkeypatch):
    def full(self, value):
        raise RayError("Failed to put object: the object store is full")

    monkeypatch.setattr(FakeRay, "put", full)
    with pytest.raises(EnvironmentFault, match=r"127\.0\.0\.1:1 .*larger `--object-store-memory`"):
        cluster({"one": [PLACE]})


def test_the_first_node_decides_what_auto_means_on_all(cluster):
    """Each node's own cache decided: a study would mix float32 with bfloat16."""
    first, second = (
        Place("127.0.0.1", "a processor", "bfloat16"),
        Place("127.0.0.2", "a processor", "float32"),
    )
    engine, _ = cluster({"one": [first], "two": [second]})
    heard(engine, 3)
    assert (engine.slots, engine.dtype) == (2, "bfloat16")


class Clock:
    """The engine's time, which the test moves."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(ray_engine, "time", types.SimpleNamespace(monotonic=lambda: self.now))


def test_a_node_that_stands_still_is_given_up_within_20_s(cluster, monkeypatch):
    """Stopped, not dead: Ray still has it for alive, and no batch comes."""
    clock = Clock(monkeypatch)
    engine, fake = cluster({"one": [PLACE, Batch(1, (Began(5),))]})
    heard(engine, 1)
    engine.submit(job(5))
    assert heard(engine, 1) == [Began(5)]
    stopped, messages = clock.now, []
    while not messages:
        clock.now += 0.5
        messages = engine.wait(0.5)
    assert clock.now - stopped <= 20.5
    note, outcome = messages
    assert "was lost (no heartbeat for 20 s)" in note.sentence
    assert (outcome.number, outcome.lost, outcome.blameless) == (5, True, True)
    assert fake.actors[0].killed, "it must not go on once its job runs elsewhere"


def test_no_node_is_given_up_for_a_time_in_which_the_coordinator_itself_stood_still(cluster, monkeypatch):
    clock = Clock(monkeypatch)
    engine, _ = cluster({"one": [PLACE, Batch(1, ())]})
    heard(engine, 2)
    clock.now += 3600
    assert engine.wait(0.5) == []
    assert engine.slots == 1


def test_patience_ends_with_the_reason(cluster):
    skew = RayTaskError(EnvironmentFault("versions differ: torch 2.1 here"))
    engine, _ = cluster({"old": [skew]}, patience=0.0)
    with pytest.raises(EnvironmentFault, match="could train within 0 s: versions differ"):
        heard(engine, 3)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra attnsearch[ray]")
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs a network namespace")
def test_nodes_killed_and_stopped_in_mid_run_lose_nothing(tmp_path):
    """Two nodes, one killed, one stopped: all trials finish, none twice, each with its error of a local run."""
    out = tmp_path / "figures.json"
    arguments = ["--trials", "16", "--kills", "1", "--parts", "killed,stopped,one", "--out", str(out)]
    command = ["unshare", "-n", sys.executable, "-m", "benchmarks.speed.ray_cluster", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ATTNSEARCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(out.read_text())
    for part in ("killed", "stopped"):
        found = figures[part]
        assert found["finished"] == found["trials"] == found["common"]
        assert (found["running"], found["twice"], found["other_errors"]) == (0, 0, 0)
        assert found["integrity_check"] == "ok"
        assert found["lost"] >= 1, "a node is lost while it trains"
    assert figures["killed"]["kills"] == 1
    assert figures["one"]["rows_that_differ"] == 0
