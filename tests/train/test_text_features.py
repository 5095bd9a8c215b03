"""What a text says of itself: the same for the same text, and of the size that the learner can use."""

from __future__ import annotations

import numpy as np

from polar_env.questions import Ask
from train.text_features import TextFeatures

ASKS = [Ask(f"What is {a} {sign} {b}?", "sums") for a in (12, 40, 7) for b in (5, 93) for sign in "+*"]


def test_texts_that_differ_in_a_digit_or_a_sign_differ() -> None:
    read = TextFeatures(ASKS)
    features = read(ASKS)
    assert len(np.unique(features, axis=0)) == len(ASKS)
    assert (read(ASKS[3:4])[0] == features[3]).all()


def test_kinds_weigh_the_same() -> None:
    read = TextFeatures(ASKS)
    features = read(ASKS)
    sizes = [len(scale[0]) for scale in read._scales]
    ends = np.cumsum(sizes)
    for start, end in zip(ends - sizes, ends, strict=True):
        assert np.isclose(features[:, start:end].var(0).sum(), 1.0, atol=1e-4)


def test_a_text_without_numbers_can_be_read() -> None:
    assert np.isfinite(TextFeatures(ASKS)([Ask("Which colour is the sky?", "words")])).all()
