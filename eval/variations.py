"""Does a claim survive? The programs that were chosen, executed again under other prompts, numbers, another harness.

Decisions stay what they were, each under its agent's own prompt; what varies is how the question is put when the chosen
program answers, in which floating-point type, and who judges.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.comparison import ALL_TASKS, NO_DIFFERENCE, compare_with
from eval.evaluate import answer_is_right
from eval.methods import BEST_STATIC, IDENTITY
from eval.results import Results
from eval.statistics import Estimate, share
from eval.table import Table
from polar_env.program import Program
from polar_env.progress import Progress, no_progress
from polar_env.questions import Prompt, Prompts, Question
from polar_env.questions.prompts import STYLES
from polar_env.tables import write_whole
from polar_env.worlds import LiveWorld

__all__ = ["Variation", "Varied", "read_variations", "variation_table", "variations_of", "vary"]

_FILE = "variations.json"
_BASES = (BEST_STATIC, IDENTITY)
OpenWorld = Callable[[Prompts, str], LiveWorld]
"""Makes the world of some prompts and a floating-point type."""


@dataclass(frozen=True)
class Variation:
    """One other way to measure the same programs.

    Attributes:
        name: what is different.
        prompts: the prompts that questions are put under.
        dtype: the LLM's floating-point type.
        in_harness: whether lm-evaluation-harness runs and judges.
    """

    name: str
    prompts: Prompts
    dtype: str
    in_harness: bool = False


@dataclass(frozen=True)
class Varied:
    """A method under a variation.

    Attributes:
        variation: what is different.
        method: the method.
        pass_at_1: its share of right answers.
        deltas: the same minus that of each baseline, on the same questions.
        verdicts: what each difference says: adds, takes, no difference.
    """

    variation: str
    method: str
    pass_at_1: Estimate
    deltas: dict[str, Estimate]
    verdicts: dict[str, str]


def variations_of(prompts: Prompts, dtype: str, chat: bool, seed: int = 0) -> list[Variation]:
    """What is varied: two other prompts, the worked examples' order, the floating-point type, and the harness.

    Args:
        prompts: the prompts of the evaluation.
        dtype: its floating-point type.
        chat: whether the LLM has a chat template; without one, the second prompt has half of the worked examples.
        seed: of the shuffling.
    """
    default = prompts.default
    styles = [style for style in STYLES if style != default.style and (chat or style not in ("chat", "restate"))]
    changed = [Variation(f"prompt {style}", _changed(prompts, partial(_styled, style)), dtype) for style in styles[:2]]
    if len(changed) < 2 and default.examples:
        changed.append(Variation("half the examples", _changed(prompts, _halved), dtype))
    if len(default.examples) > 1:
        order = np.random.default_rng(seed).permutation(len(default.examples)).tolist()
        shuffled = _changed(prompts, partial(_shuffled, order))
        changed.append(Variation("examples shuffled", shuffled, dtype))
    other = "bfloat16" if dtype != "bfloat16" else "float32"
    changed.append(Variation(other, prompts, other))
    if find_spec("lm_eval") is not None:
        changed.append(Variation("lm-evaluation-harness", prompts, dtype, in_harness=True))
    return changed


def _changed(prompts: Prompts, change: Callable[[Prompt], dict[str, Any]]) -> Prompts:
    """The same prompts, each with some attributes changed."""
    by_task = {task: prompt.model_copy(update=change(prompt)) for task, prompt in prompts.by_task.items()}
    return Prompts(default=prompts.default.model_copy(update=change(prompts.default)), by_task=by_task)


def _styled(style: str, prompt: Prompt) -> dict[str, Any]:
    return {"style": style}


def _halved(prompt: Prompt) -> dict[str, Any]:
    return {"examples": prompt.examples[: len(prompt.examples) // 2]}


def _shuffled(order: Sequence[int], prompt: Prompt) -> dict[str, Any]:
    """A prompt's examples in another order; those that the order does not know come last."""
    known = [i for i in order if i < len(prompt.examples)]
    return {"examples": tuple(prompt.examples[i] for i in [*known, *range(len(order), len(prompt.examples))])}


def vary(
    open_world: OpenWorld,
    results: Results,
    questions: Sequence[Question],
    variations: Sequence[Variation],
    progress: Progress = no_progress,
) -> list[Varied]:
    """Execute the programs that the identity, the best static program and the agents chose again; what lies beside the
    results already is left out.

    Args:
        open_world: makes the world of a variation.
        results: an evaluation.
        questions: questions of it.
        variations: see `variations_of`.
        progress: shows how far it is.
    """
    varied = read_variations(results.folder)
    if any(each.pass_at_1.count != len(questions) for each in varied):
        varied = []  # of other questions
    rows = results.rows()
    rows = rows[rows["question_id"].isin([question.id for question in questions])]
    roles = results.roles()
    methods = [name for name, role in roles.items() if role == "agent" or name in _BASES]
    rows = rows[rows["method"].isin(methods)]
    if not varied:
        varied += _compared("as measured", rows, methods)
    todo = [each for each in variations if each.name not in {done.variation for done in varied}]
    with progress("variations", len(todo), "variations") as advance:
        for variation in todo:
            world = open_world(variation.prompts, variation.dtype)
            varied += _compared(variation.name, _again(world, variation, rows, questions), methods)
            write_whole(results.folder / _FILE, json.dumps([asdict(each) for each in varied], indent=2).encode())
            advance(1)
    return varied


def _again(world: LiveWorld, variation: Variation, rows: pd.DataFrame, questions: Sequence[Question]) -> pd.DataFrame:
    """The rows with the verdicts of a variation; a program that several methods chose runs once."""
    by_id = {question.id: question for question in questions}
    pairs = list(dict.fromkeys(zip(rows["question_id"], rows["program"], strict=True)))
    asked = [by_id[question_id] for question_id, _ in pairs]
    programs = [Program.parse(program) for _, program in pairs]
    if variation.in_harness:
        from eval.harness import right_in_harness

        right = right_in_harness(world, asked, programs)
    else:
        answers = world.answers([question.ask for question in asked], programs)
        right = [answer_is_right(answer, question) for answer, question in zip(answers, asked, strict=True)]
    verdicts = dict(zip(pairs, right, strict=True))
    keys = zip(rows["question_id"], rows["program"], strict=True)
    return rows.assign(right=[verdicts[key] for key in keys])


def _compared(name: str, rows: pd.DataFrame, methods: Sequence[str]) -> list[Varied]:
    compared = {base: compare_with(base, rows, methods) for base in _BASES if base in methods}
    varied = []
    for method in methods:
        of_method = {base: of[method][ALL_TASKS] for base, of in compared.items() if method in of}
        varied.append(
            Varied(
                name,
                method,
                share(rows.loc[rows["method"] == method, "right"].to_numpy(bool)),
                {base: each.delta for base, each in of_method.items()},
                {base: each.verdict for base, each in of_method.items()},
            )
        )
    return varied


def read_variations(folder: Path) -> list[Varied]:
    """The findings beside some results; none where nothing was varied."""
    path = folder / _FILE
    if not path.is_file():
        return []
    return [
        Varied(
            each["variation"], each["method"], Estimate(**each["pass_at_1"]),
            {base: Estimate(**delta) for base, delta in each["deltas"].items()}, each["verdicts"],
        )
        for each in json.loads(path.read_text(encoding="utf-8"))
    ]  # fmt: skip


def variation_table(varied: Sequence[Varied], claimed: Mapping[str, Mapping[str, str]]) -> Table:
    """What survives: a claim of the whole evaluation does where the difference says the same on these questions.

    Args:
        varied: see `vary`.
        claimed: by method and baseline, what the difference says on all questions; where that is no difference, there
            is nothing to survive.
    """
    cells = []
    for each in varied:
        deltas = [each.deltas[base].percent(sign=True) if base in each.deltas else "" for base in _BASES]
        survives = [_survives(each, base, claimed.get(each.method, {}).get(base, NO_DIFFERENCE)) for base in _BASES]
        cells.append(
            (each.variation, each.method, each.pass_at_1.percent(), *deltas, ", ".join(filter(None, survives)))
        )
    header = ("variation", "method", "pass@1 %", *(f"points against {base}" for base in _BASES), "claims")
    return Table(header, cells)


def _survives(varied: Varied, base: str, claim: str) -> str:
    if base not in varied.deltas or claim == NO_DIFFERENCE:
        return ""
    return f"{claim} to {base}: " + ("survives" if varied.verdicts[base] == claim else varied.verdicts[base])
