"""The logit lens (nostalgebraist 2020): what the LLM would say next, had it stopped after each layer of a program.

Letters: ``K`` positions of a program, ``N`` tokens shown of each.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from polar_env.program import Program
from polar_env.questions import Ask, Prompt
from polar_env.runner.encoding import Text
from polar_env.runner.prefixes import prefix_of
from polar_env.runtime import torch_threads

if TYPE_CHECKING:
    from polar_env.runner.asks import AskRunner

__all__ = ["Lens", "logit_lens"]


@dataclass(frozen=True)
class Lens:
    """The likeliest next tokens after each position of a program.

    Attributes:
        layers: the layer executed at each position, ``K``.
        tokens: the likeliest next tokens after it, the likeliest first, ``[K][N]``.
        probabilities: their probabilities, ``float32 [K, N]``; NaN where a program made no numbers.
    """

    layers: tuple[int, ...]
    tokens: tuple[tuple[str, ...], ...]
    probabilities: NDArray[np.float32]


def logit_lens(
    runner: AskRunner, ask: Ask, prompt: Prompt, program: Program, top: int = 5, written: Sequence[int] = ()
) -> Lens:
    """Execute a program on an ask and read out after each of its positions: last norm and head, on the last token.

    Args:
        runner: executes.
        ask: the ask.
        prompt: its prompt.
        program: the program.
        top: tokens shown of each position, ``N``.
        written: tokens of the answer that stand behind the ask already.

    Raises:
        ProgramError: if the program does not fit the model.
        QuestionTooLongError: if the ask does not fit the model's context.
    """
    started = time.perf_counter()
    layers = program.check(runner.llm.depth).layers
    asked = runner.encode_ask(ask, prompt).text
    text = Text(torch.tensor([list(written)]), asked, role="answer") if written else asked
    prefixes = [prefix_of(layers[:end]) for end in range(1, len(layers) + 1)]
    execution = runner.execute([(text, prefix) for prefix in prefixes])
    last = torch.stack([execution.hidden[text.id, prefix][0, -1] for prefix in prefixes])  # [K, H]
    with torch_threads(runner.threads), torch.inference_mode():
        likeliest = runner.llm.read_out(last).float().softmax(-1).topk(top, dim=-1)
    decode = runner.llm.tokenizer.decode
    tokens = tuple(tuple(str(decode([token])) for token in row) for row in likeliest.indices.tolist())
    runner.stats.seconds += time.perf_counter() - started
    return Lens(layers, tokens, likeliest.values.cpu().numpy())
