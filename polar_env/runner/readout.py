"""From final hidden states to verdicts and observations, reading out only the positions before answer tokens.

Axis letters: ``C`` candidate answers of a question (1 unless it is multiple choice), ``T`` tokens of a row, ``L``
tokens of an answer, ``H`` width, ``N`` positions read out, ``V`` vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polar_env.llm.frozen import FrozenLLM
from polar_env.runner.encoding import EncodedCandidates, EncodedQuestion
from polar_env.runner.verdict import Verdict

__all__ = ["CandidateScore", "behind_ask", "judge", "next_token_confidence", "pool", "score", "whole_row"]


def whole_row(question: EncodedQuestion, whole: Tensor) -> list[Tensor]:
    """The states ``[L, H]`` that the answer's tokens are read from, where ask and answer are one row ``[1, T, H]``."""
    last = question.ask.text.length - 1  # the first token of an answer follows the ask's last one
    return [whole[0, last : last + len(question.answers[0])]]


def behind_ask(candidates: EncodedCandidates, ask: Tensor, behind: Tensor | None) -> list[Tensor]:
    """For each candidate answer the states ``[L, H]`` that its tokens are read from.

    Args:
        candidates: the answers.
        ask: states of the ask, ``[1, T, H]``.
        behind: states of the answers behind it, ``[C, T, H]``; None where each answer is one token.
    """
    first = ask[0, -1:]
    if behind is None:
        return [first for _ in candidates.answers]
    return [torch.cat([first, row[: len(answer) - 1]]) for row, answer in zip(behind, candidates.answers, strict=True)]


def judge(
    llm: FrozenLLM, questions: Sequence[EncodedQuestion], positions: Sequence[Sequence[Tensor]], rows: int
) -> list[Verdict]:
    """Verdicts; a log-probability is NaN where the program made no numbers.

    Args:
        llm: reads out.
        questions: the questions.
        positions: for each question and each of its answers the states ``[L, H]`` that its tokens are read from.
        rows: positions read out at once.
    """
    verdicts = []
    for question, scores in zip(questions, score(llm, questions, positions, rows), strict=True):
        if len(scores) == 1:
            verdicts.append(_open(question.answers[0], scores[0].greedy, float(scores[0].log_probs.sum())))
        else:
            verdicts.append(_choice(question, [float(each.log_probs.mean()) for each in scores]))
    return verdicts


@dataclass(frozen=True)
class CandidateScore:
    """What the LLM makes of one candidate answer.

    Attributes:
        log_probs: log-probability of each of its tokens in nats, ``[L]``; NaN where the program made no numbers.
        greedy: the likeliest token in the place of each.
    """

    log_probs: NDArray[np.float32]
    greedy: list[int]


def score(
    llm: FrozenLLM, candidates: Sequence[EncodedCandidates], positions: Sequence[Sequence[Tensor]], rows: int
) -> list[list[CandidateScore]]:
    """The scores of all candidate answers of each ask; arguments as in `judge`."""
    tokens = torch.cat([torch.tensor(answer) for each in candidates for answer in each.answers])
    states = torch.cat([states for answers in positions for states in answers])
    log_probs, greedy = _read_out(llm, states, tokens.to(llm.device), rows)
    scores, at = [], 0
    for each in candidates:
        ends = at + np.cumsum([0, *map(len, each.answers)])
        parts = [slice(start, end) for start, end in pairwise(ends)]
        scores.append([CandidateScore(log_probs[part], greedy[part].tolist()) for part in parts])
        at = int(ends[-1])
    return scores


@torch.inference_mode()
def _read_out(llm: FrozenLLM, hidden: Tensor, gold: Tensor, rows: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """For each position ``[N, H]``: its gold token's log-probability in nats, and its likeliest token; ``[N]`` each."""
    log_probs, greedy = [], []
    for some, tokens in zip(hidden.split(rows), gold.split(rows), strict=True):
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
def pool(asks: Sequence[Tensor]) -> NDArray[np.float16]:
    """What an agent sees of asks' hidden states ``[1, T, H]`` each: see `Runner.observations`; ``[N, 2 H]``."""
    both = torch.stack([torch.stack([hidden[0, -1].float(), hidden[0].float().mean(0)]) for hidden in asks])
    both = both / both.pow(2).mean(-1, keepdim=True).sqrt().clamp(min=1e-6)  # [N, 2, H]
    both = both.nan_to_num(0.0, 0.0, 0.0)  # what a program spoils says nothing, but must not spoil a policy
    return both.flatten(1).cpu().numpy().astype(np.float16)


@torch.inference_mode()
def next_token_confidence(llm: FrozenLLM, hidden: Tensor, rows: int) -> NDArray[np.float32]:
    """How sure the LLM is of the token behind each position ``[N, H]``.

    Returns:
        ``[N, 3]``: probability of the likeliest token, its lead over the second one's, entropy in nats; where there are
        no numbers, 0, 0 and the largest entropy.
    """
    columns = []
    for some in hidden.split(rows):
        log_probs = llm.read_out(some).float().log_softmax(-1)  # [N, V]
        first, second = log_probs.topk(2, dim=-1).values.exp().unbind(-1)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        columns.append(torch.stack([first, first - second, entropy], dim=-1))
    confidence = torch.cat(columns)
    unsure = confidence.new_tensor([0.0, 0.0, math.log(llm.vocabulary_size)])
    return torch.where(confidence.isfinite().all(-1, keepdim=True), confidence, unsure).cpu().numpy()
