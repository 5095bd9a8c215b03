"""Twins: asks that are one question in another form. They always fall into one split.

Two asks are twins if their canonical forms are equal (``a + b`` and ``b + a``; the same words with other blanks,
capitals or punctuation; the same choices in another order), or if they are near-duplicates of prose: the same numbers
and names, and a Jaccard similarity of their word 5-grams of at least `SIMILARITY`, estimated by MinHash.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from polar_env.questions.ask import Ask, equation_of

if TYPE_CHECKING:
    from datasketch import MinHash

__all__ = [
    "SPLITS",
    "Split",
    "have_twins",
    "near_hash",
    "near_twins",
    "normalise",
    "split_of",
    "twin_clusters",
    "twin_hash",
    "twin_key",
]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_SHARES = {"train": 60, "validation": 15, "test": 25}
"""Percent of all questions that fall into each split."""

SIMILARITY = 0.5
"""One changed word in thirty leaves a similarity of about 0.7, two leave 0.45."""
_SHINGLE, _PERMUTATIONS = 5, 64

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|\w+|[-+*/=<>^%$\\]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<![.?!:]\s)(?<!^)\b[A-Z]\w*|(?<=['\"])\w+(?=['\"])")
"""Capitalised words inside a sentence, and quoted words."""


def normalise(text: str) -> str:
    """Lower-case, with every run of blanks as one; signs stay, since ``4 + 3`` is not ``4 - 3``."""
    return re.sub(r"\s+", " ", text).strip().lower()


def twin_key(ask: Ask) -> str:
    """The canonical form of an ask: equal for asks that differ in form alone."""
    if ask.choices:
        return " | ".join([_words(ask.text), *sorted(map(_words, ask.choices))])
    return _arithmetic(ask) or _words(ask.text)


def split_of(key: str) -> Split:
    """The split of a canonical form: a function of nothing else, so that twins can never be split apart."""
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
    if bucket < _SHARES["train"]:
        return "train"
    return "validation" if bucket < _SHARES["train"] + _SHARES["validation"] else "test"


def twin_clusters(asks: Sequence[Ask], prose: Sequence[bool]) -> list[str]:
    """For each ask the least canonical form among its twins: equal exactly for twins.

    Args:
        asks: the asks.
        prose: which of them are prose, among which near-duplicates are looked for. Questions that a procedure fills
            into one long template are none: they differ in a few words and in nothing else.
    """
    keys = [twin_key(ask) for ask in asks]
    root = {key: key for key in keys}

    def top(key: str) -> str:
        while root[key] != key:
            key = root[key]
        return key

    # Arithmetic is compared as such: its words are the same for many expressions.
    texts = {k: a for k, a, p in zip(keys, asks, prose, strict=True) if p and not k.startswith(_VALUE)}
    for first, second in _near_duplicates(texts):
        low, high = sorted((top(first), top(second)))
        root[high] = low
    return [top(key) for key in keys]


def _words(text: str) -> str:
    """Lower-case words, numbers and signs; punctuation and blanks are dropped."""
    return " ".join(_TOKEN.findall(text.lower()))


def _arithmetic(ask: Ask) -> str | None:
    """The canonical expression of an ask that wants the value of one and nothing else."""
    expression = ask.equation or equation_of(ask.text)
    if expression is None:
        return None
    try:
        tree = ast.parse(expression.strip().removesuffix("=").strip(), mode="eval").body
        return f"{_VALUE}{_canonical(tree)}" if isinstance(tree, ast.BinOp) else None
    except (SyntaxError, ValueError):
        return None


def _canonical(node: ast.expr) -> str:
    """An expression with the terms of sums and the factors of products in order.

    Raises:
        ValueError: for anything but numbers, + - * / and signs.
    """
    match node:
        case ast.Constant(value=int() | float() as number):
            return str(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"-{_canonical(operand)}"
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            return f"({' '.join(sorted(_terms(node, '+')))})"
        case ast.BinOp(op=ast.Mult()):
            return f"({' * '.join(sorted(_factors(node)))})"
        case ast.BinOp(op=ast.Div(), left=left, right=right):
            return f"({_canonical(left)} / {_canonical(right)})"
    raise ValueError(f"{ast.dump(node)} is no arithmetic.")


_VALUE = "value of "
"""Begins the canonical form of arithmetic."""
_OPPOSITE = {"+": "-", "-": "+"}


def _terms(node: ast.expr, sign: str) -> list[str]:
    """The signed terms of a sum; any other expression is one term."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        right = sign if isinstance(node.op, ast.Add) else _OPPOSITE[sign]
        return _terms(node.left, sign) + _terms(node.right, right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _terms(node.operand, _OPPOSITE[sign])
    return [sign + _canonical(node)]


def _factors(node: ast.expr) -> list[str]:
    """The factors of a product; any other expression is one factor."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _factors(node.left) + _factors(node.right)
    return [_canonical(node)]


def _near_duplicates(asks: dict[str, Ask]) -> list[tuple[str, str]]:
    """Pairs of canonical forms of prose that are likely rewordings of each other."""
    groups: dict[str, list[str]] = defaultdict(list)
    for key, ask in asks.items():
        groups[_marks(ask)].append(key)
    pairs: list[tuple[str, str]] = []
    for group in groups.values():
        if len(group) > 1:
            pairs += _similar(group, [asks[key] for key in group])
    return pairs


def _marks(ask: Ask) -> str:
    """The numbers, names and choices of an ask: near-duplicates have the same."""
    marks = sorted(_NUMBER.findall(ask.text)) + sorted(_NAME.findall(ask.text))
    return "\x1f".join([*marks, "|", *sorted(map(_words, ask.choices))])


def _similar(keys: Sequence[str], asks: Sequence[Ask]) -> list[tuple[str, str]]:
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=SIMILARITY, num_perm=_PERMUTATIONS)
    pairs: list[tuple[str, str]] = []
    for key, ask in zip(keys, asks, strict=True):
        sketch = _sketch(ask)
        pairs += [(key, other) for other in index.query(sketch)]
        index.insert(key, sketch)
    return pairs


def _sketch(ask: Ask) -> MinHash:
    from datasketch import MinHash

    row, sketch = _words(ask.text).split(), MinHash(num_perm=_PERMUTATIONS)
    sketch.update_batch([" ".join(row[i : i + _SHINGLE]).encode() for i in range(max(1, len(row) - _SHINGLE + 1))])
    return sketch


def near_hash(ask: Ask) -> str | None:
    """What shows that an ask in prose was reworded, for files that may not hold the text itself: a hash of its numbers,
    names and choices, and its MinHash; None for arithmetic, whose twins `twin_hash` shows.
    """
    if twin_key(ask).startswith(_VALUE):
        return None
    values = _sketch(ask).hashvalues.astype("<u4").tobytes()
    return f"{hashlib.sha256(_marks(ask).encode()).hexdigest()[:16]}:{base64.b64encode(values).decode()}"


def near_twins(hashes: Sequence[str | None], others: Iterable[str]) -> list[bool]:
    """Which asks are near-duplicates of others, all by their `near_hash`."""
    by_marks: dict[str, list[NDArray[np.uint32]]] = defaultdict(list)
    for other in others:
        marks, values = _values_of(other)
        by_marks[marks].append(values)
    found = []
    for each in hashes:
        marks, values = _values_of(each) if each else ("", np.zeros(0, np.uint32))
        found.append(any((values == other).mean() >= SIMILARITY for other in by_marks.get(marks, [])))
    return found


def _values_of(text: str) -> tuple[str, NDArray[np.uint32]]:
    marks, _, values = text.partition(":")
    return marks, np.frombuffer(base64.b64decode(values), "<u4")


def twin_hash(ask: Ask) -> str:
    """16 hex digits of an ask's canonical form, for files that may not hold the text itself."""
    return hashlib.sha256(twin_key(ask).encode()).hexdigest()[:16]


def have_twins(asks: Sequence[Ask], prose: Sequence[bool], others: Sequence[Ask]) -> list[bool]:
    """Which asks have a twin among others; see `twin_clusters`."""
    clusters = twin_clusters([*asks, *others], [*prose, *[True] * len(others)])
    beside = set(clusters[len(asks) :])
    return [cluster in beside for cluster in clusters[: len(asks)]]
