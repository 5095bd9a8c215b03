"""Searching and recording on many machines: Ray hands out questions to workers that each hold one LLM.

If a worker dies, another one does its job. Trees and tiles are the same as on one machine, since a tree depends on its
question and the seed alone, and a tile on its questions and programs.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from agents.search.config import MctsConfig
from agents.search.lockstep import search
from polar_env.errors import ClusterError, ConfigError, PolarError
from polar_env.progress import Advance
from polar_env.questions import Prompts, Question
from polar_env.runner import ExecutionStats
from polar_env.traces.tree import Trace
from polar_env.worlds import LiveWorld
from train.record import Arrays, Tile, measure

__all__ = ["RayEngine", "WorkerSpec", "require_ray"]

_LOG = logging.getLogger(__name__)
_PATIENCE_S = 5.0
"""The engine waits so long for workers before it checks that the cluster is still there."""
_PATIENT_WAITS = 12
_MOST_DEATHS = 3
"""A job is handed out again at most so often; after that the run stops, because it kills workers."""


def require_ray() -> Any:
    """The Ray package.

    Raises:
        ConfigError: with the command that installs it.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("Ray is not installed; pip install 'polar-env[ray]', or use --engine local.") from error
    return ray


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to make its world; paths must exist on every machine.

    Attributes:
        model, dtype, device: as on the command line.
        prompts: the prompts.
        memory_bytes: bound of the memory of the world, without the weights.
        verdicts: folder of verdicts on disk; None if they are not kept.
        threads: number of torch threads of one worker.
    """

    model: str
    dtype: str
    device: str
    prompts: Prompts
    memory_bytes: int
    verdicts: Path | None
    threads: int

    def world(self) -> LiveWorld:
        """Load the model and make a world."""
        from polar_env.llm import load_llm
        from polar_env.runner import Runner, VerdictStore

        llm = load_llm(self.model, dtype=self.dtype, device=self.device)
        store = None if self.verdicts is None else VerdictStore.of(self.verdicts, llm)
        return LiveWorld(Runner(llm, self.memory_bytes, store, self.threads), self.prompts)


class _Worker:
    """Does jobs in its own process, on any machine of the cluster."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.world = spec.world()

    def fingerprint(self) -> str:
        """The fingerprint of the loaded model."""
        return self.world.llm.fingerprint

    def do(self, job: Job) -> tuple[Any, ExecutionStats]:
        """The result of a job, and what it cost."""
        before = self.world.stats.copy()
        result = job.run(self.world)
        return result, self.world.stats.since(before)


class Job(Protocol):
    """Work for one worker, on some questions; hashable."""

    @property
    def questions(self) -> Sequence[Question]:
        """The questions, for a message."""

    def run(self, world: LiveWorld) -> Any:
        """Do it."""


@dataclass(frozen=True)
class _Search:
    """A tree for each question of a group."""

    questions: tuple[Question, ...]
    config: MctsConfig
    seed: int

    def run(self, world: LiveWorld) -> list[Trace]:
        """The traces."""
        return search(world, self.questions, self.config, self.seed)


@dataclass(frozen=True)
class _Recording:
    """A tile of a recorded world."""

    tile: Tile

    @property
    def questions(self) -> Sequence[Question]:
        """The tile's questions."""
        return self.tile.questions

    def run(self, world: LiveWorld) -> tuple[Tile, Arrays]:
        """The tile and what is kept of it."""
        return self.tile, measure(world, self.tile)


@dataclass
class _Queue:
    """The jobs of one run.

    Attributes:
        source: jobs that were not handed out yet; the next one is taken when a worker is idle.
        again: jobs whose worker died; they go first.
        deaths: how many workers died over a job.
        running: by the reference of the result to come, the worker and its job.
        loading: by the reference of the fingerprint to come, the worker that loads its model.
    """

    source: Iterator[Job]
    again: deque[Job] = field(default_factory=deque)
    deaths: Counter[Job] = field(default_factory=Counter)
    running: dict[Any, tuple[Any, Job]] = field(default_factory=dict)
    loading: dict[Any, Any] = field(default_factory=dict)

    def next(self) -> Job | None:
        """The next job; None if there is none."""
        return self.again.popleft() if self.again else next(self.source, None)

    def put_back(self, job: Job, error: Exception) -> None:
        """Let a job wait again, first in the line, after its worker died of an error.

        Raises:
            ClusterError: if it killed worker after worker.
        """
        self.deaths[job] += 1
        if self.deaths[job] > _MOST_DEATHS:
            raise ClusterError(
                f"{_MOST_DEATHS + 1} workers died over the {len(job.questions)} questions from "
                f"'{job.questions[0].text[:40]}' on: {error}. What was finished is kept; run the same command "
                "to go on, with fewer questions at a time or more memory for a worker."
            ) from error
        self.again.appendleft(job)


class RayEngine:
    """Searches and records on the workers of a Ray cluster.

    Args:
        spec: what each worker loads.
        fingerprint: the fingerprint of the model that all workers must load.
        workers: how many; each takes the next job when it is idle.
        gpus: number of GPUs of a worker, or a share of one; 0 runs on the CPU.
        address: address of a running cluster; if empty, one starts on this machine.

    Raises:
        ConfigError: if Ray is not installed.
        ClusterError: if the cluster cannot be reached, or a worker cannot load the model.
    """

    def __init__(
        self, spec: WorkerSpec, fingerprint: str, workers: int = 2, gpus: float = 0.0, address: str = ""
    ) -> None:
        self.ray, self.spec, self.fingerprint = require_ray(), spec, fingerprint
        self.stats = ExecutionStats()
        if not self.ray.is_initialized():
            self._connect(address, workers)
        host, _, port = self.ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = host, int(port)
        self._options = {"num_cpus": spec.threads, "num_gpus": gpus}
        if workers > self._room():
            raise ClusterError(
                f"the cluster has room for {self._room()} workers of {spec.threads} CPUs and {gpus:g} GPUs each, and "
                f"{workers} are asked for. Give fewer --workers, fewer --threads or a smaller --worker-gpus, or join "
                "more machines."
            )
        self._idle = [self._make() for _ in range(workers)]
        for pending in [worker.fingerprint.remote() for worker in self._idle]:
            self._require_model(self._first([pending], needs_room=True))

    def _make(self) -> Any:
        return self.ray.remote(_Worker).options(**self._options).remote(self.spec)

    def _room(self) -> int:
        """How many workers fit on the machines of the cluster; a share of a GPU is always on one GPU."""
        cpus, gpus = self._options["num_cpus"], self._options["num_gpus"]
        room = 0
        for machine in (node["Resources"] for node in self.ray.nodes() if node["Alive"]):
            fits = int(machine.get("CPU", 0) // cpus)
            if gpus:
                there = machine.get("GPU", 0)
                fits = min(fits, int(there // gpus) if gpus > 1 else int(there) * int(1 / gpus))
            room += fits
        return room

    def _connect(self, address: str, workers: int) -> None:
        local = {"address": "local", "num_cpus": workers * self.spec.threads}  # even where another cluster runs here
        options: dict[str, Any] = {"address": address} if address else local
        try:
            self.ray.init(log_to_driver=False, include_dashboard=False, **options)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"no Ray cluster at '{address or 'this machine'}': {error}. Start one with `ray start --head` and give "
                "its address (a cluster with a token needs RAY_AUTH_MODE=token here, too), or leave out --ray-address "
                "to use this machine alone."
            ) from error

    def _require_model(self, pending: Any) -> None:
        """Refuse a worker that could not load its model, or loaded another; ``pending`` refers to its fingerprint."""
        try:
            theirs = self._result(pending)
        except _WorkerDiedError as error:
            raise ClusterError(f"a worker could not load '{self.spec.model}': {error}") from error
        if theirs != self.fingerprint:
            raise ClusterError(
                f"a worker's '{self.spec.model}' is another model ({theirs}) than here ({self.fingerprint}); put the "
                "same files on every machine."
            )

    def traces(
        self, questions: Sequence[Question], config: MctsConfig, seed: int, in_flight: int, on_verdicts: Advance
    ) -> Iterator[list[Trace]]:
        """Search questions in groups of ``in_flight``; a group is yielded as soon as its worker has finished it.

        Raises:
            ClusterError: if the cluster goes away, or one group of questions kills worker after worker.
        """
        starts = range(0, len(questions), in_flight)
        groups = (_Search(tuple(questions[start : start + in_flight]), config, seed) for start in starts)
        for traces in self._results(groups):
            on_verdicts(sum(len(trace.verdicts) for trace in traces))
            yield traces

    def tiles(self, tiles: Iterable[Tile]) -> Iterator[tuple[Tile, Arrays]]:
        """Record tiles; each is yielded as soon as its worker has finished it.

        Raises:
            ClusterError: if the cluster goes away, or one tile kills worker after worker.
        """
        yield from self._results(_Recording(tile) for tile in tiles)

    def _results(self, jobs: Iterator[Job]) -> Iterator[Any]:
        """The results of jobs, in the order in which they are finished.

        A new worker replaces one that dies; until there is room for it, the other workers go on.
        """
        queue = _Queue(jobs)
        self._hand_out(queue)
        while queue.running or queue.again:
            ready = self._first([*queue.running, *queue.loading], needs_room=not queue.running)
            if ready in queue.loading:
                self._admit(queue, ready)
            elif (done := self._collect(queue, ready)) is not None:
                result, stats = done
                self.stats.add(stats)
                yield result
            self._hand_out(queue)
        for worker in queue.loading.values():
            self.ray.kill(worker)

    def _hand_out(self, queue: _Queue) -> None:
        """Give every idle worker a waiting job."""
        while self._idle and (job := queue.next()) is not None:
            worker = self._idle.pop()
            queue.running[worker.do.remote(job)] = worker, job

    def _admit(self, queue: _Queue, ready: Any) -> None:
        """Make a worker idle that has loaded its model.

        Raises:
            ClusterError: if the worker could not load it, and no other worker is left.
        """
        worker = queue.loading.pop(ready)
        try:
            self._require_model(ready)
        except ClusterError:
            if not (queue.running or queue.loading or self._idle):
                raise
        else:
            self._idle.append(worker)

    def _collect(self, queue: _Queue, ready: Any) -> tuple[Any, ExecutionStats] | None:
        """The result of a job and what it cost; None if its worker died, and the job waits again."""
        worker, job = queue.running.pop(ready)
        try:
            result: tuple[Any, ExecutionStats] = self._result(ready)
        except _WorkerDiedError as error:
            queue.put_back(job, error)
            # Idle workers may have died with the same machine: all must answer before they get a job.
            queue.loading |= {worker.fingerprint.remote(): worker for worker in [*self._idle, self._make()]}
            self._idle = []
            return None
        self._idle.append(worker)
        return result

    def _first(self, pending: list[Any], needs_room: bool = False) -> Any:
        """The first of some pending results that is ready.

        If the cluster is gone, Ray waits for a minute and then ends the process without a message; so check it first.

        Args:
            pending: references of the results.
            needs_room: whether all of them wait for new workers, which start only on a machine with room.
        """
        for wait in count(1):
            ready, _ = self.ray.wait(pending, num_returns=1, timeout=_PATIENCE_S)
            if ready:
                break
            self._require_cluster()
            if needs_room and wait == _PATIENT_WAITS:
                _LOG.warning("still waiting for a worker: it loads its model, or others take the cluster's room.")
            if needs_room and not self._room():
                raise ClusterError(
                    "no worker is left, and no machine of the cluster has room for a new one. What was finished is "
                    "kept; join machines and run the same command to go on."
                )
        return ready[0]

    def _result(self, reference: Any) -> Any:
        """What a worker returned.

        Raises:
            _WorkerDiedError: if the worker died.
            PolarError: if the worker raised it.
            ClusterError: if the worker failed in another way, or the cluster is gone.
        """
        errors = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except errors.RayTaskError as error:  # the worker lives
            cause = error.cause
            raise (
                cause if isinstance(cause, PolarError) else ClusterError(f"a worker failed: {_reason(error)}")
            ) from error
        except (
            errors.RayActorError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.WorkerCrashedError,
        ) as error:
            self._require_cluster()
            raise _WorkerDiedError(_reason(error)) from error
        except errors.RayError as error:
            self._require_cluster()
            raise ClusterError(f"a worker failed: {_reason(error)}") from error

    def _require_cluster(self) -> None:
        try:
            socket.create_connection(self._head, timeout=_PATIENCE_S).close()
        except OSError as error:
            raise _gone(error) from error


class _WorkerDiedError(Exception):
    """Why a worker died."""


def _gone(error: Exception) -> ClusterError:
    return ClusterError(
        f"the cluster went away: {_reason(error)}. What was finished is kept; start the cluster and run the same "
        "command to go on."
    )


def _reason(error: Exception) -> str:
    """The last line of a message of Ray, which names the cause; if it is long, only its first sentences."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if len(lines[-1]) < 300 else lines[-1][:300].rsplit(". ", 1)[0]
