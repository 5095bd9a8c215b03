"""Shared fixtures: a tiny random Llama with a character tokenizer, and the real SmolLM2-135M."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from polar_env.executor import Executor
from polar_env.llm import FrozenLLM, load_llm
from polar_env.questions import Example, Prompt, Question

os.environ.setdefault("WANDB_MODE", "offline")
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
torch.set_num_threads(2)

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


@pytest.fixture(scope="session")
def prompt() -> Prompt:
    return Prompt(style="qa", examples=(Example(question="1 + 1", answer="2"),))


@pytest.fixture(scope="session")
def questions() -> list[Question]:
    return [
        Question(text=f"What is {a} + {b}?", answer=str(a + b), bare=f"{a} + {b} =") for a in (3, 12) for b in range(9)
    ]


@pytest.fixture
def executor(tiny_llm: FrozenLLM, prompt: Prompt) -> Executor:
    return Executor(tiny_llm, prompt)


@pytest.fixture(scope="session")
def smollm2() -> FrozenLLM:
    return load_llm("smollm2-135m")
