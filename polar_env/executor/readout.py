"""From final hidden states to verdicts, reading out only the positions before answer tokens.

Axis letters: ``C`` candidate answers of a question (1 unless it is multiple choice), ``T`` tokens of a row, ``L``
tokens of an answer, ``H`` width, ``N`` positions read out, ``V`` vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polar_env.encoding import EncodedQuestion
from polar_env.executor.verdict import Verdict
from polar_env.llm.frozen import FrozenLLM

__all__ = ["judge", "pool"]

_POSITIONS = 64
"""Positions read out at once: their logits stay in the cache of a CPU."""


def judge(
    llm: FrozenLLM, questions: Sequence[EncodedQuestion], texts: Sequence[Tensor], choices: Sequence[Tensor | None]
) -> list[Verdict]:
    """Verdicts; a log-probability is NaN where the program made no numbers.

    Args:
        llm: reads out.
        questions: the questions.
        texts: for each, the final hidden states of its text, ``[1, T, H]``.
        choices: and those of its choices, ``[C, T, H]``, where it has any.
    """
    rows = [
        positions
        for question, hidden, behind in zip(questions, texts, choices, strict=True)
        for positions in _answer_positions(question, hidden[0], behind)
    ]
    gold = [torch.tensor(answer) for question in questions for answer in question.answers]
    log_probs, greedy = _read_out(llm, torch.cat(rows), torch.cat(gold).to(llm.device))
    verdicts, at = [], 0
    for question in questions:
        ends = at + np.cumsum([0, *map(len, question.answers)])
        parts = [slice(start, end) for start, end in pairwise(ends)]
        if len(parts) == 1:
            verdicts.append(_open(question.answers[0], greedy[parts[0]].tolist(), float(log_probs[parts[0]].sum())))
        else:
            verdicts.append(_choice(question, [float(log_probs[part].mean()) for part in parts]))
        at = int(ends[-1])
    return verdicts


def _answer_positions(question: EncodedQuestion, text: Tensor, choices: Tensor | None) -> list[Tensor]:
    """For each candidate answer the hidden states ``[L, H]`` that its tokens are read from: the first one follows the
    prompt's last token.
    """
    last = question.prompt_length - 1
    if choices is None:
        return [text[last : last + len(answer)] for answer in question.answers]
    return [
        torch.cat([text[last : last + 1], row[: len(answer) - 1]])
        for row, answer in zip(choices, question.answers, strict=True)
    ]


@torch.inference_mode()
def _read_out(llm: FrozenLLM, hidden: Tensor, gold: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """For each position ``[N, H]``: its gold token's log-probability in nats, and its likeliest token; ``[N]`` each."""
    log_probs, greedy = [], []
    for some, tokens in zip(hidden.split(_POSITIONS), gold.split(_POSITIONS), strict=True):
        logits = llm.read_out(some).float()  # [N, V]
        log_probs.append(logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1))
        greedy.append(logits.argmax(-1))
    return torch.cat(log_probs).cpu().numpy(), torch.cat(greedy).cpu().numpy()


def _open(gold: tuple[int, ...], greedy: list[int], log_prob: float) -> Verdict:
    """The verdict on an open question, from the likeliest token at every position of the gold answer."""
    agreed = next((i for i, (a, b) in enumerate(zip(gold, greedy, strict=True)) if a != b), len(gold))
    return Verdict(agreed == len(gold), log_prob, tuple(greedy[: agreed + 1]))


def _choice(question: EncodedQuestion, means: list[float]) -> Verdict:
    """The verdict on a multiple-choice question, from the mean log-probability of each choice's tokens."""
    best = int(np.argmax(means))  # a NaN, where there is one
    if math.isnan(means[best]):
        return Verdict(False, math.nan)
    return Verdict(best == question.gold, means[question.gold], question.answers[best])


@torch.inference_mode()
def pool(questions: Sequence[EncodedQuestion], texts: Sequence[Tensor]) -> NDArray[np.float16]:
    """What a policy sees of hidden states ``[1, T, H]`` of questions' texts: see `Executor.features`; ``[N, 2 H]``."""
    both = torch.stack([_pooled(hidden[0, : q.prompt_length]) for q, hidden in zip(questions, texts, strict=True)])
    both = both / both.pow(2).mean(-1, keepdim=True).sqrt().clamp(min=1e-6)  # [N, 2, H]
    both = both.nan_to_num(0.0, 0.0, 0.0)  # what a program spoils says nothing, but must not spoil a policy
    return both.flatten(1).cpu().numpy().astype(np.float16)


def _pooled(prompt: Tensor) -> Tensor:
    """The last prompt token's hidden state, and the mean over the prompt's; ``[T, H]`` to ``[2, H]``."""
    return torch.stack([prompt[-1].float(), prompt.float().mean(0)])
