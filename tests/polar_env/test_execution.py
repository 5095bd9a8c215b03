"""The oracle: whatever we execute equals the re-stacked model that transformers builds and runs."""

from __future__ import annotations

import re

import pytest
import torch
from transformers import LlamaForCausalLM

from polar_env.errors import CacheError, ModelError, NonFiniteError, ProgramError
from polar_env.llm import FrozenLLM, as_model
from polar_env.program import Program
from polar_env.questions import load_questions
from polar_env.runner import generate
from tests.conftest import character_tokenizer, tiny_llama
from tests.models import FAMILIES, OTHERS, WINDOW, build, build_other
from tests.oracle import cached_logits_of, greedy_tokens, logits_of, restack

PROGRAMS = {
    "identity": (0, 1, 2, 3),
    "skip": (0, 1, 3),
    "skip layer 0": (1, 2, 3),
    "repeat a layer": (0, 1, 1, 2, 3),
    "repeat a module": (0, 1, 2, 1, 2, 3),
    "repeat the first": (0, 0, 1, 2, 3),
    "repeat the last": (0, 1, 2, 3, 3, 3),
    "any order": (2, 0, 3, 1),
    "one layer": (2,),
}
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}
ROWS, LENGTH = 3, 11
PIECES = [(0, 5), *((at, at + 1) for at in range(5, LENGTH))]
"""With a cache: five tokens at once, then one by one."""


def batch(padding: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Token ids and their mask, None without padding."""
    ids = torch.randint(3, 99, (ROWS, LENGTH), generator=torch.Generator().manual_seed(5))
    if padding == "none":
        return ids, None
    mask = torch.ones_like(ids)
    mask[1, slice(0, 4) if padding == "left" else slice(7, 11)] = 0
    return ids, mask


def in_pieces(llm: FrozenLLM, ids: torch.Tensor, programs: list[Program], mask: torch.Tensor | None) -> torch.Tensor:
    """Logits with a cache, some columns at a time."""
    cache = llm.new_cache(programs)
    made = [llm.logits(ids[:, a:b], programs, None if mask is None else mask[:, :b], cache) for a, b in PIECES]
    return torch.cat(made, dim=1)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_the_restacked_model(family: str, padding: str, attention: str, dtype: torch.dtype) -> None:
    """Every case alone, with cache and without, and all cases together in one batch."""
    model = build(family, dtype, attention)
    llm = FrozenLLM(model, character_tokenizer())
    ids, mask = batch(padding)
    seen = slice(None) if mask is None else mask.bool()
    close = {"rtol": 0, "atol": TOLERANCES[dtype]}
    if (attention, padding, dtype) == ("eager", "left", torch.float64):
        # Transformers itself makes NaN here (its softmax is in float32, where the mask's value is -inf): we say so.
        assert logits_of(restack(model, llm.identity), ids, mask)[seen].isnan().any()
        with pytest.raises(NonFiniteError, match="row 1"):
            llm.logits(ids, llm.identity, mask)
        return
    programs = [Program(layers) for layers in PROGRAMS.values()]
    twins = [restack(model, program) for program in programs]
    expected = [logits_of(twin, ids, mask) for twin in twins]
    # With a cache rows are compared with rows of the same lengths: eager attention rounds its softmax to float32, by
    # another bit where a processor's vectors are cut otherwise.
    cached = [cached_logits_of(twin, ids, mask, PIECES) for twin in twins]
    for name, program, logits, theirs in zip(PROGRAMS, programs, expected, cached, strict=True):
        assert logits[seen].isfinite().all()
        torch.testing.assert_close(llm.logits(ids, program, mask)[seen], logits[seen], **close, msg=name)
        ours = in_pieces(llm, ids, [program] * ROWS, mask)
        torch.testing.assert_close(ours[seen], theirs[seen], **close, msg=f"{name}, cached")
    for first in range(0, len(programs), ROWS):
        together = programs[first : first + ROWS]
        for ours, theirs in (
            (llm.logits(ids, together, mask), expected),
            (in_pieces(llm, ids, together, mask), cached),
        ):
            mixed = torch.stack([theirs[first + row][row] for row in range(ROWS)])
            torch.testing.assert_close(ours[seen], mixed[seen], **close)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_generate_of_the_restacked_model(family: str) -> None:
    """Prompts of three lengths, one of them alone and all together, each row under its own program."""
    model = build(family)
    llm = FrozenLLM(model, character_tokenizer())
    prompts = [[5, 17, 42, 8, 60, 33, 21, 9], [5, 17, 42], [5, 17, 42, 8, 61]]
    programs = [Program(layers) for layers in PROGRAMS.values()]
    expected = {(p, i): greedy_tokens(restack(model, p), prompts[i], 12) for p in programs for i in range(3)}
    for program in programs:
        alone = generate(llm, prompts[:1], program, max_new_tokens=12)[0]
        assert list(alone.tokens) == expected[program, 0]
    rows = [(p, i) for p in programs for i in range(3)]
    together = generate(llm, [prompts[i] for _, i in rows], [p for p, _ in rows], max_new_tokens=12)
    assert [list(one.tokens) for one in together] == [expected[row] for row in rows]


def test_rows_that_meet_at_a_layer_on_different_visits() -> None:
    """Row 3 comes to layer 0 for the second time, the others for the first: its slot is not their neighbour."""
    llm = FrozenLLM(build("llama", torch.float64), character_tokenizer())
    programs = [Program((3, 0)), Program((3, 0)), Program((3, 0)), Program((0, 3, 0)), Program((3, 0))]
    ids = torch.randint(3, 99, (5, LENGTH), generator=torch.Generator().manual_seed(5))
    logits = in_pieces(llm, ids, programs, None)
    for row, program in enumerate(programs):
        expected = cached_logits_of(restack(llm.model, program), ids[row : row + 1], None, PIECES)[0]
        torch.testing.assert_close(logits[row], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["llama", "gemma3", "phi3"])
@pytest.mark.parametrize("kept", [2, 100])
def test_a_prompt_cropped_to_any_length_goes_on_exactly(family: str, kept: int) -> None:
    llm = FrozenLLM(build(family, torch.float64), character_tokenizer())
    ids = torch.randint(3, 99, (2, 150), generator=torch.Generator().manual_seed(5))
    program = Program(PROGRAMS["repeat a module"])
    cache = llm.new_cache([program] * 2)
    llm.run(ids, program, cache)
    cache.crop(kept)
    went_on = torch.cat([llm.run(ids[:, at : at + 1], program, cache) for at in range(kept, kept + 20)], dim=1)
    expected = llm.run(ids[:, : kept + 20], program)[:, kept:]
    torch.testing.assert_close(went_on, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_cropped_cache_goes_on_as_if_nothing_had_been(family: str) -> None:
    llm = FrozenLLM(build(family, torch.float64), character_tokenizer())
    ids, _ = batch("none")
    programs = [Program(PROGRAMS[name]) for name in ("repeat a module", "skip", "any order")]
    cache = llm.new_cache(programs)
    llm.run(ids[:, :6], programs, cache)
    llm.run(ids[:, :3], programs, cache)
    cache.crop(6)
    assert cache.length == 6
    cropped = llm.run(ids[:, 6:], programs, cache)
    torch.testing.assert_close(cropped, llm.run(ids, programs)[:, 6:], rtol=0, atol=1e-9)
    with pytest.raises(CacheError, match="holds 11"):
        cache.crop(12)


def test_a_sliding_window_keeps_its_window_and_no_more() -> None:
    windowed, full = (FrozenLLM(build(family), character_tokenizer()) for family in ("mistral", "llama"))
    kept = []
    for llm in (windowed, full):
        cache = llm.new_cache([llm.identity])
        for _ in range(220):
            llm.run(torch.tensor([[5]]), llm.identity, cache)
        kept.append(cache.nbytes)
        assert cache.length == 220
    per_token = 2 * 4 * 2 * 8 * 4  # keys and values, layers, heads, head width, bytes
    assert kept[0] <= (2 * 64 + 2 * WINDOW) * per_token < 220 * per_token <= kept[1]


def test_a_window_can_be_cropped_as_far_as_it_keeps_tokens() -> None:
    """One token less is refused, and what goes on from the last one that is allowed is exact."""
    llm = FrozenLLM(build("mistral", torch.float64), character_tokenizer())
    ids = torch.randint(3, 99, (1, 200), generator=torch.Generator().manual_seed(5))
    cache = llm.new_cache([llm.identity])
    for at in range(180):
        llm.run(ids[:, at : at + 1], llm.identity, cache)
    with pytest.raises(CacheError, match="sliding windows") as refused:
        cache.crop(10)
    least = int(re.findall(r"\d+", str(refused.value))[1])
    with pytest.raises(CacheError, match="sliding windows"):
        cache.crop(least - 1)
    cache.crop(least)
    went_on = llm.run(ids[:, least:190], llm.identity, cache)
    expected = llm.run(ids[:, :190], llm.identity)[:, least:]
    torch.testing.assert_close(went_on, expected, rtol=0, atol=1e-9)


def test_rows_of_a_cache_are_kept_and_doubled() -> None:
    llm = FrozenLLM(build("llama", torch.float64), character_tokenizer())
    ids, _ = batch("none")
    programs = [Program(PROGRAMS[name]) for name in ("repeat the last", "one layer", "any order")]
    cache = llm.new_cache(programs)
    llm.run(ids[:, :8], programs, cache)
    chosen = [2, 0, 0]
    cache.select(chosen)
    kept = [programs[row] for row in chosen]
    assert list(cache.programs) == kept
    went_on = llm.run(ids[chosen][:, 8:], kept, cache)
    torch.testing.assert_close(went_on, llm.run(ids[chosen], kept)[:, 8:], rtol=0, atol=1e-9)


def test_the_model_itself_stays_untouched(tiny_llm: FrozenLLM) -> None:
    ids = torch.randint(3, 99, (2, 7))
    before = logits_of(tiny_llm.model, ids)
    tiny_llm.logits(ids, Program((3, 3, 0)))
    assert torch.equal(before, logits_of(tiny_llm.model, ids))
    assert len(tiny_llm.model.model.layers) == tiny_llm.depth


def test_bad_input_is_named(tiny_llm: FrozenLLM) -> None:
    ids = torch.tensor([[5, 6], [7, 8]])
    with pytest.raises(ProgramError, match="layer 4 is out of range: the model has 4 layers"):
        tiny_llm.logits(ids, Program((0, 4)))
    with pytest.raises(ProgramError, match="2 rows but 3 programs"):
        tiny_llm.logits(ids, [tiny_llm.identity] * 3)
    with pytest.raises(CacheError, match="other programs"):
        tiny_llm.run(ids, Program((0, 1)), tiny_llm.new_cache([tiny_llm.identity] * 2))


def test_the_layer_that_makes_nan_is_named() -> None:
    model = tiny_llama()
    llm = FrozenLLM(model, character_tokenizer())
    model.model.layers[2].mlp.down_proj.weight.data[0, 0] = float("inf")
    ids, mask = batch("right")
    assert llm.logits(ids, Program((0, 1, 3)), mask).isfinite().all()
    programs = [Program((0, 1, 3)), Program((3, 3, 3, 2)), Program((0, 1, 3))]
    with pytest.raises(NonFiniteError, match=r"position 3 \(layer 2\) of row 1"):
        llm.logits(ids, programs, mask)
    with pytest.raises(NonFiniteError, match=r"position 1 \(layer 2\) of row 0"):
        generate(llm, ["ab"], Program((1, 2)))


def test_models_that_cannot_be_executed_are_refused_with_the_reason() -> None:
    import transformers as hf

    tokenizer = character_tokenizer()
    t5 = hf.T5Config(vocab_size=99, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=2)
    with pytest.raises(ModelError, match="decoder-only"):
        FrozenLLM(hf.T5ForConditionalGeneration(t5), tokenizer)
    mamba = hf.MambaConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, state_size=4)
    with pytest.raises(ModelError, match="only attention layers"):
        FrozenLLM(hf.MambaForCausalLM(mamba), tokenizer)
    gemma3n = hf.Gemma3nTextConfig(
        vocab_size=99, vocab_size_per_layer_input=99, hidden_size=32, hidden_size_per_layer_input=8, laurel_rank=4,
        intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        num_kv_shared_layers=2, layer_types=["sliding_attention", "full_attention"] * 2,
    )  # fmt: skip
    with pytest.raises(ModelError, match="shares key and value caches"):
        FrozenLLM(hf.Gemma3nForCausalLM(gemma3n), tokenizer)
    gpt2 = hf.GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=2, add_cross_attention=True, is_decoder=True)
    with pytest.raises(ModelError, match="attends to an encoder"):
        FrozenLLM(hf.GPT2LMHeadModel(gpt2), tokenizer)


def test_an_attention_implementation_that_cannot_take_the_cache_is_refused() -> None:
    model = tiny_llama()
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(ModelError, match=r"'flex_attention' cannot take .* attn_implementation='sdpa'"):
        FrozenLLM(model, character_tokenizer())


def test_a_model_that_is_more_than_its_layers_is_refused() -> None:
    """A model that feeds its layers' output through them again: programs of its layers would mean something else."""

    class Looped(LlamaForCausalLM):
        def forward(self, input_ids: torch.Tensor, **kwargs: object) -> object:
            hidden = self.model(input_ids=input_ids, **kwargs).last_hidden_state
            return super().forward(inputs_embeds=hidden, **kwargs)

    with pytest.raises(ModelError, match="not just its layers"):
        FrozenLLM(Looped(tiny_llama().config), character_tokenizer())


@pytest.mark.parametrize("name", OTHERS)
def test_other_decoders_work_by_themselves(name: str) -> None:
    """Families that nobody has prepared for: positional arguments, tuples as outputs, rows and heads in one axis."""
    llm = FrozenLLM(build_other(name), character_tokenizer())
    ids, mask = batch("left")
    assert mask is not None
    programs = [Program((0, 2, 3)), Program((1, 1, 2, 0)), llm.identity]
    expected = [logits_of(as_model(llm, program), ids, mask) for program in programs]
    for program, logits in zip(programs, expected, strict=True):
        torch.testing.assert_close(llm.logits(ids, program, mask)[mask.bool()], logits[mask.bool()], rtol=0, atol=1e-4)
        cached = cached_logits_of(as_model(llm, program), ids, mask, PIECES)
        ours = in_pieces(llm, ids, [program] * ROWS, mask)
        torch.testing.assert_close(ours[mask.bool()], cached[mask.bool()], rtol=0, atol=1e-4)
    mixed = torch.stack([expected[row][row] for row in range(ROWS)])
    torch.testing.assert_close(llm.logits(ids, programs, mask)[mask.bool()], mixed[mask.bool()], rtol=0, atol=1e-4)
    prompts = [
        [5, 17, 42, 8, 60],
        [5, 17, 42],
        [5, 17, 9, 9, 9, 61],
    ]  # they begin alike: what is shared must not matter
    written = generate(llm, prompts, programs[0], max_new_tokens=6)
    for prompt, one in zip(prompts, written, strict=True):
        assert list(one.tokens) == greedy_tokens(as_model(llm, programs[0]), prompt, 6)


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_padding_between_tokens_is_refused_where_a_window_would_count_it(family: str) -> None:
    llm = FrozenLLM(build(family), character_tokenizer())
    ids, mask = batch("right")
    assert mask is not None
    longer = torch.cat([mask, torch.ones(ROWS, 1, dtype=torch.long)], dim=1)
    with pytest.raises(ModelError, match="Pad on the left"):
        llm.logits(torch.cat([ids, ids[:, :1]], dim=1), llm.identity, longer)
    assert FrozenLLM(build("llama"), character_tokenizer()).allows_gaps


def test_fingerprints_tell_models_apart() -> None:
    first, same, other = (FrozenLLM(tiny_llama(seed=s), character_tokenizer()) for s in (0, 0, 1))
    assert first.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.smollm2
@pytest.mark.parametrize("case", ["identity", "skip", "skip layer 0", "repeat a module", "any order"])
def test_smollm2_equals_the_restacked_model(smollm2: FrozenLLM, case: str) -> None:
    layers = {
        "identity": tuple(range(30)),
        "skip": (*range(8), *range(9, 30)),
        "skip layer 0": tuple(range(1, 30)),
        "repeat a module": (*range(8), 5, 6, 7, *range(8, 30)),
        "any order": (*range(10), 12, 11, 10, *range(13, 30)),
    }[case]
    model, program = smollm2.model, Program(layers)
    ids = torch.randint(3, 49000, (2, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :9] = 0
    reference = model if case == "identity" else restack(model, program)
    difference = smollm2.logits(ids, program, mask) - logits_of(reference, ids, mask)
    assert difference[mask.bool()].abs().max() < 1e-4
    ids, mask = ids[:, :LENGTH], mask[:, :LENGTH]
    cached = in_pieces(smollm2, ids, [program] * 2, mask) - cached_logits_of(reference, ids, mask, PIECES)
    assert cached[mask.bool()].abs().max() < 1e-4
    prompts = [ids[1].tolist(), ids[1, :7].tolist()]
    written = generate(smollm2, prompts, program, max_new_tokens=8)
    assert [list(one.tokens) for one in written] == [greedy_tokens(reference, prompt, 8) for prompt in prompts]


@pytest.mark.smollm2
def test_smollm2_identity_makes_the_same_greedy_tokens_on_50_prompts(smollm2: FrozenLLM) -> None:
    questions = load_questions(["arithmetic"], "test")[::11][:50]
    prompts = [smollm2.tokenizer(f"Question: {question.text}\nAnswer:").input_ids for question in questions]
    written = [
        one
        for i in range(0, 50, 25)
        for one in generate(smollm2, prompts[i : i + 25], smollm2.identity, max_new_tokens=10)
    ]
    for prompt, one in zip(prompts, written, strict=True):
        assert list(one.tokens) == greedy_tokens(smollm2.model, prompt, 10)


@pytest.mark.gemma3
def test_gemma3_270m_equals_the_restacked_model(gemma3_270m: FrozenLLM) -> None:
    """Sliding and full layers for real: a sequence longer than the window of 512, a program that mixes both kinds."""
    program = Program((0, *range(2, 12), 10, 11, *range(12, 18), 17))
    twin = restack(gemma3_270m.model, program)
    ids = torch.randint(3, 200_000, (1, 560), generator=torch.Generator().manual_seed(0))
    cache = gemma3_270m.new_cache([program])
    states = [gemma3_270m.run(piece, program, cache)[:, -4:] for piece in (ids[:, :556], ids[:, 556:])]
    logits = gemma3_270m.read_out(torch.cat(states, dim=1)[0])
    expected = cached_logits_of(twin, ids, None, [(0, 556), (556, 560)])[0, -8:]
    assert (logits - expected).abs().max() < 1e-4
    prompt = ids[0, :14].tolist()
    written = generate(gemma3_270m, [prompt, prompt[:9]], program, max_new_tokens=6)
    assert list(written[0].tokens) == greedy_tokens(twin, prompt, 6)
