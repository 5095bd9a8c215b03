"""A transformers model as a GGUF file, the format of llama.cpp and the engines around it.

Names and layouts are those of llama.cpp's ``convert_hf_to_gguf.py``, through the ``gguf`` package. What that script
knows of a hundred families is not repeated: here are those whose layers are Llama's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polar_env.errors import ModelError
from polar_env.tables import writing_whole

__all__ = ["GGUF_TYPES", "write_gguf"]

GGUF_TYPES = {
    "float32": gguf.GGMLQuantizationType.F32,
    "bfloat16": gguf.GGMLQuantizationType.BF16,
    "float16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}
"""Types of the matrices by name; vectors are always float32."""
_FAMILIES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
"""By transformers' ``model_type``."""
_MEND = "Export a transformers folder, and convert that with llama.cpp's convert_hf_to_gguf.py."
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {_LLAMA_3: "llama-bpe", _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}"): "qwen2"}
"""llama.cpp's names of the regular expressions that split text before byte-pair encoding."""


def write_gguf(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    kind: str = "float32",
    about: Mapping[str, str] | None = None,
) -> None:
    """Write a model and its tokenizer; the file is there whole or not at all.

    Args:
        model: the model; its layers may share weights, and each gets its own.
        tokenizer: its tokenizer.
        path: the file.
        kind: one of `GGUF_TYPES`, for the matrices.
        about: more metadata, by key.

    Raises:
        ModelError: naming the part that the format, or this writer, cannot hold.
    """
    config = model.config
    if kind not in GGUF_TYPES:
        raise ModelError(f"GGUF files are written in {', '.join(GGUF_TYPES)}, not in {kind}; give --dtype float32.")
    if config.model_type not in _FAMILIES:
        raise ModelError(f"GGUF is written for {', '.join(_FAMILIES)}, not for '{config.model_type}'. {_MEND}")
    arch = _FAMILIES[config.model_type]
    with writing_whole(path) as file, closing(gguf.GGUFWriter(file.name, gguf.MODEL_ARCH_NAMES[arch])) as writer:
        _write_shape(writer, config)
        _write_tokenizer(writer, tokenizer, config.vocab_size)
        for key, value in (about or {}).items():
            writer.add_string(key, value)
        names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
        for name, tensor in model.state_dict().items():
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if stored is None or (config.model_type == "llama" and name.endswith(".bias")):
                raise ModelError(f"GGUF has no place for the weight '{name}'. {_MEND}")
            _write_tensor(writer, stored, _arranged(name, tensor, config), kind)
        writer.write_header_to_file(Path(file.name))
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _write_shape(writer: gguf.GGUFWriter, config: Any) -> None:
    """What the model's parts measure."""
    if getattr(config, "hidden_act", "silu") != "silu":
        raise ModelError(f"GGUF is written for the activation SiLU, not for '{config.hidden_act}'. {_MEND}")
    rotary = config.rope_parameters
    if rotary["rope_type"] != "default":
        raise ModelError(f"GGUF is written for plain rotary embeddings, not for '{rotary['rope_type']}'. {_MEND}")
    if getattr(config, "use_sliding_window", False):
        raise ModelError(f"GGUF is written for layers that see all tokens, not for a sliding window. {_MEND}")
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(rotary["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, size: int) -> None:
    """A byte-level byte-pair encoding; other kinds are refused."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    model, added = backend["model"], {token["id"]: token for token in backend["added_tokens"]}
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise ModelError(f"GGUF is written for byte-level BPE tokenizers; this one is {model['type']}. {_MEND}")
    if backend["normalizer"] is not None and backend["normalizer"]["type"] != "NFC":
        raise ModelError(f"GGUF has no place for the tokenizer's normalizer {backend['normalizer']['type']}. {_MEND}")
    by_id = {place: token for token, place in model["vocab"].items()}
    by_id |= {place: token["content"] for place, token in added.items()}
    kinds = [
        gguf.TokenType.UNUSED if place not in by_id
        else gguf.TokenType.NORMAL if place not in added
        else gguf.TokenType.CONTROL if added[place]["special"]
        else gguf.TokenType.USER_DEFINED
        for place in range(size)
    ]  # fmt: skip
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_split_of(backend["pre_tokenizer"]))
    writer.add_token_list([by_id.get(place, f"[PAD{place}]") for place in range(size)])
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]])
    for add, place in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
    ):
        if place is not None:
            add(place)
    writer.add_add_bos_token(tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id])
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _split_of(pre_tokenizer: Mapping[str, Any] | None) -> str:
    """llama.cpp's name of how text is split before byte-pair encoding."""
    if pre_tokenizer is None:
        raise ModelError(f"GGUF is written for tokenizers that split text first; this one does not. {_MEND}")
    parts = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    kinds = [part["type"] for part in parts]
    if kinds == ["ByteLevel"] and parts[0]["use_regex"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and parts[0]["pattern"].get("Regex") in _SPLITS:
        return _SPLITS[parts[0]["pattern"]["Regex"]]
    raise ModelError(f"GGUF has names for known ways to split text; this tokenizer's is {kinds}. {_MEND}")


def _arranged(name: str, tensor: Tensor, config: Any) -> Tensor:
    """A weight as GGUF lays it out: of Llama, queries and keys have each head's halves of rotated pairs interleaved."""
    part = name.split(".")[-2] if "." in name else name
    if config.model_type != "llama" or part not in ("q_proj", "k_proj"):
        return tensor
    heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def _write_tensor(writer: gguf.GGUFWriter, name: str, tensor: Tensor, kind: str) -> None:
    values: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).numpy()
    wanted = GGUF_TYPES[kind] if values.ndim > 1 else gguf.GGMLQuantizationType.F32
    if wanted == gguf.GGMLQuantizationType.Q8_0 and values.shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0]:
        wanted = gguf.GGMLQuantizationType.F32  # its rows are no whole blocks
    writer.add_tensor(name, gguf.quants.quantize(values, wanted), raw_dtype=wanted)
