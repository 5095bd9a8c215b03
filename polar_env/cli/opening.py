"""From flags to questions, prompts, models and worlds."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from polar_env.assets import cache_folder
from polar_env.cli.bars import console
from polar_env.cli.flags import DEFAULT_PROMPT, PROMPT_FILE, EngineConfig, QuestionsConfig
from polar_env.errors import ConfigError, QuestionError
from polar_env.questions import (
    Prompts,
    Question,
    QuestionPool,
    Split,
    load_pool,
    make_prompt,
    mixed_order,
    read_prompts,
    without_examples,
)
from polar_env.registry import Registry

if TYPE_CHECKING:
    from polar_env.llm import FrozenLLM
    from polar_env.runner import Runner
    from polar_env.worlds import LiveWorld
    from train.collect import Engine, LocalEngine
    from train.engines import RayEngine

__all__ = [
    "ENGINES",
    "example_pool",
    "open_engine",
    "open_llm",
    "open_local",
    "open_pool",
    "open_prompts",
    "open_questions",
    "open_ray",
    "open_world",
    "require_engine",
]


ENGINES: Registry[Callable[[EngineConfig, LiveWorld], Engine]] = Registry("engine", "polar_env.engines")
"""What opens the engine that `--engine` names, from the flags and a live world; packages add some."""


def open_pool(config: QuestionsConfig) -> QuestionPool:
    """All questions that the flags ask for; the first time it says what was left out."""
    return _pool(config.specs, config.skip_bad)


@lru_cache(maxsize=4)
def _pool(specs: tuple[str, ...], skip_broken: bool) -> QuestionPool:
    pool = load_pool(specs, skip_broken=skip_broken)
    if pool.broken:
        console.print(f"skipped {len(pool.broken)} broken lines, the first: {pool.broken[0]}", markup=False)
    if pool.duplicates or pool.twins_removed:
        console.print(
            f"left out {pool.duplicates} duplicates, and {pool.twins_removed} questions whose twin stands in a source "
            "with another split",
            markup=False,
        )
    return pool


def open_questions(config: QuestionsConfig, split: Split, without: Prompts | None = None) -> list[Question]:
    """One split of the questions.

    Args:
        config: the flags.
        split: which split.
        without: twins of these prompts' worked examples are left out.

    Raises:
        QuestionError: if the split is empty.
    """
    questions = open_pool(config).split(split)
    if not questions:
        raise QuestionError(f"{', '.join(config.specs)} holds no questions in the split '{split}'.")
    if without is not None:
        kept = without_examples(questions, without)
        if len(kept) < len(questions):
            console.print(
                f"left out {len(questions) - len(kept)} {split} questions that are twins of worked examples",
                markup=False,
            )
        questions = kept
    return mixed_order(questions, 0)[: config.limit] if config.limit else questions


def open_prompts(config: QuestionsConfig) -> Prompts:
    """The prompts that the flags ask for; see `QuestionsConfig.prompt`."""
    recorded = config.out / PROMPT_FILE
    if not config.prompt and recorded.is_file():
        return read_prompts(recorded)
    name = config.prompt or DEFAULT_PROMPT
    if name.endswith((".yaml", ".yml")):
        return read_prompts(Path(name))
    return Prompts.for_all(make_prompt(name, example_pool(config))).with_lengths(open_pool(config).answer_tokens)


def example_pool(config: QuestionsConfig) -> list[Question]:
    """The train questions that worked examples are taken from; see `QuestionsConfig.examples`."""
    pool = load_pool(config.examples, skip_broken=config.skip_bad) if config.examples else open_pool(config)
    return pool.split("train")


def open_world(config: QuestionsConfig, prompts: Prompts) -> LiveWorld:
    """Load the model and make its world; a runner that is there goes on with all that it remembers.

    Raises:
        MemoryBoundError: if the model leaves nothing of the memory bound.
    """
    from polar_env.worlds import LiveWorld

    runner = _runner(
        config.model_name, config.dtype_name, config.device, config.memory_gib, config.threads, config.verdicts
    )
    return LiveWorld(runner, prompts)


def require_engine(config: EngineConfig, *, only_searches: bool = False) -> None:
    """Refuse an engine that does not exist or is not installed, before a model is loaded.

    Args:
        config: the flags.
        only_searches: whether it need not record worlds, which those of packages do not.
    """
    if ENGINES.get(config.engine) not in (open_local, open_ray) and not only_searches:
        raise ConfigError(f"engine '{config.engine}' searches but does not record; use --engine local or ray.")
    if config.engine == "ray":
        from train.engines import require_ray

        require_ray()


def open_engine(config: EngineConfig, world: LiveWorld) -> Engine:
    """Where questions are executed, as the flags ask for it.

    Raises:
        UnknownNameError, ConfigError: for an engine that does not exist, or cannot be loaded.
    """
    return ENGINES.get(config.engine)(config, world)


@ENGINES.register("local")
def open_local(config: EngineConfig, world: LiveWorld) -> LocalEngine:
    """This process."""
    from train.collect import LocalEngine

    return LocalEngine(world)


@ENGINES.register("ray")
def open_ray(config: EngineConfig, world: LiveWorld) -> RayEngine:
    """Workers of a Ray cluster that load the same LLM as a world.

    Raises:
        ConfigError, ClusterError: see `RayEngine`.
    """
    from train.engines import RayEngine, WorkerSpec

    runner = world.runner
    spec = WorkerSpec(
        model=config.model_name,
        dtype=world.llm.dtype_name,
        device=config.device,
        prompts=world.prompts,
        memory_bytes=runner.memory_bytes,
        verdicts=runner.store.path.parent if runner.store else None,
        threads=config.threads or _worker_threads(config, world),
    )
    return RayEngine(spec, world.llm.fingerprint, config.workers, config.worker_gpus, config.ray_address)


def _worker_threads(config: EngineConfig, world: LiveWorld) -> int:
    """Threads of a Ray worker: one where layers run on a GPU, else those of its machine, or its share of this one's."""
    if world.llm.device.type != "cpu":
        return 1
    return world.runner.threads if config.ray_address else max(1, world.runner.threads // config.workers)


@lru_cache(maxsize=1)
def _runner(model: str, dtype: str, device: str, memory_gib: float, threads: int, verdicts: str) -> Runner:
    """The runner of the last command goes on in the next one of the same process."""
    from polar_env.llm.fastest import fastest_threads
    from polar_env.runner import DeviceProfile, Runner, VerdictStore
    from polar_env.runner.profile import memory_beside

    llm = open_llm(model, dtype, device)
    folder = Path(verdicts) if verdicts else cache_folder() / "verdicts"
    store = None if verdicts == "none" else VerdictStore.of(folder, llm)
    bound = memory_beside(llm, DeviceProfile.of(llm.device), memory_gib)
    return Runner(llm, bound, store, threads or fastest_threads(llm))


@lru_cache(maxsize=1)
def open_llm(model: str, dtype: str, device: str, attention: str = "") -> FrozenLLM:
    """Load a model; the next command of the same process does not load it again."""
    from polar_env.llm import load_llm
    from polar_env.runtime import prepare_process

    prepare_process()
    with console.status(f"loading {model}"):
        return load_llm(model, dtype=dtype, device=device, attention=attention)
