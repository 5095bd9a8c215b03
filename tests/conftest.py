"""Shared fixtures: a tiny random Llama with a character tokenizer, and the real SmolLM2-135M."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from polar_env.errors import AssetError
from polar_env.llm import FrozenLLM, load_llm
from polar_env.program import Program
from polar_env.questions import Ask, Example, Prompt, Question
from polar_env.questions.prompts import RenderedPrompt
from polar_env.runner import Runner, generate
from polar_env.runtime import torch_threads
from polar_env.worlds import LiveWorld

os.environ.setdefault("WANDB_MODE", "disabled")
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)

CHAT_TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def character_tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """One token per printable character; 98 in all."""
    characters = [chr(code) for code in range(32, 127)] + ["\n"]
    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2} | {c: i + 3 for i, c in enumerate(characters)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    wrapped.chat_template = CHAT_TEMPLATE if chat else None
    return wrapped


def tiny_llama(depth: int = 4, seed: int = 0, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """A random Llama whose layers matter: large weights, so that every program gives other answers."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=99,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=depth,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.4,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return LlamaForCausalLM(config).to(dtype)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks and models as small as these are slower on two threads, on a busy machine far slower."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def tiny_llm() -> FrozenLLM:
    return FrozenLLM(tiny_llama(), character_tokenizer(chat=True), "tiny")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a saved folder, for the command line."""
    folder = tmp_path_factory.mktemp("tiny-model")
    tiny_llama().save_pretrained(folder)
    character_tokenizer(chat=True).save_pretrained(folder)
    return folder


class TersePrompt(Prompt):
    """Answers are one character with nothing around it, so that a random model gets some of them right."""

    def render(self, tokenizer: PreTrainedTokenizerBase, ask: Ask) -> RenderedPrompt:
        return RenderedPrompt(super().render(tokenizer, ask).prompt, "", "")


@pytest.fixture(scope="session")
def prompt() -> Prompt:
    return TersePrompt(style="qa", examples=(Example(question="1 + 1", answer="2"),), max_new_tokens=1)


@pytest.fixture(scope="session")
def questions(tiny_llm: FrozenLLM, prompt: Prompt) -> list[Question]:
    """Questions whose gold answers are what the tiny model says, in turns under the identity and two other programs."""
    programs = [tiny_llm.identity, Program((0, 1, 3)), Program((0, 1, 1, 2, 3))]
    made: list[Question] = []
    for number in range(200):
        text = f"What is {number} + 1?"
        ask = Ask(text, equation=f"{number} + 1 =")
        ids = tiny_llm.tokenizer(prompt.render(tiny_llm.tokenizer, ask).prompt).input_ids
        token = generate(tiny_llm, [ids], programs[len(made) % 3], max_new_tokens=1)[0].tokens
        answer = tiny_llm.tokenizer.decode(token, skip_special_tokens=True)
        if answer.strip() and len(made) < 18:
            made.append(Question(ask, answer))
    return made


@pytest.fixture
def world(tiny_llm: FrozenLLM, prompt: Prompt) -> LiveWorld:
    return LiveWorld(Runner(tiny_llm), prompt)


@pytest.fixture(scope="session")
def smollm2() -> FrozenLLM:
    return load_llm("smollm2-135m")


@pytest.fixture(scope="session")
def gemma3_270m() -> FrozenLLM:
    try:
        return load_llm("gemma3-270m")
    except AssetError as error:
        pytest.skip(f"the real Gemma-3-270M cannot be fetched here: {error}")
