"""Exported programs in other engines: do they write the executor's tokens?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polar_env.errors import ConfigError
from polar_env.llm.export import RECORD, RECORD_KEY
from polar_env.llm.frozen import FrozenLLM
from polar_env.program import Program
from polar_env.runner.generation import generate
from polar_env.tables import read_json

__all__ = ["LLAMA_CPP", "Agreement", "Engine", "compare_engines", "open_engines", "read_export"]

LLAMA_CPP = "llama.cpp"
ONNX = "onnx/model.onnx"
"""In an exported folder: where optimum is told to put what it makes of the folder, as on the hub."""
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

        with suppress(ValueError, IndexError, KeyError):  # it is no GGUF file, or a damaged one
            record = {
                key.removeprefix(RECORD_KEY): field.contents()
                for key, field in GGUFReader(path).fields.items()
                if key.startswith(RECORD_KEY)
            }
    if not {"program", "model", "fingerprint", "dtype"} <= record.keys():
        raise ConfigError(f"{path} is no export of a program; give a folder or a .gguf file that `polar export` wrote.")
    return {name: str(value) for name, value in record.items()}


def open_engines(path: Path, end_tokens: Set[int], length: int) -> dict[str, Engine]:
    """All engines that are installed and read the export; weights are loaded when an engine is first used.

    Args:
        path: a folder, with or without `ONNX`, or a GGUF file; transformers computes in float32 on any weights.
        end_tokens: tokens that end a text.
        length: most tokens of a prompt and of what is written behind it.
    """
    if path.is_dir():
        engines = {"transformers": _transformers(str(path), end_tokens)}
        if (path / ONNX).is_file() and find_spec("onnxruntime"):
            engines["ONNX Runtime"] = _onnx_runtime(path / ONNX, end_tokens)
        return engines
    engines = {"transformers, from GGUF": _transformers(str(path.parent), end_tokens, gguf_file=path.name)}
    if not find_spec("llama_cpp"):
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


def _onnx_runtime(path: Path, end_tokens: Set[int]) -> Engine:
    """A graph as optimum exports it for ``text-generation-with-past``: past keys and values go in, present ones out."""
    import onnxruntime

    loaded: list[Any] = []

    def write(prompt: Sequence[int], new_tokens: int) -> list[int]:
        if not loaded:
            loaded.append(onnxruntime.InferenceSession(str(path)))
        given = {each.name: each.shape for each in loaded[0].get_inputs()}  # caches are [batch, heads, length, width]
        cache = {
            name: np.zeros((1, shape[1], 0, shape[3]), np.float32)
            for name, shape in given.items()
            if name.startswith("past_key_values")
        }
        ids, length, tokens = np.array([list(prompt)]), 0, list[int]()
        while not tokens or (len(tokens) < new_tokens and tokens[-1] not in end_tokens):
            positions = np.arange(length, length + ids.shape[1])[None]
            length += ids.shape[1]
            feed = {"input_ids": ids, "attention_mask": np.ones((1, length), np.int64), "position_ids": positions}
            logits, *present = loaded[0].run(None, {name: feed[name] for name in feed if name in given} | cache)
            cache = dict(zip(cache, present, strict=True))
            tokens.append(int(logits[0, -1].argmax()))
            ids = np.array([tokens[-1:]])
        return tokens

    return write
