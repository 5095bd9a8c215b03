"""``polar verify MODEL``: are programs of your own model executed exactly? The oracle's table; exit code 1 if not."""

from __future__ import annotations

import math
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.table import Table

from polar_env.cli.bars import console
from polar_env.cli.flags import ModelConfig
from polar_env.cli.opening import open_llm
from polar_env.errors import ConfigError
from polar_env.tables import write_whole

if TYPE_CHECKING:
    from polar_env.runner.verify import Finding

__all__ = ["CONFIG", "EXAMPLES", "VerifyConfig", "run"]


class VerifyConfig(ModelConfig):
    """Compare this package's execution of a model with transformers running the same layers re-stacked."""

    model: Annotated[str, tyro.conf.Positional] = ""
    """A named model, a local folder, or a hub id (owner/name); by default smollm2-135m."""
    attention: str = ""
    """Attention implementation, sdpa or eager; by default the one that transformers chooses."""
    families: bool = False
    """Instead of one model, a tiny random model of every causal language model class that transformers has."""
    out: Path | None = None
    """With --families: where to write the page of all classes."""


CONFIG = VerifyConfig
EXAMPLES = ("polar verify smollm2-135m", "polar verify --families")


def run(config: VerifyConfig) -> dict[str, Any]:
    """Run all comparisons, print the table; ``failed`` says how many disagree."""
    from polar_env.runner.verify import GREEDY, MIXED, comparisons, verify

    if config.families:
        return _run_families(config)
    if config.out is not None:
        raise ConfigError("--out is where --families writes its page; give both or neither.")
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
    page = as_markdown(judgements, "polar verify --families --out docs/families.md")
    if config.out is not None:
        write_whole(config.out, page.encode())
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
