"""The format of the PoLar release: one ``merged_mcts_samples.json`` with right and wrong layer paths for each question.

``{"samples": [{"question", "gt_ans", "initial_score", "final_valid_transitions", "final_invalid_transitions"}, ..]}``,
each transition a list of executed layers. Its readers also take a bare list of samples, an object whose values are
samples, paths as ``{"path": [..]}``, and a question and answer inside ``sample_info``; so do we.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from polar_env.errors import ProgramError, QuestionError, TraceError
from polar_env.program import Program
from polar_env.questions import Ask, Prompts, Question
from polar_env.runner.verdict import Verdict
from polar_env.tables import write_whole, writing_whole
from polar_env.traces.rows import VerdictRow
from polar_env.traces.stages import IMPORTED, TREE
from polar_env.traces.trace_set import TraceSet, new_meta

if TYPE_CHECKING:
    from polar_env.llm import FrozenLLM

__all__ = ["Imported", "export_polar", "import_polar", "import_traces"]

_SHOWN = 10
"""Problems that an error lists."""


def export_polar(traces: TraceSet, questions: Sequence[Question], path: Path) -> int:
    """Write the verdicts of trees, ours or imported ones, on some questions; returns how many questions that were.

    Raises:
        TraceError: if the set has traces of none of the questions.
    """
    table = traces.verdict_table()
    table = table.filter(pc.is_in(table["stage"], pa.array([TREE, IMPORTED])))
    by_question = table.to_pandas(strings_to_categorical=True).groupby("question_id", observed=True)
    asked = [question for question in questions if question.id in by_question.groups]
    if not asked:
        raise TraceError("the traces are of none of these questions; give the --questions that were searched.")
    about = {key: traces.meta[key] for key in ("model", "fingerprint", "dtype", "depth")}
    with writing_whole(path) as file:  # one sample at a time
        file.write(json.dumps(about, indent=1, ensure_ascii=False).removesuffix("\n}").encode() + b',\n "samples": [\n')
        for number, question in enumerate(asked):
            sample = _sample(question, by_question.get_group(question.id), traces.depth)
            text = json.dumps(sample, ensure_ascii=False)
            file.write((",\n  " if number else "  ").encode() + text.encode())
        file.write(b"\n ]\n}\n")
    return len(asked)


def _sample(question: Question, verdicts: pd.DataFrame, depth: int) -> dict[str, Any]:
    """A sample; without an initial score where the identity has no verdict."""
    ours_first = verdicts.sort_values("stage", key=lambda stage: stage != TREE, kind="stable")
    rows = ours_first.drop_duplicates("program").sort_values(["layers", "order"], kind="stable")
    is_identity = rows["program"] == str(Program.identity(depth))
    layers = {right: [list(Program.parse(p).layers) for p in rows.loc[rows["right"] == right, "program"]] for right in
              (True, False)}  # fmt: skip
    return {
        "query_id": question.id,
        "question": question.text,
        "gt_ans": question.answer,
        **({"initial_score": float(rows.loc[is_identity, "right"].iloc[0])} if is_identity.any() else {}),
        _VALID: layers[True],
        _INVALID: layers[False],
    }


@dataclass
class Imported:
    """What a file holds.

    Attributes:
        questions: those that can be asked.
        rows: verdicts on them, as rows of a trace set of the stage ``imported``; log-probabilities are not known (NaN).
        problems: what was left out, one line each.
    """

    questions: list[Question] = field(default_factory=list)
    rows: list[VerdictRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def import_polar(path: Path, depth: int) -> Imported:
    """Read a file of the PoLar release's format.

    Args:
        path: the file.
        depth: the depth of the model that the paths are of.

    Raises:
        TraceError: if the file is none of this format, or says that it is of another depth.
    """
    imported = Imported()
    seen: set[str] = set()
    for number, sample in enumerate(_samples(path, depth)):
        where = f"sample {number}"
        try:
            question = _question(sample, path.resolve().parent.name)
        except QuestionError as error:
            imported.problems.append(f"{where}: {error}")
            continue
        if question.id in seen:
            imported.problems.append(f"{where}: its question stands in an earlier sample.")
            continue
        seen.add(question.id)
        imported.questions.append(question)
        programs = _verdicts(sample, depth, where, imported.problems)
        order = sorted(programs, key=lambda program: program != Program.identity(depth))  # a trace begins with it
        imported.rows += [
            VerdictRow.of(question, program, Verdict(programs[program], math.nan), depth, stage=IMPORTED, order=place)
            for place, program in enumerate(order)
        ]
    return imported


def import_traces(path: Path, llm: FrozenLLM, prompts: Prompts, folder: Path, *, skip_bad: bool = False) -> Imported:
    """Make a trace set of a file of the PoLar release's format.

    Args:
        path: the file.
        llm: the LLM that its paths are of.
        prompts: the prompts that the trace set names, of its tasks.
        folder: gets ``traces`` and ``questions.jsonl``.
        skip_bad: leave out what is no question or no program, instead of refusing the file.

    Raises:
        TraceError: if the file is damaged, holds what is no program of the LLM, or the folder has traces already.
    """
    imported = import_polar(path, llm.depth)
    if imported.problems and not skip_bad:
        shown = imported.problems[:_SHOWN]
        raise TraceError(
            f"{path} has {len(imported.problems)} samples or paths that are no programs of {llm.name}'s {llm.depth} "
            f"layers, the first {len(shown)}:\n" + "\n".join(shown) + "\nGive the --model that they were made with, or "
            "--skip-bad to leave them out."
        )
    if (folder / "traces").exists():
        raise TraceError(f"{folder / 'traces'} is there already; give another --out folder.")
    file = folder / "questions.jsonl"
    lines = [
        json.dumps({"question": q.text, "answer": q.answer, "task": q.task}, ensure_ascii=False)
        for q in imported.questions
    ]
    write_whole(file, "\n".join([*lines, ""]).encode())
    origin = {"imported_from": path.name, "questions": [f"jsonl:{file}"]}
    tasks = {question.task for question in imported.questions}
    own = prompts.model_copy(update={"by_task": {t: each for t, each in prompts.by_task.items() if t in tasks}})
    TraceSet.start(folder / "traces", new_meta(llm, own, origin)).append(imported.rows)
    return imported


def _verdicts(sample: Mapping[str, Any], depth: int, where: str, problems: list[str]) -> dict[Program, bool]:
    """A sample's programs and whether each is right; what is none goes to the problems."""
    programs: dict[Program, bool] = {}
    initial = sample.get("initial_score", sample.get("initial_transition_metric"))
    if isinstance(initial, int | float):
        programs[Program.identity(depth)] = initial >= 1.0
    for key, right in ((_VALID, True), (_INVALID, False)):
        listed = sample.get(key) or []
        if not isinstance(listed, list):
            problems.append(f"{where}: '{key}' is no list.")
            continue
        for place, path_or_object in enumerate(listed):
            try:
                programs.setdefault(_program(path_or_object, depth), right)
            except ProgramError as error:
                problems.append(f"{where}, {key}[{place}]: {error}")
    return programs


def _question(sample: Any, task: str) -> Question:
    about = (sample.get("sample_info") or {}) if isinstance(sample, Mapping) else None
    if not isinstance(about, Mapping):
        raise QuestionError("it, or its 'sample_info', is no JSON object.")
    if not {_VALID, _INVALID} & sample.keys():
        raise QuestionError(f"it has neither '{_VALID}' nor '{_INVALID}'.")
    text = sample.get("question") or about.get("question") or ""
    answer = next((v for k in _ANSWERS for v in (sample.get(k), about.get(k)) if v not in (None, "")), "")
    return Question(Ask.typed(str(text), str(sample.get("task") or task)), str(answer))  # as JSON lines are read


_ANSWERS = ("gt_ans", "ground_truth", "answer")


def _samples(path: Path, depth: int) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TraceError(f"{path} cannot be read as JSON: {error}") from error
    if isinstance(content, dict):
        if content.get("depth", depth) != depth:
            raise TraceError(
                f"{path} is of {content.get('model', 'a model')} with {content['depth']} layers, and this model has "
                f"{depth}; give the --model that it was made with."
            )
        content = content["samples"] if "samples" in content else list(content.values())
    if not isinstance(content, list) or not any(isinstance(s, dict) and {_VALID, _INVALID} & s.keys() for s in content):
        raise TraceError(
            f"{path} holds no samples with '{_VALID}'; expected is the merged_mcts_samples.json of the PoLar release."
        )
    return content


_VALID, _INVALID = "final_valid_transitions", "final_invalid_transitions"


def _program(listed: Any, depth: int) -> Program:
    layers = listed.get("path") if isinstance(listed, Mapping) else listed
    if not isinstance(layers, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in layers):
        raise ProgramError(f"{json.dumps(listed)[:60]} is no list of layers.")
    return Program(tuple(layers)).check(depth)
