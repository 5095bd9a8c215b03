"""``polar eval``: measure agents on held-out questions and write a report."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field

from eval.config import EvaluationConfig
from polar_env.cli.bars import bars, console
from polar_env.cli.estimate import Work
from polar_env.cli.flags import PROMPT_FILE, TrackingConfig, with_model
from polar_env.cli.opening import open_prompts, open_questions, open_world
from polar_env.cli.tracked import log_evaluation, log_inputs, log_methods, tracked
from polar_env.config import merged
from polar_env.errors import ConfigError
from polar_env.questions import Prompts, Question, Split, mixed_order, read_prompts
from polar_env.tables import read_json, write_whole

if TYPE_CHECKING:
    from polar_env.worlds import LiveWorld

__all__ = ["CONFIG", "EXAMPLES", "EvalConfig", "run"]


class EvalConfig(TrackingConfig, EvaluationConfig):
    """Measure agents beside the best static programs, the identity and other baselines on held-out questions."""

    agent: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Agents, repeatable: the folder of a saved agent, or of a training run; static:PROGRAM, majority:RUNS,
    best-of:RUNS, ensemble:PROGRAM|PROGRAM, early-exit:CONFIDENCE; by default the run at OUT, if there is one. The
    identity, random programs and the identity sampled are always measured."""
    world: str = ""
    """A recorded world to evaluate in, by its verdicts on --split: seconds, and no LLM. OUT/recorded.json keeps the
    scores by world, split and method."""
    tasks: str = ""
    """Built-in mixtures or task files, with commas between them, e.g. skills,choices,words; as --questions."""
    variations: bool = False
    """Also execute the chosen programs again under two other prompts, shuffled examples, another dtype, and in
    lm-evaluation-harness where it is installed, and say what survives."""
    variation_questions: Annotated[int, Field(ge=1)] = 256
    """On how many questions."""
    split: Split = "test"
    """Which split of the questions."""


CONFIG = EvalConfig
EXAMPLES = (
    "polar eval --agent skills --world skills-smollm2-135m-v0",
    "polar eval --agent skills --questions arithmetic --limit 200 --out runs/skills",
)


_VARIATIONS, _PROGRAMS_VARIED = 6, 2
"""Other conditions at most, and what is executed under each beside the agents: the identity, the best static program.
"""


def work(config: EvalConfig) -> Work:
    """Answers of all methods, verdicts of the oracle's trees; on a recorded world seconds."""
    if config.world:
        _check_recorded(config)
        return Work(seconds=10, gib=1)
    from eval.protocol import count_runs

    config, names, prompts = _resolved(config)
    questions, world = open_questions(config, config.split, without=prompts), open_world(config, prompts)
    verdicts, programs, answers = count_runs(world, names, len(questions), _settings(config))
    varied = min(config.variation_questions, len(questions)) * (_PROGRAMS_VARIED + len(names)) * _VARIATIONS
    answers += varied if config.variations else 0
    return Work(verdicts, programs, answers, world=world, questions=questions)


def run(config: EvalConfig) -> dict[str, Any]:
    """Evaluate; everything lies in ``OUT/eval``."""
    if config.world:
        return _on_record(config)
    from agents.registry import read_cards
    from eval.prompts import read_choices
    from eval.protocol import evaluate_agents

    config, names, prompts = _resolved(config)
    questions = open_questions(config, config.split, without=prompts)
    world, folder = open_world(config, prompts), config.out / "eval"
    settings = _settings(config)
    chosen = read_choices(config.out) if prompts == _recorded(config) else []
    try:
        with tracked(config, "eval"):
            log_inputs("agent", *read_cards(names))
            summary = evaluate_agents(world, names, questions, folder, settings, bars(world.stats), chosen)
            if config.variations:
                summary |= {"variations": _vary(config, world, questions, folder)}
                write_whole(folder / "summary.json", json.dumps(summary, indent=2).encode())
            log_evaluation(folder, summary)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{folder} keeps what was measured; run the same command to go on.") from None
    if not config.json_output:
        print((folder / "table.md").read_text(encoding="utf-8"))
    console.print(f"report: {summary['report']}", markup=False)
    return summary


def _resolved(config: EvalConfig) -> tuple[EvalConfig, tuple[str, ...], Prompts]:
    """The flags with what the first agent's card says where they do not, the agents' names, and the prompts."""
    from agents.registry import read_cards

    if config.tasks:
        config = config.model_copy(update={"questions": (*config.questions, *_split(config.tasks)), "tasks": ""})
    names = _names(config)
    card = next(iter(read_cards(names).values()), None)
    if card is not None:
        config = with_model(config, card.model, card.dtype)
        config = config if config.questions else config.model_copy(update={"questions": tuple(card.questions)})
    prompts = card.prompts if card is not None and not config.prompt else open_prompts(config)
    return config, names, prompts


def _split(tasks: str) -> list[str]:
    """The specs between commas; those within braces are a spec's own."""
    depth, specs = 0, [""]
    for letter in tasks:
        depth += (letter == "{") - (letter == "}")
        specs = [*specs, ""] if letter == "," and not depth else [*specs[:-1], specs[-1] + letter]
    return [spec.strip() for spec in specs if spec.strip()]


def _names(config: EvalConfig) -> tuple[str, ...]:
    """The agents that are measured."""
    from agents.registry import find_agents

    return config.agent or ((str(config.out),) if find_agents(str(config.out)) else ())


def _settings(config: EvalConfig) -> EvaluationConfig:
    return EvaluationConfig(**{name: getattr(config, name) for name in EvaluationConfig.model_fields})


def _on_record(config: EvalConfig) -> dict[str, Any]:
    """Evaluate on a recorded world."""
    from agents.registry import read_cards
    from eval.headroom import reference_table
    from eval.on_record import score_agents
    from polar_env.worlds import open_world as open_recorded
    from polar_env.worlds import world_folder
    from train.static import static_of_world

    _check_recorded(config)
    recorded = open_recorded(config.world)
    static, names = static_of_world(recorded), _names(config)
    scores = score_agents(recorded, names, static.program, static.by_task, config.split, config.seed)
    summary = {name: score.as_json() for name, score in scores.items()}
    path, key = config.out / "recorded.json", f"{recorded.card.name} {config.split}"
    kept = read_json(path, delete=path) if path.is_file() else {}
    write_whole(path, json.dumps(merged(kept, {key: summary}), indent=1).encode())
    if not config.json_output:
        print(f"{recorded.card.name}, {len(recorded.rows(config.split))} {config.split} questions\n")
        print(reference_table(scores).markdown())
    part = hashlib.sha256(f"{key} {names}".encode()).hexdigest()[:6]
    with tracked(config, "eval-recorded", part):
        log_inputs("recorded-world", world_folder(config.world))
        log_inputs("agent", *read_cards(names))
        log_methods(summary)
    return summary


def _check_recorded(config: EvalConfig) -> None:
    """Refuse what a recorded world does not have, or a world that is not there."""
    from polar_env.worlds import world_folder

    if config.questions or config.tasks or config.variations:
        raise ConfigError(
            "a recorded world has its own questions and no other conditions; leave out --questions, --tasks and "
            "--variations, or evaluate live, without --world."
        )
    world_folder(config.world)


def _recorded(config: EvalConfig) -> Prompts | None:
    """The prompts that `polar prompt` chose; None where it chose none."""
    path = config.out / PROMPT_FILE
    return read_prompts(path) if path.is_file() else None


def _vary(config: EvalConfig, world: LiveWorld, questions: list[Question], folder: Path) -> list[dict[str, Any]]:
    """Measure again under other conditions; the report gets the table."""
    from eval.report import write_report
    from eval.results import Results
    from eval.variations import variations_of, vary

    results = Results.open(folder)
    chat = bool(world.llm.tokenizer.chat_template)
    varied = vary(
        lambda prompts, dtype: open_world(config.model_copy(update={"dtype": dtype}), prompts),
        results,
        mixed_order(questions, config.seed)[: config.variation_questions],
        variations_of(world.prompts, world.llm.dtype_name, chat, config.seed),
        bars(world.stats),
    )
    write_report(folder, results)
    return [asdict(each) for each in varied]
