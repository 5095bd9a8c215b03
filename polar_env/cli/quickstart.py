"""``polar quickstart``: the whole way, from a model's name to a report."""

from __future__ import annotations

import json
import resource
import time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from agents.search.config import MctsConfig
from eval.config import EvaluationConfig
from polar_env.assets import ASSETS, asset_path
from polar_env.cli import eval as eval_verb
from polar_env.cli import prompt as prompt_verb
from polar_env.cli import run as run_verb
from polar_env.cli import search as search_verb
from polar_env.cli import train as train_verb
from polar_env.cli.bars import console
from polar_env.cli.flags import PROMPT_FILE, QuestionsConfig
from polar_env.cli.opening import open_questions, open_world
from polar_env.envs.config import EnvConfig
from polar_env.questions import SPLITS, read_prompts
from polar_env.tables import write_whole
from train.config import ImitationConfig, MatrixConfig, PPOConfig

__all__ = ["CONFIG", "QuickstartConfig", "run"]


class QuickstartConfig(QuestionsConfig):
    """Search, warm start, PPO, evaluation and report on a small mixture; run again, it goes on where it was."""

    out: Path = Path("runs/quickstart")
    """Folder of the run."""
    prompt_candidates: tuple[str, ...] = prompt_verb.DEFAULT_CANDIDATES
    """Prompts of which the identity's best is used by all methods."""
    prompt_limit: Annotated[int, Field(ge=1)] = 120
    """Train questions to choose the prompt on."""
    tree_questions: Annotated[int, Field(ge=1)] = 64
    """Train questions that get a search tree."""
    mcts: MctsConfig = MctsConfig()
    """The tree search."""
    race: MatrixConfig = MatrixConfig(candidates=64)
    """The race of shared programs."""
    env: EnvConfig = EnvConfig()
    """The environment."""
    imitation: ImitationConfig = ImitationConfig()
    """The warm start."""
    ppo: PPOConfig = PPOConfig()
    """PPO."""
    validation_limit: Annotated[int, Field(ge=1)] = 200
    """Most validation questions."""
    test_limit: Annotated[int, Field(ge=0)] = 0
    """Most test questions; 0 uses all."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What the evaluation does beside measuring the agents."""
    ask: str = "What is 17 + 25?"
    """A question to answer at the end."""


def preset(name: str = "quickstart") -> dict[str, Any]:
    """The values of a preset that ships with the package."""
    text = (resources.files("train.presets") / f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def defaults(arguments: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """The values of the quickstart's own preset, where a file does not say otherwise."""
    return preset() | given


CONFIG = QuickstartConfig


def run(config: QuickstartConfig) -> dict[str, Any]:
    """Do everything; ``OUT/summary.json`` holds the numbers."""
    started = time.perf_counter()
    shared = {name: getattr(config, name) for name in QuestionsConfig.model_fields}
    shared |= {"json_output": True, "prompt": ""}  # results are shown at the end, once; the prompt is chosen in step 2
    if config.model_name in ASSETS:
        _say(1, f"model {config.model_name}")
        asset_path(config.model_name)
    _say(2, "the identity program's best prompt, on train questions")
    if not (config.out / PROMPT_FILE).is_file():
        limited = {**shared, "limit": config.prompt_limit}
        prompt_verb.run(prompt_verb.PromptConfig(**limited, candidates=config.prompt_candidates))
    world = open_world(config, read_prompts(config.out / PROMPT_FILE))
    for split in SPLITS:  # a question that does not fit is refused now, not after the search
        world.check(open_questions(config.model_copy(update={"limit": 0}), split, without=world.prompts))
    _say(3, "search: trees for some questions, then a race of the programs that help over many")
    search_verb.run(
        search_verb.SearchVerbConfig(
            **shared, mcts=config.mcts, race=config.race, tree_questions=config.tree_questions, held_out_limit=0
        )
    )
    _say(4, "warm start by imitation, then PPO")
    train_verb.run(
        train_verb.TrainConfig(
            **shared,
            env=config.env,
            imitation=config.imitation,
            ppo=config.ppo,
            validation_limit=config.validation_limit,
        )
    )
    _say(5, "evaluation on held-out questions")
    summary = eval_verb.run(
        eval_verb.EvalConfig(
            **{**shared, "limit": config.test_limit},
            **{name: getattr(config.evaluation, name) for name in EvaluationConfig.model_fields if name != "seed"},
        )
    )
    _say(6, f"one question: {config.ask}")
    run_verb.run(run_verb.RunConfig(**shared, question=config.ask, agent=str(config.out / "agents" / "ppo")))
    summary |= {
        "seconds": time.perf_counter() - started,
        "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
    }
    write_whole(config.out / "summary.json", json.dumps(summary, indent=2).encode())
    if not config.json_output:
        _print_summary(config.out, summary)
    return summary


def _print_summary(folder: Path, summary: dict[str, Any]) -> None:
    print("\n" + (folder / "eval" / "table.md").read_text(encoding="utf-8"))
    print(f"\n{summary['seconds']:.0f} seconds, peak memory {summary['peak_rss_gib']:.1f} GiB")
    print(f"report: {summary['report']}")


def _say(number: int, text: str) -> None:
    console.print(f"\n[bold]{number}/6[/bold] {text}")
