"""``polar search``: trees for questions, then a race of the shared programs, appended to a trace set."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from agents.search.config import PRESETS
from polar_env.cli.bars import bars, console
from polar_env.cli.estimate import Work
from polar_env.cli.flags import EngineConfig
from polar_env.cli.opening import open_engine, open_local, open_prompts, open_questions, open_world, require_engine
from polar_env.cli.tracked import log_traces, tracked
from polar_env.config import merged
from polar_env.errors import QuestionError, UnknownNameError
from polar_env.program import single_edits
from polar_env.questions import Prompts, Question
from train.config import MatrixConfig, SearchConfig

if TYPE_CHECKING:
    from polar_env.worlds import LiveWorld
    from train.collect import Engine

__all__ = ["CONFIG", "EXAMPLES", "SearchVerbConfig", "run"]


class SearchVerbConfig(EngineConfig, SearchConfig):
    """Search programs for train questions; run again, it goes on where it was."""

    preset: str = "fast"
    """Settings of the trees that the mcts flags start from: fast (ours), or cola, drllm, repolar as published."""


CONFIG = SearchVerbConfig
EXAMPLES = (
    "polar search --questions arithmetic --tree-questions 16 --out runs/mine",
    "polar search --matrix --out runs/mine",
)


def defaults(arguments: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """The preset that the flags or a file name, and the race of --matrix, changed by what the file says beside.

    A file that a dry run has printed names its preset and repeats what that says; a flag with another preset wins.
    """
    names = [after for flag, after in pairwise(arguments) if flag == "--preset"]
    names += [argument.partition("=")[2] for argument in arguments if argument.startswith("--preset=")]
    of_file = _start(str(given.get("preset", "fast")), given.get("matrix") is True)
    asked = [argument == "--matrix" for argument in arguments if argument in ("--matrix", "--no-matrix")]
    name, matrix = names[-1] if names else of_file["preset"], asked[-1] if asked else of_file["matrix"]
    own = {
        key: {each: value for each, value in given[key].items() if of_file[key].get(each) != value}
        for key in ("mcts", "race")
        if "preset" in given and isinstance(given.get(key), dict)
    }
    return merged(_start(name, matrix), given | own | {"preset": name, "matrix": matrix})


def _start(preset: str, matrix: bool) -> dict[str, Any]:
    """What a preset and --matrix say."""
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)
    race = MatrixConfig(candidates=0, combine=8, grow=2) if matrix else SearchConfig().race
    return {"preset": preset, "matrix": matrix, "mcts": PRESETS[preset].model_dump(), "race": race.model_dump()}


def work(config: SearchVerbConfig) -> Work:
    """The verdicts of trees and race."""
    from train.matrix import count_verdicts

    _checked(config)
    prompts = open_prompts(config)
    questions, held_out = open_questions(config, "train", without=prompts), _held_out(config, prompts)
    trees = 0 if config.matrix else min(config.tree_questions, len(questions))
    judged = trees * (config.mcts.simulations + 1) * (2 if config.chance else 1)
    world = open_world(config, prompts)
    edits = sum(1 for _ in single_edits(world.identity))
    raced = 0 if config.trees else count_verdicts(config.race, len(questions), len(held_out), edits)
    programs = config.mcts.count_programs(trees) + (0 if config.trees else min(config.race.candidates or edits, edits))
    return Work(verdicts=raced + judged, programs=programs, world=world, questions=questions)


def run(config: SearchVerbConfig) -> dict[str, Any]:
    """Search and race; the traces lie in ``OUT/traces``."""
    from train.searching import search_programs

    settings = _checked(config)
    prompts = open_prompts(config)
    questions = open_questions(config, "train", without=prompts)
    world = open_world(config, prompts)
    engine = _engine(config, world)
    folder, held_out = config.out / "traces", _held_out(config, prompts)
    try:
        with tracked(config, "search"):
            outcome = search_programs(
                world, engine, questions, held_out, folder, settings, config.specs, bars(engine.stats)
            )
            log_traces(folder, outcome.as_json())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{folder} keeps all finished shards; run the same command to go on.") from None
    console.print(f"{outcome.rows} verdicts in {folder}", markup=False)
    return outcome.as_json()


def _checked(config: SearchVerbConfig) -> SearchConfig:
    """The settings of the search; refuses those that contradict one another, and an engine that is not there."""
    from train.searching import check_search

    settings = SearchConfig(**{name: getattr(config, name) for name in SearchConfig.model_fields})
    check_search(settings)
    require_engine(config, only_searches=True)
    return settings


def _held_out(config: SearchVerbConfig, prompts: Prompts) -> list[Question]:
    """Validation questions, on which the survivors are measured, too; none where the source has none."""
    limited = config.model_copy(update={"limit": config.held_out_limit})
    try:
        return open_questions(limited, "validation", without=prompts) if config.held_out_limit else []
    except QuestionError:
        return []


def _engine(config: SearchVerbConfig, world: LiveWorld) -> Engine:
    """Where trees grow; a race alone needs no other engine than this process."""
    return open_local(config, world) if config.matrix else open_engine(config, world)
