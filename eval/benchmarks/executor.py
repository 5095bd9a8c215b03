"""``polar bench executor``: verdicts a second beside the peers' way, and beside what matrix products alone would cost.

The peers' way: one program at a time, one question at a time, decoding 15 new tokens with ``generate`` of the
re-stacked model.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from transformers import DynamicCache

from eval.benchmarks.figures import Figures
from eval.benchmarks.machine import peak_rss_gib
from eval.benchmarks.roofline import Roofline
from polar_env.llm import FrozenLLM, as_model
from polar_env.program import Program, single_edits
from polar_env.questions import Question
from polar_env.runner import Runner
from polar_env.runner.encoding import EncodedQuestion
from polar_env.worlds import LiveWorld

__all__ = ["NEW_TOKENS", "ExecutorBenchmark", "measure_executor", "restacked_verdicts"]

NEW_TOKENS = 15
"""Tokens that the peers decode to get one verdict."""
_PARTS = 6
"""The work is cut into parts, and the references are measured between them, since machines change their speed."""
_BFLOAT16_QUESTIONS, _BFLOAT16_ALONE = 16, 24
"""Questions that run in bfloat16, too, and verdicts that run there alone: few, since many CPUs emulate it slowly."""

Pairs = list[tuple[Question, Program]]


@dataclass(frozen=True)
class ExecutorBenchmark(Figures):
    """What verdicts cost.

    Attributes:
        verdicts_per_second: of the world, from nothing.
        ratio_to_generate: times as fast as the peers' way, decoding all 15 tokens.
        ratio_to_ended: the same where decoding may end at an end-of-text token.
        roofline_share: time of the matrix products of the layer executions really done, over the time taken.
        gflops: billions of such floating-point operations a second.
        roofline_gflops: those of the matrix products alone.
        sharing: tokens through layers had each pair been executed alone, over those really done.
        verdicts: how many verdicts were timed.
        generate_samples: how many of them were decoded for comparison.
        wrong_verdicts: verdicts that differ from the re-stacked model's.
        checked_verdicts: how many were compared.
        peak_rss_gib: the most resident memory of the process until the world was done, with weights and libraries.
        bfloat16_ratio: rate in bfloat16 over that in float32, one run each after the other, every sixth
            program on the first 16 questions; None where the model is not in float32.
        bfloat16_disagreement: share of those verdicts that differ from the float32 ones.
        bfloat16_unstable: share of about 24 of those verdicts that change when each pair is executed alone.
    """

    verdicts_per_second: float
    ratio_to_generate: float
    ratio_to_ended: float
    roofline_share: float
    gflops: float
    roofline_gflops: float
    sharing: float
    verdicts: int
    generate_samples: int
    wrong_verdicts: int
    checked_verdicts: int
    peak_rss_gib: float
    bfloat16_ratio: float | None
    bfloat16_disagreement: float | None
    bfloat16_unstable: float | None


def measure_executor(
    world: LiveWorld,
    questions: Sequence[Question],
    programs: int = 0,
    check: int = 24,
    note: Callable[[str], None] = lambda _: None,
) -> ExecutorBenchmark:
    """Time the identity and its single edits on some questions.

    Args:
        world: measured from nothing.
        questions: each runs under all programs.
        programs: use this many programs, evenly spread; 0 uses all.
        check: verdicts of this many programs are compared with the re-stacked model's; 0 compares all.
        note: told what has been measured.
    """
    llm = world.llm
    chosen = _spread([llm.identity, *single_edits(llm.identity)], programs)
    parts = [chosen[i::_PARTS] for i in range(_PARTS) if chosen[i::_PARTS]]
    roofline, before = Roofline(llm), world.stats.copy()
    right: dict[tuple[str, Program], bool] = {}
    decoding, ending = [], []
    world.verdicts([(question, llm.identity) for question in questions])  # both warm up
    _seconds_to_generate(llm, llm.identity, _encoded(world, questions[0]))
    with world.from_nothing():
        before = world.stats.copy()
        for number, part in enumerate(parts):
            calls = world.stats.copy().calls
            pairs = [(question, program) for question in questions for program in part]
            verdicts = world.verdicts(pairs)
            right |= {(q.id, p): verdict.right for (q, p), verdict in zip(pairs, verdicts, strict=True)}
            roofline.measure(world.stats.calls - calls)
            for program in (part[0], part[-1]):
                encoded = _encoded(world, questions[number % len(questions)])
                decoding.append(_seconds_to_generate(llm, program, encoded, min_new_tokens=NEW_TOKENS))
                ending.append(_seconds_to_generate(llm, program, encoded))
            note(f"part {number + 1} of {len(parts)}: {len(pairs)} verdicts")
    done, peak = world.stats.since(before), peak_rss_gib()
    rate, flops = done.verdicts / done.seconds, roofline.flops(done.calls)
    note(f"{rate:.1f} verdicts/s; one takes the peers {mean(decoding):.2f} s, {mean(ending):.2f} s where it may end")
    checked = _spread(chosen, check)
    truth = restacked_verdicts(world, [q for q in questions if not q.choices], checked, note)
    bfloat16 = _compare_bfloat16(world, questions, parts[0], note) if llm.dtype is torch.float32 else (None,) * 3
    return ExecutorBenchmark(
        verdicts_per_second=rate,
        ratio_to_generate=rate * mean(decoding),
        ratio_to_ended=rate * mean(ending),
        roofline_share=roofline.share(done.calls, done.seconds),
        gflops=flops / done.seconds / 1e9,
        roofline_gflops=roofline.rate / 1e9,
        sharing=done.sharing,
        verdicts=done.verdicts,
        generate_samples=len(decoding),
        wrong_verdicts=sum(right[key] != verdict for key, verdict in truth.items()),
        checked_verdicts=len(truth),
        peak_rss_gib=peak,
        bfloat16_ratio=bfloat16[0],
        bfloat16_disagreement=bfloat16[1],
        bfloat16_unstable=bfloat16[2],
    )


def _encoded(world: LiveWorld, question: Question) -> EncodedQuestion:
    return world.runner.encode(question, world.prompts[question.task])


def _beside(llm: FrozenLLM, world: LiveWorld) -> LiveWorld:
    """A world of the same prompts, with half of the memory."""
    return LiveWorld(Runner(llm, world.runner.memory_bytes // 2, threads=world.runner.threads), world.prompts)


def _spread(programs: list[Program], count: int) -> list[Program]:
    """``count`` of the programs, evenly spread, the first among them; all where ``count`` is 0 or larger."""
    if not 0 < count < len(programs):
        return programs
    return [programs[i * len(programs) // count] for i in range(count)]


@torch.inference_mode()
def _seconds_to_generate(llm: FrozenLLM, program: Program, question: EncodedQuestion, **options: Any) -> float:
    """Seconds that plain transformers take to decode one answer under the re-stacked model."""
    ids = question.ask.tokens[None].to(llm.device)
    generate: Any = as_model(llm, program).generate
    started = time.perf_counter()
    mask = torch.ones_like(ids)
    generate(ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0, **options)
    return time.perf_counter() - started


@torch.inference_mode()
def restacked_verdicts(
    world: LiveWorld,
    questions: Sequence[Question],
    programs: Sequence[Program],
    note: Callable[[str], None] = lambda _: None,
) -> dict[tuple[str, Program], bool]:
    """Which programs are right for which open questions, according to plain transformers and re-stacked models.

    Questions of one length run as one batch behind the shared prompt, in transformers' own cache.
    """
    encoded = {question.id: _encoded(world, question) for question in questions}
    right: dict[tuple[str, Program], bool] = {}
    for number, program in enumerate(programs):
        model: Any = as_model(world.llm, program)
        for shape in sorted({_shape(each) for each in encoded.values()}):
            batch = {name: each for name, each in encoded.items() if _shape(each) == shape}
            asks, cache = [each.ask.text for each in batch.values()], DynamicCache()
            if asks[0].context is not None:
                model(input_ids=asks[0].context.rows.to(world.llm.device), past_key_values=cache, use_cache=True)
                cache.batch_repeat_interleave(len(batch))
            rows = torch.cat([each.gold_row[None, each.ask.text.past :] for each in batch.values()])
            output = model(input_ids=rows.to(world.llm.device), past_key_values=cache, use_cache=True)
            greedy = output.logits.argmax(-1).tolist()
            for (name, each), tokens in zip(batch.items(), greedy, strict=True):
                start, answer = each.ask.text.length - 1, list(each.answers[0])
                right[name, program] = tokens[start : start + len(answer)] == answer
        if number % 20 == 19:
            note(f"re-stacked models: {number + 1} of {len(programs)} programs")
    return right


def _compare_bfloat16(
    world: LiveWorld, questions: Sequence[Question], programs: list[Program], note: Callable[[str], None]
) -> tuple[float, float, float]:
    """Rate over float32's, share of verdicts that differ from float32's, share that depends on the batch."""
    llm = world.llm
    model: Any = copy.deepcopy(llm.model).to(torch.bfloat16)
    rounded = FrozenLLM(model, llm.tokenizer, llm.name)
    pairs = [(question, program) for question in questions[:_BFLOAT16_QUESTIONS] for program in programs]
    rates, right = [], []
    for each in (llm, rounded):
        one = _beside(each, world)
        one.verdicts(pairs[:1])
        one.runner.clear()
        before = one.stats.copy()
        right.append([verdict.right for verdict in one.verdicts(pairs)])
        done = one.stats.since(before)
        rates.append(done.verdicts / done.seconds)
    alone = _beside(rounded, world)
    sample = range(0, len(pairs), max(1, len(pairs) // _BFLOAT16_ALONE))
    changed = [alone.verdicts([pairs[i]])[0].right != right[1][i] for i in sample]
    note(f"bfloat16: {rates[1]:.1f} verdicts/s beside {rates[0]:.1f} in float32")
    differ = [a != b for a, b in zip(*right, strict=True)]
    return rates[1] / rates[0], mean(differ), mean(changed)


def _shape(question: EncodedQuestion) -> tuple[int, int]:
    """Tokens before the ask, and of ask and gold answer."""
    return question.ask.text.past, len(question.gold_row)
