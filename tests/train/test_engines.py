"""A two-worker Ray on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from agents.search.config import MctsConfig
from polar_env.errors import ClusterError, ConfigError, QuestionTooLongError
from polar_env.llm import load_llm
from polar_env.program import single_edits
from polar_env.questions import Prompt, Question
from polar_env.traces import TraceSet
from tests.polar_env.traces.test_traces import facts
from tests.train import lost_cluster
from tests.worlds import world_of
from train.collect import LocalEngine, search_traces
from train.engines import RayEngine, WorkerSpec
from train.record import record

CONFIG = MctsConfig(simulations=10)
QUESTIONS = [Question.of(f"{n} + {n + 1}", str(2 * n + 1)) for n in range(12)]
PROMPT = Prompt(style="qa")


def test_without_ray_the_command_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'polar-env\[ray\]'"):
        RayEngine(WorkerSpec("m", "float32", "cpu", PROMPT, 1 << 26, None, 1), "f")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    os.environ["RAY_DEDUP_LOGS"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def spec_of(folder: Path) -> WorkerSpec:
    return WorkerSpec(str(folder), "float32", "cpu", PROMPT, 1 << 26, None, threads=1)


def collected(folder: Path, tiny_folder: Path, engine: Any = None, kill: Any = None) -> TraceSet:
    world = world_of(load_llm(str(tiny_folder)), PROMPT)
    traces = TraceSet.create(folder, world, {})
    engine = engine or LocalEngine(world)
    search_traces(engine, QUESTIONS, traces, CONFIG, in_flight=2, on_verdicts=kill or (lambda _: None))
    return traces


def test_workers_make_the_same_traces_though_one_is_killed(cluster: Any, tmp_path: Path, tiny_folder: Path) -> None:
    fingerprint = load_llm(str(tiny_folder)).fingerprint
    engine = RayEngine(spec_of(tiny_folder), fingerprint, workers=2)
    killed = []

    pids = worker_pids(cluster, engine)

    def kill_one(_: int) -> None:
        """After the first group, while the other worker is at work."""
        if not killed:
            at_work = [pid for worker, pid in pids if worker not in engine._idle]
            killed.append(at_work[0])
            os.kill(killed[0], signal.SIGKILL)

    ours = collected(tmp_path / "ray", tiny_folder, engine, kill_one)
    assert killed
    assert facts(ours) == facts(collected(tmp_path / "local", tiny_folder))
    assert engine.stats.verdicts >= len(QUESTIONS) * (CONFIG.simulations + 1)
    assert ours.work["simulations"] == len(QUESTIONS) * CONFIG.simulations


def test_two_recorders_give_the_same_recording_as_one(cluster: Any, tmp_path: Path, tiny_folder: Path) -> None:
    """And though one of them is killed."""
    world = world_of(load_llm(str(tiny_folder)), PROMPT)
    programs = [world.identity, *single_edits(world.identity)]
    engine = RayEngine(spec_of(tiny_folder), world.llm.fingerprint, workers=2)
    pids, counted = worker_pids(cluster, engine), []

    def kill_one(count: int) -> None:
        counted.append(count)
        if len(counted) == 1:
            os.kill(next(pid for worker, pid in pids if worker not in engine._idle), signal.SIGKILL)

    sizes = {"piece": 3, "block": 8}
    record(world, QUESTIONS, programs, tmp_path / "two", **sizes, recorder=engine.tiles, on_verdicts=kill_one)
    assert sum(counted) == len(QUESTIONS) * len(programs)
    assert engine.stats.verdicts >= sum(counted)
    record(world, QUESTIONS, programs, tmp_path / "one", **sizes)
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def worker_pids(ray: Any, engine: RayEngine) -> list[tuple[Any, int]]:
    return [(w, ray.get(w.__ray_call__.remote(lambda _: os.getpid()))) for w in engine._idle]


def test_those_that_live_go_on_until_there_is_room_for_another(cluster: Any, tmp_path: Path, tiny_folder: Path) -> None:
    """A machine was lost with a worker: its replacement waits for ever."""
    engine = RayEngine(spec_of(tiny_folder), load_llm(str(tiny_folder)).fingerprint, workers=2)
    _, victim = worker_pids(cluster, engine)[0]
    engine._options["num_cpus"] = 99
    os.kill(victim, signal.SIGKILL)
    ours = collected(tmp_path / "ray", tiny_folder, engine)
    assert len(engine._idle) == 1
    assert facts(ours) == facts(collected(tmp_path / "local", tiny_folder))


def test_without_room_for_any_worker_the_run_stops(cluster: Any, tmp_path: Path, tiny_folder: Path) -> None:
    engine = RayEngine(spec_of(tiny_folder), load_llm(str(tiny_folder)).fingerprint, workers=1)
    engine._options["num_cpus"] = 99
    os.kill(worker_pids(cluster, engine)[0][1], signal.SIGKILL)
    with pytest.raises(ClusterError, match="no machine of the cluster has room for a new one"):
        collected(tmp_path, tiny_folder, engine)


@pytest.mark.parametrize(
    ("machines", "cpus", "gpus", "room"),
    [
        ([{"CPU": 5.0}, {"CPU": 3.0}], 2, 0.0, 3),
        ([{"CPU": 64.0, "GPU": 8.0}], 1, 0.75, 8),  # none is spread over two
        ([{"CPU": 64.0, "GPU": 8.0}], 1, 0.5, 16),
        ([{"CPU": 64.0, "GPU": 8.0}, {"CPU": 64.0}], 1, 2.0, 4),
        ([{"CPU": 6.0, "GPU": 8.0}], 1, 1.0, 6),
    ],
)
def test_room_is_counted_machine_by_machine(machines: Any, cpus: int, gpus: float, room: int) -> None:
    engine = RayEngine.__new__(RayEngine)
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    gone = {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}}
    engine.ray = SimpleNamespace(nodes=lambda: [*nodes, gone])
    engine._options = {"num_cpus": cpus, "num_gpus": gpus}
    assert engine._room() == room


def test_another_model_on_a_worker_is_refused(cluster: Any, tiny_folder: Path) -> None:
    with pytest.raises(ClusterError, match="is another model"):
        RayEngine(spec_of(tiny_folder), "0123456789abcdef", workers=1)


def test_a_worker_that_cannot_load_says_why(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="could not load"):
        RayEngine(spec_of(tmp_path / "nowhere"), "f", workers=1)


def test_what_is_wrong_in_a_worker_is_told_as_here(cluster: Any, tmp_path: Path, tiny_folder: Path) -> None:
    world = world_of(load_llm(str(tiny_folder)), PROMPT)
    long = [Question.of("1 + 1 " * 2000, "2")]
    with pytest.raises(QuestionTooLongError) as here:
        list(LocalEngine(world).traces(long, CONFIG, 0, 2, lambda _: None))
    engine = RayEngine(spec_of(tiny_folder), world.llm.fingerprint, workers=1)
    with pytest.raises(QuestionTooLongError) as there:
        list(engine.traces(long, CONFIG, 0, 2, lambda _: None))
    assert str(there.value) == str(here.value)


def test_a_group_that_kills_every_worker_ends_the_run(
    cluster: Any, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = load_llm(str(tiny_folder)).fingerprint
    engine = RayEngine(spec_of(tiny_folder), fingerprint, workers=1)
    deadly = MctsConfig(simulations=10)
    monkeypatch.setattr(engine, "_make", lambda: _DyingWorker.options(num_cpus=0).remote(fingerprint))
    engine._idle = [engine._make()]
    with pytest.raises(ClusterError, match=r"4 workers died over the 2 questions from '0 \+ 1'"):
        list(engine.traces(QUESTIONS[:2], deadly, 0, 2, lambda _: None))


@pytest.fixture
def short_folder() -> Iterator[str]:
    """Ray's own files; the paths of its sockets must be short."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        yield folder


def test_a_cluster_that_goes_away_says_what_is_kept_and_how_to_go_on(
    tmp_path: Path, tiny_folder: Path, short_folder: str
) -> None:
    """A cluster started by hand, killed in the middle; the same command, without it, comes to the same traces."""
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}  # Ray takes no token from its file for a given address
    start = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        "--num-cpus=2",
        "--include-dashboard=false",
    ]
    start += [f"--port={port}", f"--temp-dir={short_folder}"]
    head = psutil.Popen(start, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        command = [sys.executable, "-m", "tests.train.lost_cluster", str(tiny_folder), str(tmp_path)]
        search = subprocess.Popen(
            [*command, f"127.0.0.1:{port}"], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert search.stdout is not None
        next(line for line in search.stdout if line.strip().isdigit())  # a group is finished
    finally:
        for process in [*head.children(recursive=True), head]:
            process.kill()
    _, said = search.communicate(timeout=120)
    assert search.returncode == 1
    assert "the cluster went away" in said
    assert "What was finished is kept; start the cluster and run the same command to go on." in said
    kept = len(TraceSet.open(tmp_path).questions_done())
    assert 0 < kept < len(lost_cluster.QUESTIONS)
    lost_cluster.collect(str(tiny_folder), tmp_path, "")
    lost_cluster.collect(str(tiny_folder), tmp_path / "whole", "")
    assert facts(TraceSet.open(tmp_path)) == facts(TraceSet.open(tmp_path / "whole"))


def _wait_for(port: int) -> None:
    """Until somebody listens there."""
    for _ in range(120):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("ray start did not come up")


try:
    import ray as _ray

    @_ray.remote
    class _DyingWorker:
        def __init__(self, fingerprint: str) -> None:
            self.known = fingerprint

        def fingerprint(self) -> str:
            return self.known

        def do(self, *_: object) -> None:
            os._exit(1)
except ImportError:
    pass
