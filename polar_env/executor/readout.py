"""From final hidden states to verdicts, reading out only the positions before answer tokens.

Axis letters: ``C`` candidate answers of a question (1 unless it is multiple choice), ``T`` tokens of a row, ``H``
width, ``N`` positions read out, ``V`` vocabulary.
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


def judge(llm: FrozenLLM, questions: Sequence[EncodedQuestion], states: Sequence[Tensor]) -> list[Verdict]:
    """Verdicts from final hidden states ``[C, T, H]``; a log-probability is NaN where the program made no numbers."""
    rows = [
        hidden[c, q.answer_slice(c)] for q, hidden in zip(questions, states, strict=True) for c in range(len(hidden))
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
def pool(questions: Sequence[EncodedQuestion], states: Sequence[Tensor]) -> NDArray[np.float16]:
    """What a policy sees of hidden states ``[C, T, H]``: see `Executor.features`; ``[N, 2 H]``."""
    both = torch.stack([_pooled(q.prompt_length, hidden[0]) for q, hidden in zip(questions, states, strict=True)])
    both = both / both.pow(2).mean(-1, keepdim=True).sqrt().clamp(min=1e-6)  # [N, 2, H]
    both = both.nan_to_num(0.0, 0.0, 0.0)  # what a program spoils says nothing, but must not spoil a policy
    return both.flatten(1).cpu().numpy().astype(np.float16)


def _pooled(prompt_length: int, hidden: Tensor) -> Tensor:
    """The last prompt token's hidden state, and the mean over the prompt's; ``[T, H]`` to ``[2, H]``."""
    prompt = hidden[:prompt_length].float()
    return torch.stack([prompt[-1], prompt.mean(0)])
