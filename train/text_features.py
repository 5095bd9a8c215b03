"""What a question's text alone says of it: characters, numbers and digits. For learners that read no hidden state.

They stand beside learners that do, to show what the LLM's states are worth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polar_env.questions import Ask

__all__ = ["TextFeatures"]

_NUMBERS, _DIGITS = 3, 2
"""Numbers of a text that are read, and the last digits of each."""
_SIGNS = "+-*/=?"


class TextFeatures:
    """Counts of one to three characters in a row; the first numbers, their last digits, and the signs between them.

    Each of these kinds is centred and scaled to the same total variance over the asks that it was fitted on.

    Args:
        asks: fitted on these.
    """

    def __init__(self, asks: Sequence[Ask]) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        self._counts = CountVectorizer(analyzer="char", ngram_range=(1, 3)).fit([ask.text for ask in asks])
        self._scales = [(kind.mean(0), float(np.sqrt(kind.var(0).sum())) or 1.0) for kind in self._kinds(asks)]

    def __call__(self, asks: Sequence[Ask]) -> NDArray[np.float32]:
        """Features, ``float32 [N, X]``."""
        scaled = [(kind - mean) / spread for kind, (mean, spread) in zip(self._kinds(asks), self._scales, strict=True)]
        return np.concatenate(scaled, axis=1).astype(np.float32)

    def _kinds(self, asks: Sequence[Ask]) -> list[NDArray[np.float64]]:
        texts = [ask.text for ask in asks]
        numbers = np.zeros((len(texts), _NUMBERS))
        for row, text in enumerate(texts):
            found = [float(number) for number in re.findall(r"\d+", text)[:_NUMBERS]]
            numbers[row, : len(found)] = found
        digits = np.stack([numbers // 10**place % 10 for place in range(_DIGITS)], axis=-1)
        one_hot = (digits[..., None] == np.arange(10)).reshape(len(texts), -1)
        signs = np.array([[text.count(sign) for sign in _SIGNS] for text in texts])
        counts = np.asarray(self._counts.transform(texts).toarray())
        return [counts.astype(float), numbers, one_hot.astype(float), signs.astype(float)]
