"""``polar search``: trees for questions, then a race of the shared programs, appended to a trace set."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field

from agents.search.config import PRESETS, MctsConfig
from polar_env.cli.common import QuestionsConfig, console, open_executor, open_prompt, open_questions, progress_bar
from polar_env.errors import ConfigError, QuestionError, UnknownNameError
from polar_env.executor import ExecutionStats, Executor
from polar_env.program import Program
from polar_env.questions import Prompt, Question, mixed_order
from train.chance import evaluate_chance
from train.collect import Engine, LocalEngine, search_traces
from train.engines import RayEngine, WorkerSpec, require_ray
from train.matrix import MatrixConfig, race
from train.traces import TraceSet

__all__ = ["CONFIG", "SearchConfig", "run"]


class SearchConfig(QuestionsConfig):
    """Search programs for train questions; run again, it goes on where it was."""

    preset: str = "fast"
    """Settings of the trees that the mcts flags start from: fast (ours), or cola, drllm, repolar as published."""
    mcts: MctsConfig = PRESETS["fast"]
    """The tree search."""
    race: MatrixConfig = MatrixConfig(candidates=64)
    """The race of shared programs; with --matrix all single edits start, and the eight best are combined."""
    matrix: bool = False
    """Race shared programs only, without trees."""
    trees: bool = False
    """Search trees only, without the race."""
    chance: bool = False
    """Also evaluate as many random programs as the trees did, and single edits, on their questions: what luck finds."""
    tree_questions: Annotated[int, Field(ge=1)] = 64
    """Questions that get a tree, tasks taking turns; the race uses all."""
    in_flight: Annotated[int, Field(ge=1)] = 32
    """Questions searched in lock step."""
    held_out_limit: Annotated[int, Field(ge=0)] = 200
    """Validation questions on which the survivors of the race are measured, too; 0 measures none."""
    engine: Literal["local", "ray"] = "local"
    """Where trees grow: in this process, or on the workers of a Ray cluster, each with its own copy of the LLM."""
    workers: Annotated[int, Field(ge=1)] = 2
    """ray: how many workers."""
    worker_gpus: Annotated[float, Field(ge=0)] = 0.0
    """ray: share of a GPU that each worker takes."""
    ray_address: str = ""
    """ray: address of a running cluster ('auto' finds the one of this machine); empty starts one here."""


CONFIG = SearchConfig


def defaults(arguments: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """The preset that the flags or a file name, and the race of --matrix, changed by what the file says beside."""
    names = [after for flag, after in pairwise(arguments) if flag == "--preset"]
    names += [argument.partition("=")[2] for argument in arguments if argument.startswith("--preset=")]
    name = names[-1] if names else str(given.get("preset", "fast"))
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    race = SearchConfig().race
    if "--matrix" in arguments or given.get("matrix") is True:
        race = MatrixConfig(candidates=0, combine=8)
    start = {"mcts": PRESETS[name].model_dump(), "race": race.model_dump()}
    own = {key: given[key] for key in start if isinstance(given.get(key), dict)}
    return given | {"preset": name} | {key: settings | own.get(key, {}) for key, settings in start.items()}


def run(config: SearchConfig) -> dict[str, Any]:
    """Search and race; the traces lie in ``OUT/traces``."""
    if config.matrix and config.trees:
        raise ConfigError("--matrix races without trees and --trees searches without the race; give one or neither.")
    if config.matrix and config.chance:
        raise ConfigError("--chance compares trees with luck, and --matrix grows none; leave one of them away.")
    if config.engine == "ray":
        require_ray()
    prompt = open_prompt(config)
    questions = open_questions(config, "train", without=prompt)
    executor = open_executor(config, prompt)
    executor.check(questions)
    engine = LocalEngine(executor) if config.matrix else _engine(config, executor)
    stages = ({"race"} if not config.trees else set()) | ({"mcts"} if not config.matrix else set())
    settings = config.model_dump(mode="json", include={"seed", *stages}) | {"questions": list(config.specs)}
    traces = TraceSet.create(config.out / "traces", executor, settings)
    survivors: list[Program] = []
    searched = 0
    stats = [executor.stats] if engine.stats is executor.stats else [executor.stats, engine.stats]
    before = [each.copy() for each in stats]
    try:
        if not config.matrix:
            searched = _search_trees(config, engine, questions, traces)
        if config.chance:
            with progress_bar(executor.stats, "random programs", None, "verdicts") as bar:
                evaluate_chance(executor, questions, traces, config.mcts, config.seed, config.in_flight, bar.advance)
        if not config.trees:
            with progress_bar(executor.stats, "racing shared programs", None, "verdicts") as bar:
                survivors = race(
                    executor, questions, traces, config.race,
                    held_out=_held_out(config, prompt), seed=config.seed, on_progress=bar.advance,
                )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{traces.folder} keeps all finished shards; run the same command to go on.") from None
    done = ExecutionStats()
    for each, earlier in zip(stats, before, strict=True):
        done.add(each.since(earlier))
    console.print(f"{traces.verdicts.count} verdicts in {traces.folder}", markup=False)
    return {
        "traces": str(traces.folder),
        "rows": traces.verdicts.count,
        "questions_searched": searched,
        "survivors": [str(program) for program in survivors],
        "layer_executions": done.executed_layers,
        "prefix_layer_executions": done.prefix_layers,
        "choice_layer_executions": done.choice_layers,
        "sharing_factor": done.sharing,
        "seconds": done.seconds,
    }


def _held_out(config: SearchConfig, prompt: Prompt) -> list[Question]:
    """Validation questions, on which the survivors are measured, too; none where the source has none."""
    limited = config.model_copy(update={"limit": config.held_out_limit})
    try:
        return open_questions(limited, "validation", without=prompt) if config.held_out_limit else []
    except QuestionError:
        return []


def _engine(config: SearchConfig, executor: Executor) -> Engine:
    """Where trees grow."""
    if config.engine == "local":
        return LocalEngine(executor)
    spec = WorkerSpec(
        model=config.model,
        dtype=executor.llm.dtype_name,
        device=config.device,
        prompt=executor.prompt,
        memory_bytes=executor.memory_bytes,
        verdicts=executor.store.path.parent if executor.store else None,
        threads=config.threads or _threads(config, executor),
    )
    return RayEngine(spec, executor.llm.fingerprint, config.workers, config.worker_gpus, config.ray_address)


def _threads(config: SearchConfig, executor: Executor) -> int:
    """Threads of a Ray worker: one where layers run on a GPU, else those of its machine, or its share of this one's."""
    if executor.llm.device.type != "cpu":
        return 1
    return executor.threads if config.ray_address else max(1, executor.threads // config.workers)


def _search_trees(config: SearchConfig, engine: Engine, questions: list[Question], traces: TraceSet) -> int:
    """Trees for the first questions, tasks taking turns; returns how many were searched now."""
    chosen = mixed_order(questions, config.seed)[: config.tree_questions]
    left = len({question.id for question in chosen} - traces.questions_done())
    if left < len(chosen):
        console.print(f"{len(chosen) - left} questions were searched before; going on from there.", markup=False)
    each = config.mcts.simulations + 1
    with progress_bar(engine.stats, "searching trees", left * each, "programs", each) as bar:
        return search_traces(
            engine,
            chosen,
            traces,
            config.mcts,
            seed=config.seed,
            in_flight=config.in_flight,
            on_progress=bar.advance,
        )
