"""``polar search``: trees for questions, then a race of the shared programs, appended to a trace set."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from agents.mcts import MctsConfig
from polar_env.cli.common import QuestionsConfig, console, open_executor, open_prompt, open_questions, progress_bar
from polar_env.questions import mixed_order
from train.collect import RaceConfig, race, search_traces
from train.traces import TraceSet

__all__ = ["CONFIG", "SearchConfig", "run"]


class SearchConfig(QuestionsConfig):
    """Search programs for train questions; run again, it goes on where it was."""

    mcts: MctsConfig = MctsConfig()
    """The tree search."""
    race: RaceConfig = RaceConfig()
    """The race of shared programs."""
    tree_questions: Annotated[int, Field(ge=1)] = 64
    """Questions that get a tree, tasks taking turns; the race uses all."""
    in_flight: Annotated[int, Field(ge=1)] = 32
    """Questions searched in lock step."""


CONFIG = SearchConfig


def run(config: SearchConfig) -> dict[str, Any]:
    """Search and race; the traces lie in ``OUT/traces``."""
    prompt = open_prompt(config)
    questions = open_questions(config, "train", without=prompt)
    executor = open_executor(config, prompt)
    executor.check(questions)
    settings = config.model_dump(mode="json", include={"mcts", "race", "seed", "questions"})
    traces = TraceSet.create(config.out / "traces", executor, settings)
    chosen = mixed_order(questions, config.seed)[: config.tree_questions]
    before = len(traces.questions_done("tree"))
    if before:
        console.print(f"{before} questions were searched before; going on from there.", markup=False)
    try:
        total = (config.mcts.simulations + 1) * max(0, len(chosen) - before)
        with progress_bar(executor, "searching trees", total, "programs", config.mcts.simulations + 1) as bar:
            searched = search_traces(
                executor,
                chosen,
                traces,
                config.mcts,
                seed=config.seed,
                in_flight=config.in_flight,
                on_progress=bar.advance,
            )
        with progress_bar(executor, "racing shared programs", None, "verdicts") as bar:
            survivors = race(executor, questions, traces, config.race, seed=config.seed, on_progress=bar.advance)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{traces.folder} keeps all finished shards; run the same command to go on.") from None
    stats = executor.stats
    rows = traces.rows()
    console.print(f"{len(rows)} verdicts of {len(questions)} train questions in {traces.folder}", markup=False)
    return {
        "traces": str(traces.folder),
        "rows": len(rows),
        "questions_searched": searched,
        "survivors": [str(program) for program in survivors],
        "layer_executions": stats.executed_layers,
        "prefix_layer_executions": stats.prefix_layers,
        "choice_layer_executions": stats.choice_layers,
        "sharing_factor": stats.sharing,
        "seconds": stats.seconds,
    }
