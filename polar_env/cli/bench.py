"""``polar bench WHAT``: speed and memory as ratios to a reference in the same run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import Field

from agents.search.config import MctsConfig
from polar_env.cli.bars import console
from polar_env.cli.flags import QuestionsConfig
from polar_env.cli.opening import open_llm, open_prompts, open_questions, open_world

if TYPE_CHECKING:
    from polar_env.questions import Question
    from polar_env.worlds import LiveWorld

__all__ = ["CONFIG", "EXAMPLES", "BenchConfig", "run"]

Note = Callable[[str], None]
_ENV_FACTOR = 4
"""Rates of an environment need more time than ratios: episodes begin and end in it."""


class BenchConfig(QuestionsConfig):
    """Measure speed and memory beside a reference in the same run; appends to OUT/bench.jsonl."""

    what: Annotated[Literal["executor", "rows", "env", "search", "execution", "recorded"], tyro.conf.Positional] = (
        "executor"
    )
    """executor: verdicts a second beside decoding with generate and beside matrix products alone. rows: batches of
    random programs beside one by one. env: 64 lanes beside one environment. search: trees in lock step beside one tree.
    execution: identity beside plain transformers, shorter programs beside the identity, memory over generations.
    recorded: how fast a recorded world opens, plays and teaches."""
    world: str = "skills-smollm2-135m-v0"
    """recorded: a world that ships with the package, or a folder."""
    limit: Annotated[int, Field(ge=0)] = 48
    """Use at most this many questions, tasks taking turns; 0 uses all, as env always does."""
    verdicts: str = "none"
    """Folder of verdicts on disk; a benchmark that read them would measure nothing."""
    programs: Annotated[int, Field(ge=0)] = 80
    """executor: use this many of the single-edit programs, evenly spread; 0 uses all."""
    check: Annotated[int, Field(ge=0)] = 2
    """executor: compare the verdicts of this many programs with the re-stacked model's; 0 compares all."""
    seconds: Annotated[float, Field(gt=0)] = 3.0
    """rows, execution: about how long each ratio is measured; env: four times that."""
    mcts: MctsConfig = MctsConfig()
    """search: settings of the trees."""
    generations: Annotated[int, Field(ge=20)] = 150
    """execution: how many short generations look for growing memory."""


CONFIG = BenchConfig
EXAMPLES = ("polar bench recorded", "polar bench rows --seconds 1")


def run(config: BenchConfig) -> dict[str, Any]:
    """Run the benchmark; what has been measured appears line by line."""
    import torch

    from eval.benchmarks.machine import machine
    from eval.benchmarks.recorded import measure_recorded
    from polar_env.llm.fastest import fastest_threads
    from polar_env.runtime import torch_threads

    said = partial(console.print, markup=False)
    record: dict[str, Any] = {"what": config.what, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    if config.what == "recorded":  # no LLM is needed
        figures = measure_recorded(config.world, 2 * config.seconds, note=said).as_json()
        record |= {"machine": machine(torch.device("cpu")), "world": config.world, **figures}
    else:
        llm = open_llm(config.model_name, config.dtype_name, config.device)
        threads = config.threads or fastest_threads(llm)
        config = config.model_copy(update={"threads": threads})
        with torch_threads(threads):  # references, too
            figures = _MEASURES[config.what](config, said)
        of_llm = {"model": llm.name, "dtype": llm.dtype_name, "threads": threads}
        record |= {"machine": machine(llm.device), **of_llm, **figures}
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "bench.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    if not config.json_output:
        print("\n".join(f"{key:<24} {value}" for key, value in figures.items()))
    console.print(f"appended to {path}", markup=False)
    return record


def _execution(config: BenchConfig, note: Note) -> dict[str, Any]:
    from eval.benchmarks.execution import measure_execution

    tokenizer = open_llm(config.model_name, config.dtype_name, config.device).tokenizer
    if not config.prompt and tokenizer.chat_template is None:
        config = config.model_copy(update={"prompt": "bare-6"})
    world, questions, asked = _asked(config)
    return asked | measure_execution(world, questions, config.seconds, config.generations, note).as_json()


def _asked(config: BenchConfig) -> tuple[LiveWorld, list[Question], dict[str, Any]]:
    """The world, the questions that fit it, and what a record says of them."""
    prompts = open_prompts(config)
    world = open_world(config, prompts)
    questions = open_questions(config, "train", without=prompts)
    world.check(questions)
    return world, questions, {"prompt": prompts.name, "questions": len(questions)}


def _executor(config: BenchConfig, note: Note) -> dict[str, Any]:
    from eval.benchmarks.executor import measure_executor

    world, questions, asked = _asked(config)
    return asked | measure_executor(world, questions, config.programs, config.check, note).as_json()


def _rows(config: BenchConfig, note: Note) -> dict[str, Any]:
    from eval.benchmarks.rows import measure_rows

    world, questions, asked = _asked(config)
    return asked | measure_rows(world, questions, config.seconds, note).as_json()


def _env(config: BenchConfig, note: Note) -> dict[str, Any]:
    from eval.benchmarks.env import measure_env

    world, questions, asked = _asked(config.model_copy(update={"limit": 0}))
    return asked | measure_env(world, questions, _ENV_FACTOR * config.seconds, note).as_json()


def _search(config: BenchConfig, note: Note) -> dict[str, Any]:
    from eval.benchmarks.search import measure_search

    world, questions, asked = _asked(config)
    return asked | measure_search(world, questions, config.mcts, note).as_json()


_MEASURES: dict[str, Callable[[BenchConfig, Note], dict[str, Any]]] = {
    "executor": _executor,
    "rows": _rows,
    "env": _env,
    "search": _search,
    "execution": _execution,
}
