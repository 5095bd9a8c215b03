"""The prompt under which the identity is best: every method is measured under it.

A gain over the identity under a weak prompt is a repaired answer format, so each task gets the best of some prompts.

Letters: ``Q`` questions, ``P`` prompts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from eval.comparison import ALL_TASKS
from eval.statistics import Estimate, paired_difference, share
from eval.table import Table
from polar_env.errors import ConfigError
from polar_env.llm import FrozenLLM
from polar_env.questions import Prompt, Prompts, Question
from polar_env.runner import Runner
from polar_env.tables import write_whole
from polar_env.worlds import LiveWorld

__all__ = ["MEASURED", "PromptChoice", "choice_table", "choose_prompts", "read_choices", "write_choices"]

_FILE = "prompt-choices.json"

_MEMORY = 1 << 29
_SPLITS = 20
MEASURED = 300
"""Questions that a choice should rest on."""


@dataclass(frozen=True)
class PromptChoice:
    """The best prompt for some questions.

    Attributes:
        task: the task that they are of, or `ALL_TASKS`.
        best: name of the best prompt.
        shares: the identity's share of right answers under each prompt, by name.
        behind: the best prompt's share minus each other one's, paired.
        ties: prompts that these questions cannot tell from the best one.
        loss: what choosing costs: the best prompt of a random half of the questions, taken within each task, is so much
            worse on the other half than the best one there; mean over halves.
        questions: how many questions it rests on.
    """

    task: str
    best: str
    shares: dict[str, Estimate]
    behind: dict[str, Estimate]
    ties: list[str]
    loss: float
    questions: int


def write_choices(folder: Path, choices: Sequence[PromptChoice]) -> None:
    """Keep how prompts were chosen, in a folder."""
    write_whole(folder / _FILE, json.dumps([asdict(choice) for choice in choices], indent=2).encode())


def read_choices(folder: Path) -> list[PromptChoice]:
    """What `write_choices` keeps in a folder; none where nothing was chosen."""
    path = folder / _FILE
    return TypeAdapter(list[PromptChoice]).validate_json(path.read_bytes()) if path.is_file() else []


def choice_table(choices: Sequence[PromptChoice]) -> Table:
    """How the prompt was chosen: over all questions, then for each task that has a choice of its own."""
    names = list(dict.fromkeys(name for choice in choices for name in choice.shares))
    return Table(
        ("task", "questions", *(f"{name} %" for name in names), "best", "not told from it", "loss of choosing, points"),
        [
            (
                choice.task,
                str(choice.questions),
                *(choice.shares[name].percent() if name in choice.shares else "" for name in names),
                choice.best,
                ", ".join(choice.ties),
                f"{100 * choice.loss:.1f}",
            )
            for choice in choices
        ],
    )


def choose_prompts(
    llm: FrozenLLM,
    candidates: Mapping[str, Prompts],
    questions: Sequence[Question],
    *,
    per_task: bool = False,
    on_prompt: Callable[[str, Estimate], None] = lambda _, __: None,
) -> tuple[Prompts, list[PromptChoice]]:
    """Measure the identity under each candidate.

    Args:
        llm: the frozen LLM; chat prompts are left out where it has no chat template.
        candidates: prompts by name, each for all tasks.
        questions: train questions, none of which is a worked example.
        per_task: choose for each task by itself.
        on_prompt: called with each prompt's name and the identity's share of right answers.

    Returns:
        The best prompts, and how they were chosen: over all questions, then for each task.

    Raises:
        QuestionTooLongError: if a question does not fit under one of them; nothing has run then.
        ConfigError: if none of the candidates can be used.
    """
    usable = {
        name: prompts for name, prompts in candidates.items() if llm.tokenizer.chat_template or not _chats(prompts)
    }
    if not usable:
        raise ConfigError(
            f"none of the prompts {', '.join(candidates)} can be used: they are chat prompts, and {llm.name} has no "
            "chat template. Give qa-6 or bare-6."
        )
    runner = Runner(llm, memory_bytes=_MEMORY)
    worlds = {name: LiveWorld(runner, prompts) for name, prompts in usable.items()}
    for world in worlds.values():
        world.check(questions)
    columns = {}
    for name, world in worlds.items():
        verdicts = world.verdicts([(question, llm.identity) for question in questions])
        columns[name] = np.array([verdict.right for verdict in verdicts], bool)
        on_prompt(name, share(columns[name]))
        runner.clear()  # no other prompt has use for its states
    tasks = np.array([question.task for question in questions])
    overall = _choose(ALL_TASKS, columns, tasks)
    choices = [overall]
    if per_task:
        choices += [
            _choose(task, {name: right[tasks == task] for name, right in columns.items()}, tasks[tasks == task])
            for task in dict.fromkeys(tasks.tolist())
        ]
    best: dict[str, Prompt] = {each.task: usable[each.best][each.task] for each in choices[1:]}
    return Prompts(default=usable[overall.best].default, by_task=usable[overall.best].by_task | best), choices


def _chats(prompts: Prompts) -> bool:
    return any(prompt.is_chat for prompt in (prompts.default, *prompts.by_task.values()))


def _choose(task: str, right: Mapping[str, NDArray[np.bool_]], tasks: NDArray[np.str_]) -> PromptChoice:
    shares = {name: share(column) for name, column in right.items()}
    best = max(shares, key=lambda name: shares[name].value)
    behind = {
        name: paired_difference(right[best].tolist(), column.tolist()) for name, column in right.items() if name != best
    }
    matrix = np.stack(list(right.values()), axis=1)  # [Q, P]
    ties = [name for name, difference in behind.items() if difference.low <= 0]
    return PromptChoice(task, best, shares, behind, ties, _loss_of_choosing(matrix, tasks), len(matrix))


def _loss_of_choosing(right: NDArray[np.bool_], tasks: NDArray[np.str_]) -> float:
    """See `PromptChoice.loss`; 0 where a single question has no halves."""
    if len(right) < 2:
        return 0.0
    rng, losses = np.random.default_rng(0), []
    for _ in range(_SPLITS):
        order = rng.permutation(len(right))
        turn = np.empty(len(right), int)  # of a question among those of its task, in random order
        for task in np.unique(tasks):
            of_task = order[tasks[order] == task]
            turn[of_task] = np.arange(len(of_task)) + rng.integers(2)  # an odd one falls to either half
        chosen_on, elsewhere = right[turn % 2 == 0].mean(0), right[turn % 2 == 1].mean(0)
        losses.append(elsewhere.max() - elsewhere[chosen_on.argmax()])
    return float(np.mean(losses))
