"""Tiny random models of every causal language model class that the installed transformers has.

The sizes are set by name, so that a class which nobody has looked at is built like all the others; `SPECIAL` says what
a few classes want besides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

VOCABULARY, WIDTH, DEPTH, HEADS, EXPERTS, WINDOW = 99, 32, 4, 4, 4, 5
HEAD = WIDTH // HEADS

_SIZES: dict[str, Any] = {
    **dict.fromkeys(
        ["vocab_size", "vocab_size_per_layer_input", "encoder_hash_byte_group_vocab", "n_vocab"], VOCABULARY
    ),
    **dict.fromkeys(["hidden_size", "n_embd", "d_model", "dim_model", "word_embed_proj_dim", "embedding_size"], WIDTH),
    **dict.fromkeys(["attention_hidden_size", "kv_channels_total"], WIDTH),
    **dict.fromkeys(
        ["intermediate_size", "n_inner", "d_ff", "dim_ff", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim"], 64
    ),
    **dict.fromkeys(["intermediate_size_mlp", "ffn_hidden_size", "feed_forward_size", "ff_dim", "n_ff"], 64),
    **dict.fromkeys(
        ["num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"], DEPTH
    ),
    **dict.fromkeys(
        [
            "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads",
            "encoder_attention_heads", "swa_num_attention_heads",
        ],
        HEADS,
    ),
    **dict.fromkeys(["num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "kv_n_heads"], 2),
    **dict.fromkeys(["head_dim", "swa_head_dim", "swa_v_head_dim", "v_head_dim", "global_head_dim", "d_kv"], HEAD),
    **dict.fromkeys(["qk_nope_head_dim", "qk_rope_head_dim", "rotary_dim", "kv_channels", "attention_head_dim"], HEAD),
    "qk_head_dim": 2 * HEAD,
    **dict.fromkeys(["q_lora_rank", "kv_lora_rank", "laurel_rank", "hidden_size_per_layer_input"], 16),
    **dict.fromkeys(["num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"], EXPERTS),
    **dict.fromkeys(["num_experts_per_tok", "moe_k", "num_experts_per_token", "experts_per_token", "moe_topk"], 2),
    **dict.fromkeys(["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"], 1),
    **dict.fromkeys(["n_group", "topk_group", "num_expert_groups"], 1),
    **dict.fromkeys(
        [
            "moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size",
            "shared_intermediate_size", "moe_shared_expert_intermediate_size", "expert_hidden_size",
        ],
        32,
    ),
    **dict.fromkeys(["sliding_window", "window_size", "attention_window", "sliding_window_size"], WINDOW),
    "attention_chunk_size": WINDOW,
    "max_position_embeddings": 256, "n_positions": 256, "n_ctx": 256, "max_seq_len": 256,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    "is_decoder": True, "use_sliding_window": True, "max_window_layers": 2,
    "first_k_dense_replace": 1,
}  # fmt: skip

_PLAIN_LAYERS = {"full_attention", "sliding_attention"}

_MIXED = ["sliding_attention", "full_attention"] * (DEPTH // 2)
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64, "mamba_d_state": 8, "mamba_chunk_size": 4}
SPECIAL: dict[str, dict[str, Any]] = {
    "BambaForCausalLM": {**_MAMBA, "attn_layer_indices": [1, 3]},
    "CohereCompassForCausalLM": {"layer_types": _MIXED},
    "Dots3NoteForCausalLM": {"num_key_value_heads": HEADS},
    "FalconH1ForCausalLM": _MAMBA,
    "GPTNeoForCausalLM": {"attention_types": [[["global", "local"], DEPTH // 2]]},
    "Gemma3nForCausalLM": {"layer_types": _MIXED, "num_kv_shared_layers": 2, "activation_sparsity_pattern": 0.0},
    "Gemma4UnifiedAssistantForCausalLM": {"text_config": {"layer_types": _MIXED}},
    "GraniteMoeHybridForCausalLM": {**_MAMBA, "layer_types": ["mamba", "attention"] * (DEPTH // 2)},
    "Lfm2ForCausalLM": {"layer_types": ["conv", "full_attention"] * (DEPTH // 2)},
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"] * (DEPTH // 2)},
    "Mamba2ForCausalLM": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 8},
    "ReformerModelWithLMHead": {
        "axial_pos_shape": [16, 16], "axial_pos_embds_dim": [16, 16], "attention_head_size": HEAD,
        "attn_layers": ["local"] * DEPTH,
    },
    "XmodForCausalLM": {"default_language": "en_XX"},
    "Zamba2ForCausalLM": {"layers_block_type": ["mamba", "hybrid"] * 2, "mamba_headdim": 8, "n_mamba_heads": 8},
    "ZambaForCausalLM": {"layers_block_type": ["mamba", "hybrid"] * 2},
    "ZayaForCausalLM": {"num_experts_per_tok": 1},
}  # fmt: skip


def causal_classes() -> dict[str, str]:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return {name: t for t, name in reversed(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items())}


def tiny_config(kind: type[PreTrainedConfig], special: dict[str, Any]) -> PreTrainedConfig:
    try:
        default = kind()
        known = vars(default)
    except Exception:
        default, known = None, {k: None for c in kind.__mro__ for k in vars(c).get("__annotations__", {})}
    sizes = {name: value for name, value in _SIZES.items() if name in known or name in kind.attribute_map}
    if sizes.get("attention_chunk_size") and known.get("attention_chunk_size") is None: sizes.pop("attention_chunk_size")
    for name, value in known.items():
        if isinstance(value, PreTrainedConfig):
            sizes[name] = tiny_config(type(value), special.get(name, {})).to_dict()
        elif name in ("sliding_window", "layer_types") and False: pass
    if "kv_lora_rank" in known:
        sizes["num_key_value_heads"] = HEADS
    sizes |= {k: v for k, v in special.items() if not isinstance(v, dict) or k not in sizes or k in ("rope_parameters",)}
    made = kind(**sizes)
    types = getattr(made, "layer_types", None)
    if types and set(types) == {"sliding_attention", "full_attention"} or types and set(types)=={"sliding_attention"}:
        made = kind(**sizes | {"layer_types": ["sliding_attention", "full_attention"] * (DEPTH // 2)})
    return made


def tiny_model(name: str) -> PreTrainedModel:
    import transformers
    kind = getattr(transformers, name)
    torch.manual_seed(1)
    config = tiny_config(kind.config_class, SPECIAL.get(name, {}))
    model = kind(config).eval()
    stream = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=stream)
        parameter.data = 0.3 * noise if parameter.ndim > 1 else parameter.data + 0.1 * noise
    return model
