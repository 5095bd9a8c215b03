"""``polar quickstart``: the whole way, from a model's name to a report."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from agents.card import read_card
from agents.registry import TRAINED, find_agents
from agents.search.config import MctsConfig
from eval.config import EvaluationConfig
from polar_env.assets import ASSETS, asset_path
from polar_env.cli import eval as eval_verb
from polar_env.cli import prompt as prompt_verb
from polar_env.cli import run as run_verb
from polar_env.cli import search as search_verb
from polar_env.cli import train as train_verb
from polar_env.cli.bars import console
from polar_env.cli.estimate import Work
from polar_env.cli.flags import PROMPT_FILE, QuestionsConfig, TrackingConfig
from polar_env.cli.opening import open_prompts, open_questions, open_world
from polar_env.cli.presets import preset_text
from polar_env.config import merged
from polar_env.envs.config import EnvConfig
from polar_env.errors import ConfigError
from polar_env.questions import SPLITS, read_prompts, write_prompts
from polar_env.tables import write_whole
from polar_env.worlds import RecordedWorld
from polar_env.worlds import open_world as open_recorded
from polar_env.worlds.recorded import WORLDS
from train.config import ImitationConfig, MatrixConfig, PPOConfig
from train.learners import find_learner

__all__ = ["CONFIG", "EXAMPLES", "QuickstartConfig", "run"]


class QuickstartConfig(TrackingConfig):
    """The whole way from a model's name to a report; run again, it goes on where it was.

    Where a recorded world of the model and its questions is at hand, as for the default ones, an agent learns from it
    in a minute or two, and the time goes into the live LLM: a search on some questions, and an evaluation. Else
    programs are searched for first, and PPO goes on from them.
    """

    out: Path = Path("runs/quickstart")
    """Folder of the run."""
    world: str = ""
    """Recorded world to learn from: a name or a folder; by default the one that ships for this model and these
    questions; 'none' searches in any case."""
    learner: str = "ppo"
    """What learns from the recorded world: see `polar train --learner`. What stands below is for a search without a
    recorded world, but for the trees and the evaluation."""
    prompt_candidates: tuple[str, ...] = prompt_verb.DEFAULT_CANDIDATES
    """Prompts of which the identity's best is used by all methods; a recorded world has its own."""
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


def preset() -> dict[str, Any]:
    """The values of the quickstart's own preset."""
    values: dict[str, Any] = yaml.safe_load(preset_text("quickstart"))
    return values


def defaults(arguments: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """The values of the quickstart's own preset, where a file does not say otherwise."""
    return merged(preset(), given)


CONFIG = QuickstartConfig
EXAMPLES = ("polar quickstart", "polar quickstart --learner value --out runs/value")


def work(config: QuickstartConfig) -> Work:
    """That of all steps; agents that do not exist yet count as one, or two where PPO goes on from imitation."""
    find_learner(config.learner)
    recorded, chosen = _recorded_world(config), (config.out / PROMPT_FILE).is_file()
    candidate = prompt_verb.plain_candidate(config.prompt_candidates or prompt_verb.DEFAULT_CANDIDATES)
    prompt = {} if recorded or chosen else {"prompt": candidate}  # the best of them is not known yet
    evaluation = _evaluation(config, tuple(_shipped(recorded)) if recorded else ())
    evaluated = eval_verb.work(evaluation.model_copy(update=prompt))
    search, training = _search(config, recorded).model_copy(update=prompt), _training(config, recorded)
    searched = search_verb.work(search)
    trained = train_verb.work(training) if recorded else train_verb.work_of_ppo(training, open_prompts(search))
    asked = len(open_questions(config.model_copy(update={"limit": config.test_limit}), "test"))
    total = evaluated + searched + trained + Work(answers=asked if recorded else 2 * asked)
    return total if recorded or chosen else total + prompt_verb.work(_prompting(config))


def run(config: QuickstartConfig) -> dict[str, Any]:
    """Do everything; ``OUT/summary.json`` holds the numbers."""
    started = time.perf_counter()
    find_learner(config.learner)  # refused now, not after a search
    if config.model_name in ASSETS:
        console.print(f"\n[bold]model[/bold] {config.model_name}")
        asset_path(config.model_name)
    recorded = _recorded_world(config)
    summary, agent = _from_world(config, recorded) if recorded else _from_search(config)
    _say(f"one question: {config.ask}")
    run_verb.run(run_verb.RunConfig(**_shared(config, tracked=False), question=config.ask, agent=str(agent)))
    summary |= {
        "seconds": time.perf_counter() - started,
        "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
    }
    write_whole(config.out / "summary.json", json.dumps(summary, indent=2).encode())
    if not config.json_output:
        _print_summary(config.out, summary)
    return summary


def _recorded_world(config: QuickstartConfig) -> RecordedWorld | None:
    """The world to learn from: the one asked for, or the one that ships for the model and the questions, if any.

    Raises:
        ConfigError: if the one asked for is of another model.
    """
    if config.world == "none":
        return None
    if config.world:
        world = open_recorded(config.world)
        if world.card.model != config.model_name or not _is_of(config, world):
            raise ConfigError(
                f"the recorded world '{world.card.name}' is of the model '{world.card.model}' in {world.card.dtype} "
                f"({world.fingerprint}), not of '{config.model_name}' as it lies here. Give --model {world.card.model} "
                f"--dtype {world.card.dtype}, or record a world of yours: polar record run."
            )
        return world
    if (config.out / PROMPT_FILE).is_file():  # a run that searches has begun there
        return None
    worlds = (open_recorded(name) for name in WORLDS)
    fitting = (w for w in worlds if (w.card.model, tuple(w.card.sources)) == (config.model_name, config.specs))
    return next((world for world in fitting if _is_of(config, world)), None)


def _is_of(config: QuickstartConfig, world: RecordedWorld) -> bool:
    """Whether a world was recorded with the very LLM that runs here: other weights or another type give another one."""
    return open_world(config, world.prompts).fingerprint == world.fingerprint


def _from_world(config: QuickstartConfig, recorded: RecordedWorld) -> tuple[dict[str, Any], Path]:
    """Learn from a recorded world, search and evaluate live; the summary, and the agent that was trained."""
    _say(f"learning from {recorded.card.name}: {len(recorded.questions)} questions x {len(recorded.programs)} programs")
    trained = train_verb.run(_training(config, recorded))
    agent = Path(trained["agents"]) / config.learner
    _say("live search: which other programs are right on some train questions, and how short can they be?")
    search = _search(config, recorded)
    write_prompts(recorded.prompts, search.out / PROMPT_FILE)
    searched = search_verb.run(search)
    _say("live evaluation on held-out questions")
    evaluated = eval_verb.run(_evaluation(config, (str(agent), *_shipped(recorded))))
    return evaluated | {"search": searched}, agent


def _from_search(config: QuickstartConfig) -> tuple[dict[str, Any], Path]:
    """Search programs, imitate, improve by PPO, and evaluate; the summary, and the agent that was trained."""
    _say("the identity program's best prompt, on train questions")
    if not (config.out / PROMPT_FILE).is_file():
        prompt_verb.run(_prompting(config))
    world = open_world(config, read_prompts(config.out / PROMPT_FILE))
    for split in SPLITS:  # a question that does not fit is refused now, not after the search
        world.check(open_questions(config.model_copy(update={"limit": 0}), split, without=world.prompts))
    _say("search: trees for some questions, then a race of the programs that help over many")
    search_verb.run(_search(config))
    _say("warm start by imitation, then PPO")
    train_verb.run(_training(config))
    _say("evaluation on held-out questions")
    return eval_verb.run(_evaluation(config)), config.out / "agents" / "ppo"


def _shipped(recorded: RecordedWorld) -> list[str]:
    """The agents that ship for the LLM and the prompts of a world."""
    cards = {name: read_card(find_agents(name)[0]) for name in TRAINED}
    here = recorded.fingerprint, recorded.prompts
    return [name for name, card in cards.items() if (card.fingerprint, card.prompts) == here]


def _prompting(config: QuickstartConfig) -> prompt_verb.PromptConfig:
    """How the prompt is chosen."""
    limited = _shared(config, tracked=False) | {"limit": config.prompt_limit}
    return prompt_verb.PromptConfig(**limited, candidates=config.prompt_candidates)


def _search(config: QuickstartConfig, recorded: RecordedWorld | None = None) -> search_verb.SearchVerbConfig:
    """The search: beside a recorded world trees alone, in a folder of their own."""
    beside: dict[str, Any] = {"out": config.out / "search", "trees": True} if recorded else {"race": config.race}
    settings = {"mcts": config.mcts, "tree_questions": config.tree_questions, "held_out_limit": 0}
    return search_verb.SearchVerbConfig(**_shared(config) | settings | beside)


def _training(config: QuickstartConfig, recorded: RecordedWorld | None = None) -> train_verb.TrainConfig:
    """The training: from a recorded world, or from traces."""
    if recorded:
        world = config.world or recorded.card.name
        return train_verb.TrainConfig(**_shared(config), world=world, learner=config.learner)
    names = ("env", "imitation", "ppo", "validation_limit")
    return train_verb.TrainConfig(**_shared(config), **{name: getattr(config, name) for name in names})


def _evaluation(config: QuickstartConfig, agent: tuple[str, ...] = ()) -> eval_verb.EvalConfig:
    """The evaluation of some agents, by default of those that were trained."""
    settings = {name: getattr(config.evaluation, name) for name in EvaluationConfig.model_fields if name != "seed"}
    return eval_verb.EvalConfig(**{**_shared(config), "limit": config.test_limit}, **settings, agent=agent)


def _shared(config: QuickstartConfig, *, tracked: bool = True) -> dict[str, Any]:
    """Flags of every step. Results are shown at the end, once; the prompt is the world's, or chosen here."""
    kind = TrackingConfig if tracked else QuestionsConfig
    return {name: getattr(config, name) for name in kind.model_fields} | {"json_output": True, "prompt": ""}


def _print_summary(folder: Path, summary: dict[str, Any]) -> None:
    print("\n" + (folder / "eval" / "table.md").read_text(encoding="utf-8"))
    print(f"\n{summary['seconds']:.0f} seconds, peak memory {summary['peak_rss_gib']:.1f} GiB")
    print(f"report: {summary['report']}")


def _say(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")
