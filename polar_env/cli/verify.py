"""``polar verify MODEL``: are programs of your own model executed exactly? The oracle's table; exit code 1 if not."""

from __future__ import annotations

import math
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field
from rich.table import Table

from polar_env.cli.bars import console
from polar_env.cli.flags import QuestionsConfig, with_model
from polar_env.cli.opening import open_llm, open_prompts, open_questions
from polar_env.errors import ConfigError, FingerprintError
from polar_env.tables import write_whole

if TYPE_CHECKING:
    from polar_env.runner.verify import Finding

__all__ = ["CONFIG", "EXAMPLES", "VerifyConfig", "run"]


class VerifyConfig(QuestionsConfig):
    """Compare this package's execution of a model with transformers running the same layers re-stacked; with --engine,
    an export with what it was exported from.
    """

    model: Annotated[str, tyro.conf.Positional] = ""
    """A named model, a local folder, or a hub id (owner/name); by default smollm2-135m."""
    attention: str = ""
    """Attention implementation, sdpa or eager; by default the one that transformers chooses."""
    families: bool = False
    """Instead of one model, a tiny random model of every causal language model class that transformers has."""
    page: Path | None = None
    """With --families: where to write the page of all classes."""
    engine: Path | None = None
    """A folder or a .gguf file that `polar export` wrote: every engine that is installed and reads it answers --limit
    questions, by default 100; it must write the executor's tokens."""
    new_tokens: Annotated[int, Field(ge=1)] = 16
    """With --engine: most tokens of an answer."""


CONFIG = VerifyConfig
EXAMPLES = (
    "polar verify smollm2-135m",
    "polar verify --engine runs/exported.gguf --questions arithmetic",
    "polar verify --families",
)


def run(config: VerifyConfig) -> dict[str, Any]:
    """Run all comparisons, print the table; ``failed`` says how many disagree."""
    from polar_env.runner.verify import GREEDY, MIXED, comparisons, verify

    if config.families:
        return _run_families(config)
    if config.page is not None:
        raise ConfigError("--page is where --families writes; give both or neither.")
    if config.engine is not None:
        return _run_engines(config, config.engine)
    llm = open_llm(config.model_name, config.dtype_name, config.device, config.attention)
    number, total = count(1), comparisons(llm.depth)
    with console.status("comparing") as status:
        findings = verify(llm, lambda f: status.update(f"comparing {next(number)} of {total}: {f.case}, {f.check}"))
    failed = [finding for finding in findings if not finding.ok]
    same_shape = [f.difference for f in findings if f.check != GREEDY and f.case != MIXED]
    mixed = [f for f in findings if f.case == MIXED]
    if not config.json_output:
        _print_table(findings, f"{llm.name}: {llm.depth} layers, {llm.dtype_name}, {llm.attention} attention")
    for finding in failed:
        console.print(f"differs: {finding.case}, {finding.check}: {finding.difference:.3g}", markup=False)
    verdict = "every program runs exactly" if not failed else f"{len(failed)} of {len(findings)} comparisons differ"
    console.print(verdict)
    return {
        "cases": len(findings),
        "failed": len(failed),
        "max_logit_difference": _finite(max(same_shape)),
        "mixed_batch_difference": _finite(max(f.difference for f in mixed)),
        "mixed_batch_bound": min(f.bound for f in mixed),
    }


def _run_engines(config: VerifyConfig, path: Path) -> dict[str, Any]:
    """Compare engines with the executor, all in float32 on the weights of the export before they are rounded to 8 bits.

    ``failed`` says how many engines differ. Those that round on their own do not count: all of them on 8-bit weights,
    llama.cpp on 16-bit ones.
    """
    import copy

    import torch

    from polar_env.llm import FrozenLLM
    from polar_env.program import Program
    from polar_env.runner.encoding import Encoder
    from polar_env.runner.engines import LLAMA_CPP, compare_engines, open_engines, read_export

    export = read_export(path)
    config = with_model(config, export["model"], export["dtype"])
    llm = open_llm(config.model_name, config.dtype_name, config.device)
    if llm.fingerprint != export["fingerprint"]:
        raise FingerprintError(
            f"{path} was exported from {export['model']} ({export['fingerprint']}); here lies another: "
            f"{config.model_name} ({llm.fingerprint}). Give the model and --dtype of that export."
        )
    if llm.dtype != torch.float32:
        llm = FrozenLLM(copy.deepcopy(llm.model).float(), llm.tokenizer, llm.name)
    prompts = open_prompts(config)
    limited = config.model_copy(update={"limit": config.limit or 100})
    asks = [question.ask for question in open_questions(limited, "test", without=prompts)]
    rows = [Encoder(llm.tokenizer, prompts[ask.task], llm.context_length).prompt_ids(ask) for ask in asks]
    engines = open_engines(path, llm.end_tokens, max(map(len, rows)) + config.new_tokens)
    with console.status(f"{len(rows)} questions, {', '.join(engines)}"):
        agreements = compare_engines(llm, Program.parse(export["program"], llm.depth), rows, engines, config.new_tokens)
    for each in agreements:
        console.print(f"{each.engine}: the executor's tokens on {each.same} of {each.prompts} questions", markup=False)
    kind = export.get("kind", export["dtype"])
    exact = [each for each in agreements if kind == "float32" or (kind != "q8_0" and each.engine != LLAMA_CPP)]
    return {
        "program": export["program"],
        "engines": {each.engine: {"same": each.same, "questions": each.prompts} for each in agreements},
        "failed": sum(each.same < each.prompts for each in exact),
    }


def _run_families(config: VerifyConfig) -> dict[str, Any]:
    """Judge every class, write the page; ``failed`` says how many are neither exact nor refused."""
    from polar_env.llm.families.tiny import causal_classes
    from polar_env.runner.survey import EXACT, LEFT, REFUSED, WRONG, as_markdown, survey

    kinds, number = causal_classes(), count(1)
    with console.status("building") as status:
        judgements = survey(kinds, None, lambda j: status.update(f"{next(number)} of {len(kinds)}: {j.name}"))
    for judgement in judgements:
        if judgement.verdict == WRONG:
            console.print(f"{judgement.name}: {judgement.reason}", markup=False)
    page = as_markdown(judgements, "polar verify --families --page docs/families.md")
    if config.page is not None:
        write_whole(config.page, page.encode())
    elif not config.json_output:
        print(page)
    verdicts = [judgement.verdict for judgement in judgements]
    console.print(f"{verdicts.count(EXACT)} exact, {verdicts.count(REFUSED)} refused, {verdicts.count(LEFT)} left out")
    return {
        "classes": len(judgements),
        "exact": verdicts.count(EXACT),
        "refused": verdicts.count(REFUSED),
        "left_out": verdicts.count(LEFT),
        "failed": verdicts.count(WRONG),
    }


def _finite(difference: float) -> float | None:
    """As JSON knows it: null where something was not finite."""
    return difference if math.isfinite(difference) else None


def _print_table(findings: list[Finding], title: str) -> None:
    from rich.console import Console

    from polar_env.runner.verify import CHECKS, GREEDY, MIXED

    bounds = ", ".join(f"{f.bound:.0e}" for f in findings if f.case == MIXED)
    caption = (
        f"Largest difference of logits (bound {findings[0].bound:.0e}); for greedy tokens the rows that differ. "
        f"Rows of different programs in one batch are compared with each alone; their bound ({bounds}) is four times "
        "what transformers' own logits move between those batch shapes, where that is more."
    )
    table = Table(title=title, caption=caption, caption_justify="left")
    table.add_column("case", no_wrap=True)
    for check in CHECKS:
        table.add_column(check.replace(", ", ",\n").replace(" tok", "\ntok"), justify="right", no_wrap=True)
    cells: dict[str, dict[str, str]] = {}
    for finding in findings:
        text = f"{finding.difference:.0f}" if finding.check == GREEDY else f"{finding.difference:.1e}"
        style = "green" if finding.ok else "bold red"
        cells.setdefault(finding.case, {})[finding.check] = f"[{style}]{text}[/]"
    for case, row in cells.items():
        table.add_row(case, *(row.get(check, "") for check in CHECKS))
    Console(width=100).print(table)
