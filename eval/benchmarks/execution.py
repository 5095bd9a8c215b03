"""``polar bench execution``: does running programs cost more than their layers do?

Everything is a ratio to a reference in the same run: transformers' own forward and generate for the identity, the
identity for shorter programs, one row after the other for mixed batches.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from eval.benchmarks.answering import FEW_SHOT_ASKS, POLICY_ASKS, few_shot_generate_ratio, policy_overhead_ratio
from eval.benchmarks.figures import Figures
from eval.benchmarks.roofline import Roofline
from eval.benchmarks.timing import best_seconds, time_ratio
from polar_env.errors import ModelError
from polar_env.llm import FrozenLLM
from polar_env.program import Program, single_edits
from polar_env.questions import Question
from polar_env.runner import generate
from polar_env.worlds import LiveWorld

__all__ = ["ExecutionBenchmark", "measure_execution"]

SIZES = ((1, 64), (1, 512), (8, 64), (8, 512))
"""Rows and prompt tokens."""
NEW_TOKENS = 16
PREFILL_SHARES, GENERATE_SHARES = (0.25, 0.5, 0.75), (0.25, 0.5)
"""Layers of shorter programs, as a share of all."""
MIXED_ROWS = 32


@dataclass(frozen=True)
class ExecutionBenchmark(Figures):
    """What running programs costs beside its references.

    Attributes:
        identity_prefill_ratio: time of the identity over transformers' forward with a cache, worst over the sizes.
        identity_generate_ratio: the same for ``generate``.
        program_time_excess: time of a program of K of D layers over the identity's, minus K/D; worst over prefill and
            generation, K of a quarter and a half of D, for one row of each length.
        prefill_time_excess: the same for prefill alone, three quarters of D and all sizes but the largest as well.
        head_share: share of the identity's time for one token that the final norm and the head take, which no program
            can skip: a lower bound of what a very short program costs in decoding.
        mixed_rows_speedup: 32 rows of 32 programs one by one, over all in one batch.
        mixed_rows_same_tokens: share of those rows whose tokens are the same both ways.
        few_shot_generate_ratio: 32 asks behind the prompt's worked examples, answered in one batch, over executing the
            whole prompt for each of them alone; None where the prompt has no examples.
        policy_overhead_ratio: choosing a program layer by layer with a policy and answering under it, over answering
            with the identity; the policy spells the identity, so both execute the same layers, one ask at a time.
        memory_growth: resident memory after all short generations over that after the first tenth, minus 1.
        generations: how many generations that was.
        prefill_tokens_per_second: of the identity, at the largest size.
        roofline_share: time of the matrix products of its layers alone, over the time taken.
        prefill_ratios: for each size, ``rows x tokens``.
        generate_ratios: for each size.
        threads: torch's threads.
    """

    identity_prefill_ratio: float
    identity_generate_ratio: float
    program_time_excess: float
    prefill_time_excess: float
    head_share: float
    mixed_rows_speedup: float
    mixed_rows_same_tokens: float
    few_shot_generate_ratio: float | None
    policy_overhead_ratio: float
    memory_growth: float
    generations: int
    prefill_tokens_per_second: float
    roofline_share: float
    prefill_ratios: dict[str, float]
    generate_ratios: dict[str, float]
    threads: int


def measure_execution(
    world: LiveWorld,
    questions: Sequence[Question],
    seconds: float = 4.0,
    generations: int = 1000,
    note: Callable[[str], None] = lambda _: None,
) -> ExecutionBenchmark:
    """Measure everything; some minutes for a small model on a CPU.

    Args:
        world: gives the model and the prompt.
        questions: what is asked behind the prompt's worked examples.
        seconds: about how long each ratio is measured.
        generations: how many short generations look for growing memory.
        note: told what has been measured.
    """
    asks = [question.ask for question in questions]
    few_shot = few_shot_generate_ratio(world, asks[:FEW_SHOT_ASKS], seconds) if world.prompts.examples else None
    note(f"{FEW_SHOT_ASKS} asks behind worked examples: {few_shot} of the time of the whole prompt for each")
    overhead = policy_overhead_ratio(world, asks[:POLICY_ASKS], 4 * seconds)  # it is near 1, so noise shows
    note(f"choosing and answering with a policy: {overhead:.3f} of answering with the identity")
    with _endless(world.llm):
        return _measure(world.llm, seconds, generations, note, few_shot, overhead)


@contextmanager
def _endless(llm: FrozenLLM) -> Iterator[None]:
    """Without end-of-text tokens, so that all rows write equally much."""
    config = llm.model.generation_config
    if config is None:
        raise ModelError(f"{type(llm.model).__name__} has no generation configuration, so it cannot generate.")
    before = config.eos_token_id
    config.eos_token_id = [-1]
    vars(llm).pop("end_tokens", None)
    try:
        yield
    finally:
        config.eos_token_id = before
        vars(llm).pop("end_tokens", None)


def _measure(
    llm: FrozenLLM,
    seconds: float,
    generations: int,
    note: Callable[[str], None],
    few_shot: float | None,
    overhead: float,
) -> ExecutionBenchmark:
    sizes = [size for size in SIZES if size[1] + NEW_TOKENS <= llm.context_length]
    prefill, generation = {}, {}
    for rows, tokens in sizes:
        ids, size = _random_ids(llm, rows, tokens), f"{rows} x {tokens}"
        prefill[size] = time_ratio(_our_prefill(llm, ids, llm.identity), _their_prefill(llm, ids), seconds)
        note(f"prefill {size}: {prefill[size]:.3f} of transformers' time")
        generation[size] = time_ratio(_our_generate(llm, ids, llm.identity), _their_generate(llm, ids), seconds)
        note(f"generate {size}: {generation[size]:.3f} of transformers' time")
    prefill_excess = max(_excess(llm, _our_prefill, size, PREFILL_SHARES, seconds, note) for size in sizes[:3])
    generate_excess = max(_excess(llm, _our_generate, size, GENERATE_SHARES, seconds, note) for size in sizes[:2])
    head_share = _head_share(llm)
    note(f"final norm and head: {head_share:.3f} of the time of a token")
    speedup, same = _mixed_rows(llm, seconds)
    note(
        f"{MIXED_ROWS} rows of {MIXED_ROWS} programs: {speedup:.2f} times as fast as one by one, {same:.0%} same tokens"
    )
    tokens = sizes[-1][0] * sizes[-1][1]
    took = best_seconds(_our_prefill(llm, _random_ids(llm, *sizes[-1]), llm.identity), 3)
    roofline, calls = Roofline(llm), Counter({tokens: llm.depth})
    roofline.measure(calls)
    growth = _memory_growth(llm, generations)
    note(f"memory after {generations} generations: {growth:+.2%}")
    return ExecutionBenchmark(
        identity_prefill_ratio=max(prefill.values()),
        identity_generate_ratio=max(generation.values()),
        program_time_excess=max(prefill_excess, generate_excess),
        prefill_time_excess=prefill_excess,
        head_share=head_share,
        mixed_rows_speedup=speedup,
        mixed_rows_same_tokens=same,
        few_shot_generate_ratio=few_shot,
        policy_overhead_ratio=overhead,
        memory_growth=growth,
        generations=generations,
        prefill_tokens_per_second=tokens / took,
        roofline_share=roofline.share(calls, took),
        prefill_ratios=prefill,
        generate_ratios=generation,
        threads=torch.get_num_threads(),
    )


def _random_ids(llm: FrozenLLM, rows: int, tokens: int) -> Tensor:
    stream = torch.Generator().manual_seed(0)
    return torch.randint(0, llm.vocabulary_size, (rows, tokens), generator=stream).to(llm.device)


def _our_prefill(llm: FrozenLLM, ids: Tensor, program: Program) -> Callable[[], object]:
    return lambda: llm.read_out(llm.run(ids, program)[:, -1]).argmax(-1).tolist()


def _their_prefill(llm: FrozenLLM, ids: Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return llm.model(input_ids=ids, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1).tolist()

    return run


def _our_generate(llm: FrozenLLM, ids: Tensor, program: Program) -> Callable[[], object]:
    prompts = ids.tolist()
    return lambda: generate(llm, prompts, program, max_new_tokens=NEW_TOKENS)


def _their_generate(llm: FrozenLLM, ids: Tensor) -> Callable[[], object]:
    theirs: Any = llm.model.generate
    return lambda: theirs(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False).tolist()


def _excess(
    llm: FrozenLLM,
    work: Callable[[FrozenLLM, Tensor, Program], Callable[[], object]],
    size: tuple[int, int],
    shares: Sequence[float],
    seconds: float,
    note: Callable[[str], None],
) -> float:
    """Worst time share of shorter programs minus their share of the layers."""
    rows, tokens = size
    ids, worst = _random_ids(llm, rows, tokens), -1.0
    for share in shares:
        program = Program(tuple(range(max(1, round(share * llm.depth)))))
        time_share = time_ratio(work(llm, ids, program), work(llm, ids, llm.identity), seconds / 2)
        excess = time_share - program.cost(llm.depth)
        name = work.__name__.removeprefix("_our_")
        note(f"{name} {rows} x {tokens}, {len(program)} of {llm.depth} layers: {time_share:.3f}, {excess:+.3f}")
        worst = max(worst, excess)
    return worst


def _head_share(llm: FrozenLLM) -> float:
    ids = _random_ids(llm, 1, 1)
    hidden = llm.run(ids, llm.identity)[:, -1]
    head = best_seconds(lambda: llm.read_out(hidden), 20)
    return head / best_seconds(lambda: llm.read_out(llm.run(ids, llm.identity)[:, -1]), 20)


def different_programs(llm: FrozenLLM, count: int) -> list[Program]:
    """Distinct programs, one to three random edits away from the identity (skips and repeats of 1 to 4 layers)."""
    rng = np.random.default_rng(0)
    programs: dict[Program, None] = {}
    while len(programs) < count:
        program = llm.identity
        for _ in range(rng.integers(1, 4)):
            edits = list(single_edits(program))
            program = edits[rng.integers(len(edits))]
        programs[program] = None
    return list(programs)


def _mixed_rows(llm: FrozenLLM, seconds: float) -> tuple[float, float]:
    """Speed-up of a batch of different programs over one row after the other; share of rows with the same tokens."""
    programs = different_programs(llm, MIXED_ROWS)
    prompts: Sequence[list[int]] = _random_ids(llm, MIXED_ROWS, 64).tolist()
    tokens: dict[str, list[tuple[int, ...]]] = {}

    def together() -> None:
        tokens["together"] = [g.tokens for g in generate(llm, prompts, programs, max_new_tokens=NEW_TOKENS)]

    def one_by_one() -> None:
        tokens["one by one"] = [
            generate(llm, [prompt], program, max_new_tokens=NEW_TOKENS)[0].tokens
            for prompt, program in zip(prompts, programs, strict=True)
        ]

    ratio = time_ratio(together, one_by_one, seconds)
    same = np.mean([a == b for a, b in zip(tokens["together"], tokens["one by one"], strict=True)])
    return 1 / ratio, float(same)


def _memory_growth(llm: FrozenLLM, generations: int) -> float:
    """Growth of the memory in use between the first tenth of many short generations and their end.

    Programs of every fourth layer alone: what matters here is how many generations there are, not how long they take.
    """
    programs = [Program(program.layers[::4]) for program in different_programs(llm, 8)]
    prompts = [_random_ids(llm, 1, length)[0].tolist() for length in (5, 9, 16)]
    warm = 0
    for number in range(generations):
        generate(llm, [prompts[number % 3]], programs[number % 8], max_new_tokens=2)
        if number == generations // 10:
            warm = _memory_in_use(llm)
    return _memory_in_use(llm) / warm - 1


def _memory_in_use(llm: FrozenLLM) -> int:
    gc.collect()
    return torch.cuda.memory_allocated() if llm.device.type == "cuda" else psutil.Process().memory_info().rss
