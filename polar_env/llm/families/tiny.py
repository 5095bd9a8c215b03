"""Tiny random models of every causal language model class that the installed transformers has.

Sizes are set by name, so that a class which nobody has looked at is built like all the others; `SPECIAL` holds what a
few classes want besides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["LEFT_OUT", "CausalClass", "causal_classes", "tiny_model", "tiny_tokenizer"]

VOCABULARY, WIDTH, INNER, DEPTH, HEADS, KV_HEADS, HEAD = 99, 32, 64, 4, 4, 2, 8
WINDOW = 5
"""Shorter than what `polar verify` runs, so that windows slide."""
_WEIGHT, _NOISE = 0.3, 0.1
"""Standard deviations of matrices and of what is added to vectors: large, so that every program gives other logits."""

_NAMES: list[tuple[int, str]] = [
    (VOCABULARY, "vocab_size encoder_hash_byte_group_vocab vocab_size_per_layer_input decoder_vocab_size n_vocab"),
    (
        WIDTH,
        "hidden_size n_embd d_model dim_model embedding_size input_embedding_size output_embedding_size "
        "word_embed_proj_dim attention_hidden_size moe_intermediate_size shared_expert_intermediate_size "
        "expert_ffn_hidden_size shared_intermediate_size backbone_hidden_size router_hidden_size "
        "pronunciation_embed_dim shape_embed_dim text_hidden_size",
    ),
    (
        INNER,
        "intermediate_size n_inner d_ff dim_ff dff d_inner ffn_dim decoder_ffn_dim encoder_ffn_dim "
        "intermediate_size_mlp ffn_hidden_size dense_intermediate_size shared_experts_intermediate_size mamba_d_ssm",
    ),
    (
        DEPTH,
        "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_encoder_layers "
        "num_decoder_layers num_blocks",
    ),
    (
        HEADS,
        "num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads encoder_attention_heads "
        "num_encoder_attention_heads num_decoder_attention_heads swa_num_attention_heads num_experts n_routed_experts "
        "num_local_experts moe_num_experts linear_num_key_heads linear_num_value_heads linear_num_heads index_n_heads",
    ),
    (
        KV_HEADS,
        "num_key_value_heads num_kv_heads swa_num_key_value_heads kv_n_heads num_experts_per_tok moe_k moe_topk "
        "num_experts_per_token max_window_layers",
    ),
    (
        HEAD,
        "head_dim swa_head_dim swa_v_head_dim v_head_dim global_head_dim d_kv d_head dim_head qk_nope_head_dim "
        "qk_rope_head_dim rotary_dim index_head_dim linear_key_head_dim linear_value_head_dim linear_head_dim "
        "attention_head_size mamba_n_heads mamba_d_head mamba_d_state mamba_chunk_size",
    ),
    (16, "q_lora_rank kv_lora_rank o_lora_rank laurel_rank hidden_size_per_layer_input qk_head_dim"),
    (
        1,
        "n_shared_experts num_shared_experts moe_num_shared_experts n_group topk_group num_expert_group "
        "num_expert_groups first_k_dense_replace eos_token_id pad_token_id",
    ),
    (0, "bos_token_id"),
    (WINDOW, "sliding_window window_size attention_window sliding_window_size attention_chunk_size"),
    (256, "max_position_embeddings n_positions n_ctx max_seq_len pronunciation_vocab_size shape_vocab_size"),
]
SIZES: dict[str, Any] = {name: size for size, names in _NAMES for name in names.split()} | {
    "is_decoder": True,
    "use_sliding_window": True,
}
_MIXED = ["sliding_attention", "full_attention"] * (DEPTH // 2)
_CONVOLUTIONS = ["conv", "full_attention"] * (DEPTH // 2)
_ROTARY = {"rope_type": "default", "rope_theta": 10_000.0}
_NO_LAYER_INPUTS = {"hidden_size_per_layer_input": 0, "layer_types": _MIXED}
SPECIAL: dict[str, dict[str, Any]] = {
    "CohereCompassForCausalLM": {"layer_types": _MIXED, "rope_parameters": dict.fromkeys(_MIXED, _ROTARY)},
    "DbrxForCausalLM": {"attn_config": {"rope_theta": 10_000.0, "clip_qkv": 8.0}},
    "GPTNeoForCausalLM": {"attention_types": [[["global", "local"], DEPTH // 2]]},
    "Gemma3nForCausalLM": {"layer_types": _MIXED, "num_kv_shared_layers": 2, "activation_sparsity_pattern": [0.0] * 4},
    "GraniteMoeHybridForCausalLM": {"layer_types": ["mamba", "attention"] * (DEPTH // 2)},
    # By default these two have no convolutions, but all that are published have.
    "Lfm2ForCausalLM": {"layer_types": _CONVOLUTIONS},
    "Lfm2MoeForCausalLM": {"layer_types": _CONVOLUTIONS},
    "Mamba2ForCausalLM": {"num_heads": 8, "n_groups": 1, "state_size": 8},
    "Qwen4ExpForCausalLM": {
        "indexer_n_heads": HEADS, "indexer_kv_heads": 1, "indexer_head_dim": HEAD, "indexer_budget": 4,
        "indexer_compress_ratio": 2,
    },
    "Mistral4ForCausalLM": {"head_dim": 2 * HEAD},
    "ReformerModelWithLMHead": {
        "axial_pos_shape": [16, 16], "axial_pos_embds_dim": [16, 16], "attn_layers": ["local"] * DEPTH,
    },
    "XmodForCausalLM": {"default_language": "en_XX"},
    "Zamba2ForCausalLM": {"layers_block_type": ["mamba", "hybrid"] * 2, "mamba_headdim": 8, "n_mamba_heads": 8},
    "ZambaForCausalLM": {"layers_block_type": ["mamba", "hybrid"] * 2},
    "ZayaForCausalLM": {"num_experts_per_tok": 1},
}  # fmt: skip
"""By class, what its configuration wants besides the sizes."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "Gemma4ForCausalLM, no inputs by layer": ("Gemma4ForCausalLM", _NO_LAYER_INPUTS),
    "BertLMHeadModel, not a decoder": ("BertLMHeadModel", {"is_decoder": False}),
    "FalconForCausalLM, ALiBi": ("FalconForCausalLM", {"alibi": True}),
    "MiniMaxM3VLForCausalLM, sparse": (
        "MiniMaxM3VLForCausalLM", {"layer_types": ["full_attention", "minimax_m3_sparse"] * (DEPTH // 2)}
    ),
}  # fmt: skip
"""Other configurations of a class for which the answer may be another one."""


_DRAFTER = (
    "it drafts tokens from the hidden states and the cache of another model, so it is no language model by itself."
)
LEFT_OUT = {"Gemma4AssistantForCausalLM": _DRAFTER, "Gemma4UnifiedAssistantForCausalLM": _DRAFTER}
"""Classes that are no language models by themselves, and why."""


@dataclass(frozen=True)
class CausalClass:
    """One class, or a variant of it.

    Attributes:
        name: the class, or what the variant is called.
        cls: the class's name in transformers.
        model_type: what its configuration is called.
        special: what its configuration wants besides the sizes.
    """

    name: str
    cls: str
    model_type: str
    special: dict[str, Any]


def causal_classes() -> list[CausalClass]:
    """All classes of transformers' table of causal language models, those that are named like one, and the variants."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    named = [name for name in dir(transformers) if re.fullmatch(r"(?!Auto|TF|Flax).*(ForCausalLM|LMHeadModel)", name)]
    classes = sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values(), *named})
    wanted = [(name, name, SPECIAL.get(name, {})) for name in classes]
    wanted += [(name, cls, special) for name, (cls, special) in VARIANTS.items()]
    return [
        CausalClass(name, cls, str(getattr(transformers, cls).config_class.model_type), special)
        for name, cls, special in sorted(wanted, key=lambda row: row[:2])
    ]


def tiny_model(kind: CausalClass, seed: int = 0) -> PreTrainedModel:
    """A random model of a class; the same one every time.

    Raises:
        Exception: whatever transformers raises where it cannot build the model from these sizes.
    """
    import transformers

    made = getattr(transformers, kind.cls)
    model: PreTrainedModel = made(_tiny_config(made.config_class, kind.special)).eval()
    stream = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=stream)
        parameter.data = _WEIGHT * noise if parameter.ndim > 1 else parameter.data + _NOISE * noise
    return model


def _tiny_config(kind: type[PreTrainedConfig], special: dict[str, Any]) -> PreTrainedConfig:
    """A configuration of which every size that has a known name is small; those inside of it, too."""
    try:
        fields = dict(vars(kind()))
    except Exception:  # its own defaults may not fit together
        fields = {name: None for part in kind.__mro__ for name in vars(part).get("__annotations__", {})}
    sizes = {name: size for name, size in SIZES.items() if name in fields or name in kind.attribute_map}
    if fields.get("attention_chunk_size") is None:
        sizes.pop("attention_chunk_size", None)  # every decoder's cache would be cut into chunks
    if "kv_lora_rank" in fields:
        sizes["num_key_value_heads"] = HEADS  # compressed keys are expanded for each head
    parts = {name: value for name, value in fields.items() if isinstance(value, PreTrainedConfig)}
    sizes |= {name: value for name, value in special.items() if name not in parts}
    for name, part in parts.items():
        sizes[name] = _tiny_config(type(part), special.get(name, {})).to_dict()
    config = kind(**sizes)
    types = set(getattr(config, "layer_types", None) or ())
    if "layer_types" not in special and "sliding_attention" in types <= set(_MIXED):
        config = kind(**sizes | {"layer_types": _MIXED})
    return config


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with a word for each token of a tiny model."""
    words = {"<s>": 0, "</s>": 1, "<unk>": 2} | {f"w{token}": token for token in range(3, VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
    )
