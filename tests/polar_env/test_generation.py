"""Generation: rows do not know of each other, and everything it says about itself is true."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from polar_env.errors import ConfigError, ProgramError, QuestionTooLongError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.runner import generate
from polar_env.runner.decoding import _Row
from tests.conftest import character_tokenizer, tiny_llama
from tests.models import build

PROGRAMS = [Program((0, 1, 2, 3)), Program((0, 3)), Program((0, 1, 1, 2, 3)), Program((0, 1, 2, 3)), Program((2, 0))]
PROMPTS = ["Add 1 and 2:", "Add 1", "Add 1 and", "Add 1 and 3: the", "Add."]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "top_p": 0.9, "seed": 3}])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_row_is_the_same_alone_and_in_a_batch(family: str, sampling: dict[str, float]) -> None:
    """Prompts of different length that begin alike, some under the same program, ending at different times."""
    llm = FrozenLLM(build(family, torch.float64), character_tokenizer())
    free = generate(llm, PROMPTS, PROGRAMS, max_new_tokens=15, **sampling)
    stop = [free[0].text[5], free[1].text[9]]
    together = generate(llm, PROMPTS, PROGRAMS, max_new_tokens=15, stop=stop, **sampling)
    assert len({len(one.tokens) for one in together}) > 1
    for row, (prompt, program) in enumerate(zip(PROMPTS, PROGRAMS, strict=True)):
        seeded = sampling | {"seed": sampling["seed"] + row} if sampling else {}
        alone = generate(llm, [prompt], program, max_new_tokens=15, stop=stop, **seeded)[0]
        assert alone.tokens == together[row].tokens
        assert alone.text == together[row].text
        assert alone.log_probs == pytest.approx(together[row].log_probs, abs=1e-5)


def test_what_it_says_of_itself(tiny_llm: FrozenLLM) -> None:
    one = generate(tiny_llm, ["Add 1 and 2:"], Program((0, 3, 3)), max_new_tokens=6)[0]
    assert len(one.tokens) == 6
    assert one.ended_by == "length"
    assert one.layers == 3 * 6  # the prompt, then each token but the last
    assert one.prefill_seconds > 0
    assert one.decode_seconds > 0
    prompt = tiny_llm.tokenizer("Add 1 and 2:").input_ids
    log_probs = tiny_llm.logits(torch.tensor([[*prompt, *one.tokens]]), Program((0, 3, 3)))[0].log_softmax(-1)
    expected = [float(log_probs[len(prompt) - 1 + i, token]) for i, token in enumerate(one.tokens)]
    assert one.log_probs == pytest.approx(expected, abs=1e-4)


def test_stop_strings_end_a_row_and_are_never_shown(tiny_llm: FrozenLLM) -> None:
    whole = generate(tiny_llm, ["Add 1 and 2:"], tiny_llm.identity, max_new_tokens=12)[0]
    stop = whole.text[4:7]
    shown: dict[int, list[str]] = defaultdict(list)
    one = generate(
        tiny_llm,
        ["Add 1 and 2:"],
        tiny_llm.identity,
        max_new_tokens=12,
        stop=[stop],
        on_text=lambda r, t: shown[r].append(t),
    )[0]
    assert one.text == whole.text[: whole.text.index(stop)]
    assert one.ended_by == "stop"
    assert len(one.tokens) == whole.text.index(stop) + 3  # one token is one character here
    assert "".join(shown[0]) == one.text


def test_half_a_character_is_never_shown(tiny_llm: FrozenLLM) -> None:
    """A tokenizer of bytes: a character of two tokens is shown when it is whole."""
    tokenizer = Tokenizer(BPE({chr(256 + i): i for i in range(97)} | {"Ã": 97, "¼": 98}, []))
    tokenizer.decoder = ByteLevel()
    llm = FrozenLLM(tiny_llama(), PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    shown: list[str] = []
    row = _Row(llm, 0, (), 9, lambda _, piece: shown.append(piece))
    row.add(97, 0.0)
    assert shown == []
    row.add(98, 0.0)
    assert shown == ["ü"]


def test_the_end_of_text_token_ends_a_row(tiny_llm: FrozenLLM) -> None:
    whole = generate(tiny_llm, ["Add 1 and 2:"], tiny_llm.identity, max_new_tokens=6)[0]
    llm = FrozenLLM(tiny_llama(), character_tokenizer())
    llm.model.generation_config.eos_token_id = whole.tokens[3]
    one = generate(llm, ["Add 1 and 2:"], llm.identity, max_new_tokens=6)[0]
    assert one.ended_by == "end"
    assert one.tokens == whole.tokens[: whole.tokens.index(whole.tokens[3]) + 1]


def test_sampling_follows_the_model_and_the_nucleus(tiny_llm: FrozenLLM) -> None:
    """First tokens of 400 rows: drawn as often as the model says; a small nucleus leaves only its likeliest."""
    chances = tiny_llm.logits(torch.tensor([tiny_llm.tokenizer("Add").input_ids]), tiny_llm.identity)[0, -1].softmax(-1)
    rows = generate(tiny_llm, ["Add"] * 400, tiny_llm.identity, max_new_tokens=1, temperature=1.0, seed=1)
    likeliest = int(chances.argmax())
    drawn = Counter(one.tokens[0] for one in rows)
    spread = (400 * float(chances[likeliest]) * (1 - float(chances[likeliest]))) ** 0.5
    assert abs(drawn[likeliest] - 400 * float(chances[likeliest])) < 4 * spread
    assert len(drawn) > 1
    nucleus = generate(tiny_llm, ["Add"] * 20, tiny_llm.identity, max_new_tokens=1, temperature=1.0, top_p=1e-6)
    assert {one.tokens[0] for one in nucleus} == {likeliest}


def test_chat_messages_go_through_the_template(tiny_llm: FrozenLLM) -> None:
    messages = [{"role": "user", "content": "Add 1 and 2"}]
    text = tiny_llm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tiny_llm.tokenizer(text, add_special_tokens=False).input_ids
    asked, expected = generate(tiny_llm, [messages, ids], tiny_llm.identity, max_new_tokens=5)
    assert asked.tokens == expected.tokens
    plain = FrozenLLM(tiny_llama(), character_tokenizer())
    with pytest.raises(ConfigError, match="no chat template"):
        generate(plain, [messages], plain.identity)


def test_no_questions_no_answers(tiny_llm: FrozenLLM) -> None:
    assert generate(tiny_llm, [], []) == []


def test_bad_input_is_named(tiny_llm: FrozenLLM) -> None:
    with pytest.raises(ProgramError, match="2 rows but 1 programs"):
        generate(tiny_llm, ["a", "b"], [tiny_llm.identity])
    with pytest.raises(ProgramError, match="layer 9 is out of range"):
        generate(tiny_llm, ["a"], Program((9,)))
    with pytest.raises(QuestionTooLongError, match="context of 256"):
        generate(tiny_llm, [[5] * 250], tiny_llm.identity, max_new_tokens=10)
    with pytest.raises(ConfigError, match="no tokens"):
        generate(tiny_llm, [""], tiny_llm.identity)
    for questions, stop in (("a", []), (["a"], "x"), (["a"], [""]), ([{"role": "user", "content": "a"}], [])):
        with pytest.raises(ConfigError, match=r"lists|list of"):
            generate(tiny_llm, questions, tiny_llm.identity, stop=stop)
    with pytest.raises(ConfigError, match="row 1 has token ids outside"):
        generate(tiny_llm, [[5], [99]], tiny_llm.identity)
    for wrong in ({"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ConfigError, match="expected at least 1 token"):
            generate(tiny_llm, ["a"], tiny_llm.identity, **wrong)
