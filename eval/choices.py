"""What an agent's choices of programs go by: how closely they follow simple features of the question."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats.contingency import association

from eval.table import Table

__all__ = ["choice_table"]

_SHUFFLES = 50
_BINS = 4
Codes = NDArray[np.int64]


def choice_table(rows: pd.DataFrame, seed: int = 0) -> Table | None:
    """Association (Cramer's V, 0 to 1) of the chosen program with features of the question, beside shuffled choices.

    Args:
        rows: rows of one method, with ``text``, ``task`` and ``program``.
        seed: of the shuffling.

    Returns:
        A row for each feature that varies; None where the method always chose the same program.
    """
    if rows["program"].nunique() < 2:
        return None
    rng = np.random.default_rng(seed)
    programs = pd.factorize(rows["program"])[0]
    cells = []
    for name, feature in _features(rows).items():
        values = pd.factorize(feature)[0]
        if values.max() < 1:
            continue
        chance = [_association(values, rng.permutation(programs)) for _ in range(_SHUFFLES)]
        highest = np.quantile(chance, 0.95)
        strength = _association(values, programs)
        cells.append((name, f"{strength:.2f}", f"{highest:.2f}", "yes" if strength > highest else "no"))
    return Table(
        ("feature of the question", "association with the program", "95 % of shuffled below", "follows"), cells
    )


def _features(rows: pd.DataFrame) -> dict[str, pd.Series]:
    text = rows["text"]
    numbers = text.str.findall(r"\d+")
    counted = {
        "length": text.str.len(),
        "numbers in it": numbers.str.len(),
        "digits of the longest number": numbers.map(lambda found: max(map(len, found), default=0)),
    }
    return {
        "task": rows["task"],
        **{name: pd.qcut(values.rank(method="dense"), _BINS, duplicates="drop") for name, values in counted.items()},
        "first word": text.str.split().str[0].where(lambda word: word.groupby(word).transform("size") >= 10, "other"),
    }


def _association(values: Codes, programs: Codes) -> float:
    """Cramer's V of two codings from 0 on."""
    width = programs.max() + 1
    counts = np.bincount(values * width + programs, minlength=(values.max() + 1) * width)
    return float(association(counts.reshape(-1, width), method="cramer"))
