"""``polar traces info|check|merge|export|import``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import Field

from polar_env.cli.bars import bars, console
from polar_env.cli.flags import QuestionsConfig, with_model
from polar_env.cli.opening import open_llm, open_prompts, open_world
from polar_env.errors import ConfigError, TraceError
from polar_env.questions import Question, load_questions

if TYPE_CHECKING:
    from polar_env.traces import TraceSet

__all__ = ["CONFIG", "EXAMPLES", "TracesConfig", "open_traces", "questions_of", "run"]

_SHOWN = 10


class TracesConfig(QuestionsConfig):
    """Look after trace sets, and exchange them.

    info DIR: what it holds. check DIR: whether all of it is whole; exit code 1 if not. merge DIR DIR ..: one set in
    OUT/traces. export DIR: as --to says. import FILE: a PoLar release's merged_mcts_samples.json of --model, into
    OUT/traces and OUT/questions.jsonl.
    """

    action: Annotated[Literal["info", "check", "merge", "export", "import"], tyro.conf.Positional] = "info"
    """What to do."""
    paths: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Trace sets: folders, or runs that hold one; for import the file."""
    to: Literal["polar", "minari"] = "polar"
    """export: one JSON file of the PoLar release's format (OUT/merged_mcts_samples.json), or a Minari data set."""
    dataset: str = "polar/traces-v0"
    """export --to minari: name of the data set in Minari's folder ($MINARI_DATASETS_PATH)."""
    per_question: Annotated[int, Field(ge=1)] = 1
    """export --to minari: episodes for each question, its best programs."""


CONFIG = TracesConfig
EXAMPLES = ("polar traces info runs/mine", "polar traces export runs/mine --to polar --out runs/exported")


def run(config: TracesConfig) -> dict[str, Any]:
    """Do what the action says."""
    if not config.paths:
        raise ConfigError(
            f"`polar traces {config.action}` needs a {'file' if config.action == 'import' else 'folder'}."
        )
    if config.action != "merge" and len(config.paths) > 1:
        raise ConfigError(f"`polar traces {config.action}` takes one path, not {len(config.paths)}.")
    return _ACTIONS[config.action](config)


def open_traces(path: Path) -> TraceSet:
    """The trace set in a folder, or in the run that lies there."""
    from polar_env.traces import TraceSet

    return TraceSet.open(path / "traces" if (path / "traces").is_dir() else path)


def _info(config: TracesConfig) -> dict[str, Any]:
    from polar_env.traces.describe import describe

    result = describe(open_traces(config.paths[0]))
    if not config.json_output:
        for key, value in result.items():
            print(f"{key:<12} {json.dumps(value) if isinstance(value, dict) else value}")
    return result


def _check(config: TracesConfig) -> dict[str, Any]:
    from polar_env.traces.check import check_traces

    problems = check_traces(open_traces(config.paths[0]))
    if not config.json_output:
        for problem in problems[:_SHOWN]:
            print(problem)
        print(f"{len(problems)} problems" if problems else "whole")
    return {"problems": problems, "failed": len(problems)}


def _merge(config: TracesConfig) -> dict[str, Any]:
    from polar_env.traces.merge import merge

    merged, counts = merge([open_traces(path) for path in config.paths], config.out / "traces")
    console.print(f"{counts['verdicts']} verdicts in {merged.folder}", markup=False)
    if counts["trees_left_out"] or counts["disagreements"]:
        console.print(
            f"{counts['trees_left_out']} trees were left out, since an earlier set has one of their question; on "
            f"{counts['disagreements']} verdicts sets disagree, and the earlier one's stands.",
            markup=False,
        )
    return {"traces": str(merged.folder), **counts}


def _export(config: TracesConfig) -> dict[str, Any]:
    from polar_env.traces.exchange.polar_json import export_polar

    traces = open_traces(config.paths[0])
    questions = questions_of(config, traces)
    if config.to == "polar":
        path = config.out / "merged_mcts_samples.json"
        count = export_polar(traces, questions, path)
        console.print(f"{count} questions in {path}", markup=False)
        return {"file": str(path), "questions": count}
    from polar_env.traces.exchange.minari import export_minari

    config = with_model(config, traces.meta["model"], traces.meta["dtype"])
    world = open_world(config, traces.prompts)
    with bars(world.stats)("recording", None, "episodes") as advance:
        episodes, unspoken = export_minari(traces, world, questions, config.dataset, config.per_question, advance)
    console.print(
        f"{episodes} episodes in {config.dataset}, all replayed; {unspoken} programs that the environment's actions "
        "cannot spell were left out.",
        markup=False,
    )
    return {"dataset": config.dataset, "episodes": episodes, "unspoken": unspoken}


def questions_of(config: QuestionsConfig, traces: TraceSet) -> list[Question]:
    """The questions that a trace set is of, from the flags or from where it says that they came."""
    specs = config.questions or tuple(traces.meta["config"].get("questions") or ()) or config.specs
    traced = traces.question_ids()
    questions = [question for question in load_questions(specs) if question.id in traced]
    if not questions:
        raise TraceError(
            f"none of the questions of {', '.join(specs)} are in {traces.folder}; give the --questions that were "
            "searched."
        )
    return questions


def _import(config: TracesConfig) -> dict[str, Any]:
    from polar_env.traces.exchange.polar_json import import_traces

    prompts, llm = open_prompts(config), open_llm(config.model_name, config.dtype_name, config.device)
    imported = import_traces(config.paths[0], llm, prompts, config.out, skip_bad=config.skip_bad)
    traces, file = config.out / "traces", config.out / "questions.jsonl"
    console.print(
        f"{len(imported.rows)} verdicts on {len(imported.questions)} questions in {traces}; {len(imported.problems)} "
        f"left out. Their verdicts are the other code's: `polar search --matrix --out {config.out} --model "
        f"{config.model_name} --prompt {config.prompt or prompts.name} --questions jsonl:{file}` races their best "
        "programs here, and `polar train` learns from that.",
        markup=False,
    )
    return {
        "traces": str(traces),
        "verdicts": len(imported.rows),
        "questions": len(imported.questions),
        "left_out": len(imported.problems),
        "problems": imported.problems,
    }


_ACTIONS = {"info": _info, "check": _check, "merge": _merge, "export": _export, "import": _import}
