"""Exported programs in other engines: do they write the executor's tokens?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


def open_engines(path: Path) -> dict[str, Engine]:
    """All engines that are installed and read the export; weights are loaded when an engine is first used.

    Args:
        path: a folder, or a GGUF file; transformers computes in float32, whatever the weights are.
    """
    if path.is_dir():
        return {"transformers": _transformers(str(path))}
    engines = {"transformers, from GGUF": _transformers(str(path.parent), gguf_file=path.name)}
    try:
        import llama_cpp  # noqa: F401
    except ImportError:
        return engines
    return engines | {LLAMA_CPP: _llama_cpp(path)}


def compare_engines(
    llm: FrozenLLM,
    program: Program,
    prompts: Sequence[Sequence[int]],
    engines: Mapping[str, Engine],
    new_tokens: int,
    on_prompts: Callable[[int], None] = lambda count: None,
) -> list[Agreement]:
    """Let the executor and each engine write behind the same prompts.

    Args:
        llm: the frozen LLM.
        program: the program.
        prompts: token ids.
        engines: by name.
        new_tokens: most tokens that are written.
        on_prompts: told how many prompts an engine has finished.
    """
    ours = [list(written.tokens) for written in generate(llm, prompts, program, max_new_tokens=new_tokens)]
    agreements = []
    for name, engine in engines.items():
        same = 0
        for prompt, expected in zip(prompts, ours, strict=True):
            same += engine(prompt, new_tokens) == expected
            on_prompts(1)
        agreements.append(Agreement(name, same, len(prompts)))
    return agreements


def _transformers(folder: str, **options: Any) -> Engine:
    from transformers import AutoModelForCausalLM

    loaded: list[Any] = []

    def write(prompt: Sequence[int], new_tokens: int) -> list[int]:
        if not loaded:
            loaded.append(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval())
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            written = loaded[0].generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens
            )
        tokens: list[int] = written[0, len(prompt) :].tolist()
        return tokens

    return write


def _llama_cpp(path: Path) -> Engine:
    import llama_cpp

    loaded: list[Any] = []

    def write(prompt: Sequence[int], new_tokens: int) -> list[int]:
        if not loaded:
            exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}  # its cache is float16 else
            loaded.append(llama_cpp.Llama(str(path), n_ctx=0, verbose=False, **exact))
        tokens: list[int] = []
        for token in loaded[0].generate(list(prompt), temp=0.0, top_k=1):
            tokens.append(int(token))
            if len(tokens) == new_tokens or token == loaded[0].token_eos():
                break
        return tokens

    return write
