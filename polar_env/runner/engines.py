"""Exported programs in other engines: do they write the executor's tokens?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polar_env.errors import ConfigError
from polar_env.llm.export import RECORD, RECORD_KEY
from polar_env.llm.frozen import FrozenLLM
from polar_env.program import Program
from polar_env.runner.generation import generate
from polar_env.tables import read_json

__all__ = ["LLAMA_CPP", "Agreement", "Engine", "compare_engines", "open_engines", "read_export"]

LLAMA_CPP = "llama.cpp"
Engine = Callable[[Sequence[int], int], list[int]]
"""Greedy decoding: from a prompt's token ids and the most new tokens to the tokens written, the ending one included."""


@dataclass(frozen=True)
class Agreement:
    """How often an engine wrote what the executor wrote.

    Attributes:
        engine: its name.
        same: prompts with the same tokens.
        prompts: how many there were.
    """

    engine: str
    same: int
    prompts: int


def read_export(path: Path) -> dict[str, str]:
    """What was exported: ``program``, ``model``, ``fingerprint`` and ``dtype``.

    Args:
        path: a folder or a GGUF file that `polar export` wrote.

    Raises:
        ConfigError: if it is none.
    """
    record: dict[str, Any] = {}
    if (path / RECORD).is_file():
        record = read_json(path / RECORD)
    elif path.is_file() and path.suffix == ".gguf":
        from gguf import GGUFReader

        fields = GGUFReader(path).fields
        record = {
            key.removeprefix(RECORD_KEY): field.contents()
            for key, field in fields.items()
            if key.startswith(RECORD_KEY)
        }
    if not {"program", "model", "fingerprint", "dtype"} <= record.keys():
        raise ConfigError(f"{path} is no export of a program; give a folder or a .gguf file that `polar export` wrote.")
    return {name: str(value) for name, value in record.items()}


def open_engines(path: Path, end_tokens: Set[int], length: int) -> dict[str, Engine]:
    """All engines that are installed and read the export; weights are loaded when an engine is first used.

    Args:
        path: a folder, or a GGUF file; transformers computes in float32, whatever the weights are.
        end_tokens: tokens that end a text.
        length: most tokens of a prompt and of what is written behind it.
    """
    if path.is_dir():
        return {"transformers": _transformers(str(path), end_tokens)}
    engines = {"transformers, from GGUF": _transformers(str(path.parent), end_tokens, gguf_file=path.name)}
    try:
        import llama_cpp  # noqa: F401
    except ImportError:
        return engines
    return engines | {LLAMA_CPP: _llama_cpp(path, end_tokens, length)}


def compare_engines(
    llm: FrozenLLM,
    program: Program,
    prompts: Sequence[Sequence[int]],
    engines: Mapping[str, Engine],
    new_tokens: int,
) -> list[Agreement]:
    """Let the executor and each engine write behind the same prompts.

    Args:
        llm: the frozen LLM.
        program: the program.
        prompts: token ids.
        engines: by name.
        new_tokens: most tokens that are written.
    """
    ours = [list(written.tokens) for written in generate(llm, prompts, program, max_new_tokens=new_tokens)]
    agreements = []
    for name, engine in engines.items():
        same = sum(engine(prompt, new_tokens) == expected for prompt, expected in zip(prompts, ours, strict=True))
        agreements.append(Agreement(name, same, len(prompts)))
    return agreements


def _transformers(folder: str, end_tokens: Set[int], **options: Any) -> Engine:
    from transformers import AutoModelForCausalLM, GenerationConfig

    loaded: list[Any] = []

    def write(prompt: Sequence[int], new_tokens: int) -> list[int]:
        if not loaded:
            loaded.append(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval())
            ends = sorted(end_tokens)  # a plain one: the model's own may ask for a repetition penalty
            loaded[0].generation_config = GenerationConfig(
                eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0
            )
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            written = loaded[0].generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens
            )
        tokens: list[int] = written[0, len(prompt) :].tolist()
        return tokens

    return write


def _llama_cpp(path: Path, end_tokens: Set[int], length: int) -> Engine:
    import llama_cpp

    loaded: list[Any] = []

    def write(prompt: Sequence[int], new_tokens: int) -> list[int]:
        if not loaded:
            exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}  # its cache is float16 else
            loaded.append(llama_cpp.Llama(str(path), n_ctx=length, verbose=False, **exact))
        tokens: list[int] = []
        for token in loaded[0].generate(list(prompt), temp=0.0, top_k=1):
            tokens.append(int(token))
            if len(tokens) == new_tokens or token in end_tokens:
                break
        return tokens

    return write
