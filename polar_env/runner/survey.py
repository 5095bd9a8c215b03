"""Which of transformers' causal language models are executed exactly: `verify` on a tiny random model of each class."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from polar_env.errors import ModelError
from polar_env.llm.families.tiny import LEFT_OUT, CausalClass, causal_classes, tiny_model, tiny_tokenizer
from polar_env.llm.frozen import FrozenLLM
from polar_env.runner.verify import GREEDY, verify
from polar_env.runtime import torch_threads

__all__ = ["Judgement", "as_markdown", "judge", "survey"]

EXACT, REFUSED, LEFT, WRONG = "exact", "refused", "left out", "WRONG"


@dataclass(frozen=True)
class Judgement:
    """What became of one class.

    Attributes:
        name: the class, or what a variant of it is called.
        model_type: what transformers calls its configuration.
        verdict: exact; refused when it is loaded; left out because there is no such model to load; or wrong, which is
            a bug of this package.
        difference: largest difference of logits to the re-stacked model; NaN where nothing was compared.
        reason: one sentence where it is not exact.
    """

    name: str
    model_type: str
    verdict: str
    difference: float
    reason: str


def survey(
    kinds: Sequence[CausalClass] | None = None,
    workers: int | None = None,
    on_judgement: Callable[[Judgement], None] | None = None,
) -> list[Judgement]:
    """Judge classes in processes of one thread each; an error in one class ends nothing but that class.

    Args:
        kinds: the classes; None for all.
        workers: how many processes; None for one on each core.
        on_judgement: called with each judgement as it is made.
    """
    kinds = causal_classes() if kinds is None else kinds
    spawn = multiprocessing.get_context("spawn")
    made: dict[str, Judgement] = {}
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=spawn) as pool:
        for future in as_completed([pool.submit(judge, kind) for kind in kinds]):
            judgement = future.result()
            made[judgement.name] = judgement
            if on_judgement is not None:
                on_judgement(judgement)
    return [made[kind.name] for kind in kinds]


def judge(kind: CausalClass) -> Judgement:
    """Build a tiny model of a class, load it, and put it to every case of `verify`."""
    warnings.simplefilter("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    verdict, difference, reason = LEFT, math.nan, LEFT_OUT.get(kind.cls, "")
    with torch_threads(1):
        if not reason:
            verdict, difference, reason = _verdict(kind)
    return Judgement(kind.name, kind.model_type, verdict, difference, reason)


def _verdict(kind: CausalClass) -> tuple[str, float, str]:
    try:
        model = tiny_model(kind)
    except ImportError as error:
        return LEFT, math.nan, f"it needs another package: {_sentence(error)}"
    except Exception as error:
        return WRONG, math.nan, f"no tiny model can be built: {type(error).__name__}: {_sentence(error)}"
    try:
        llm = FrozenLLM(model, tiny_tokenizer(), kind.name)
    except ModelError as error:
        return REFUSED, math.nan, _sentence(error)
    except Exception as error:
        return WRONG, math.nan, f"loading fails: {type(error).__name__}: {_sentence(error)}"
    try:
        findings = verify(llm)
    except Exception as error:
        return WRONG, math.nan, f"comparing fails: {type(error).__name__}: {_sentence(error)}"
    difference = max(finding.difference for finding in findings if finding.check != GREEDY)
    failed = [finding for finding in findings if not finding.ok]
    if failed:
        worst = failed[0]
        return WRONG, difference, f"{len(failed)} comparisons differ, first: {worst.case}, {worst.check}"
    return EXACT, difference, ""


def _sentence(error: Exception) -> str:
    """The first sentence of a message, in one line of a table."""
    text = " ".join(str(error).split()).replace("|", "/")
    return re.split(r"(?<=[.!?])(?<!e\.g\.)\s", text)[0]


def as_markdown(judgements: Sequence[Judgement], command: str) -> str:
    """The survey as a page: counts, rules, and a row for each class."""
    import transformers

    counts = Counter(judgement.verdict for judgement in judgements)
    wrong = f", **{counts[WRONG]} wrong**" if counts[WRONG] else ""
    rows = [
        f"| {j.name} | {j.model_type} | {j.verdict} | {'' if math.isnan(j.difference) else f'{j.difference:.0e}'} "
        f"| {j.reason} |"
        for j in judgements
    ]
    return _PAGE.format(
        command=command,
        version=transformers.__version__,
        total=len(judgements),
        exact=counts[EXACT],
        refused=counts[REFUSED],
        left=counts[LEFT],
        wrong=wrong,
        rows="\n".join(rows),
    )


_PAGE = """# Families

`{command}` wrote this page with transformers {version}: {total} rows, of which {exact} exact, {refused} refused and \
{left} left out{wrong}.

Every row is a class of transformers' table of causal language models, a class that is named like one
(`...ForCausalLM`, `...LMHeadModel`), or a variant of a class whose answer depends on its configuration. Each is built
as a tiny random model (4 layers, width 32, windows of 5 tokens) and loaded.

- **exact**: all comparisons of `polar verify` agree with transformers running the re-stacked layers, in float32 on a
  CPU. The difference is the largest of any logit; the bound is 1e-4, and for rows of different programs in one batch
  four times what transformers' own logits move, where that is more.
- **refused**: loading raises `ModelError` with the sentence of the row. Nothing is executed.
- **left out**: transformers cannot build the class here, or it is no language model by itself.

A tiny model tells what a class computes, not what a checkpoint holds: run `polar verify MODEL` on your own.

| class | model_type | verdict | difference | why |
|---|---|---|---|---|
{rows}
"""
