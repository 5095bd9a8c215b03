"""A model's structure: where its layers stand, what keeps it from being executed layer by layer, and restacking.

Nothing here runs a layer. Models are never changed: whatever needs other layers gets a shallow copy that shares the
weights.
"""

from __future__ import annotations

import copy
import inspect

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from polar_env.errors import ModelError
from polar_env.llm.families import RESTACKED_CONFIGS
from polar_env.program import Program

__all__ = ["find_decoder", "find_layers", "renumbered", "restacked", "windows_of", "with_layers"]

ATTENTION = ("sdpa", "eager")
"""Attention implementations that take one cache slot for each position."""


def find_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder's list of layers.

    Raises:
        ModelError: if the model is no decoder with one list of layers.
    """
    layers = model.get_submodule(_path_of_layers(model))
    assert isinstance(layers, nn.ModuleList)
    return layers


def find_decoder(model: PreTrainedModel) -> nn.Module:
    """The innermost part of a model that takes token ids and holds its list of layers."""
    path = _path_of_layers(model).rpartition(".")[0]
    while not isinstance(model.get_submodule(path), PreTrainedModel):
        path = path.rpartition(".")[0]
    return model.get_submodule(path)


def _path_of_layers(model: PreTrainedModel) -> str:
    """Where the list of layers stands in a model, e.g. ``model.layers``."""
    name = type(model).__name__
    if model.config.is_encoder_decoder:
        raise ModelError(f"{name} is an encoder-decoder; give a decoder-only language model.")
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if not isinstance(depth, int):
        raise ModelError(f"the configuration of {name} does not say how many layers it has; it is no single decoder.")
    lists = [path for path, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == depth]
    outermost = [path for path in lists if not any(path.startswith(f"{other}.") for other in lists)]
    if len(outermost) > 1:  # a model of images and text has layers for both
        decoder = model.get_decoder()
        inside = [path for path, part in model.named_modules() if part is decoder and part is not model]
        outermost = [path for path in outermost if any(path.startswith(f"{other}.") for other in inside)] or outermost
        top = min(path.count(".") for path in outermost)
        outermost = [path for path in outermost if path.count(".") == top]
    if len(outermost) != 1:
        instead = f"{len(outermost)} ({', '.join(outermost)})" if outermost else "none"
        raise ModelError(
            f"{name} should have one list of its {depth} layers, to be executed one by one, but has {instead}; give a "
            "decoder-only language model."
        )
    return str(outermost[0])


def windows_of(model: PreTrainedModel) -> list[int | None]:
    """For each layer the number of tokens that its sliding window spans, or None for full attention.

    Raises:
        ModelError: if a layer keeps anything but keys and values of its own, or the attention implementation is one
            that cannot take a cache slot for each position.
    """
    config = model.config.get_text_config()
    name = type(model).__name__
    if getattr(config, "num_kv_shared_layers", None) or "reuse" in (getattr(config, "kv_sharing_modes", None) or ()):
        raise ModelError(
            f"{name} shares key and value caches between layers, so a position has none of its own. Give a model whose "
            "layers each keep their own keys and values."
        )
    if getattr(config, "hidden_size_per_layer_input", None):
        raise ModelError(
            f"{name} gives every layer an input of its own, made from the tokens, so a layer has no clear meaning at "
            "another place."
        )
    if _attends_to_an_encoder(model):
        raise ModelError(f"{name} attends to an encoder in its layers; give a decoder-only language model.")
    attention = config._attn_implementation
    if attention not in ATTENTION:
        raise ModelError(
            f"attention implementation '{attention}' cannot take one cache slot for each position. Load the model with "
            f"attn_implementation='{ATTENTION[0]}' (or '{ATTENTION[1]}')."
        )
    layers = DynamicCache(config=config).layers
    for index, layer in enumerate(layers):
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise ModelError(
                f"layer {index} of {name} keeps {_memory_of(layer)}; only attention layers, which keep keys and values "
                "for each token and nothing else, can be executed in any order."
            )
    if "past_key_values" not in inspect.signature(find_decoder(model).forward).parameters:
        raise ModelError(
            f"{name} takes no cache of keys and values, so a position cannot keep its own of earlier tokens."
        )
    return [getattr(layer, "sliding_window", None) for layer in layers]


_OTHER_MEMORIES = {
    "DynamicIndexedLayer": "keys of an index beside keys and values",
    "LinearAttentionAndFullAttentionLayer": "a recurrent state beside keys and values",
    "LinearAttentionAndSlidingWindowAttentionLayer": "a recurrent state beside keys and values",
    "LinearAttentionLayer": "a recurrent state instead of keys and values",
    "DummyLayer": "no keys and values",
    "DynamicLayer": "more than keys and values",
}
"""What the cache layers of transformers keep that are not plain keys and values, by the class that they come from."""


def _memory_of(layer: object) -> str:
    names = (kind.__name__ for kind in type(layer).__mro__)
    return next((_OTHER_MEMORIES[name] for name in names if name in _OTHER_MEMORIES), f"a {type(layer).__name__}")


def _attends_to_an_encoder(model: PreTrainedModel) -> bool:
    """Whether a layer holds weights for the keys and values of another model."""
    names = {name.rpartition(".")[2] for name, _ in find_layers(model).named_modules()}
    flagged = getattr(model.config.get_text_config(), "add_cross_attention", False)
    return bool(flagged) or not names.isdisjoint(("encoder_attn", "crossattention", "cross_attn"))


def with_layers(
    model: PreTrainedModel, layers: list[nn.Module], config: PreTrainedConfig | None = None
) -> PreTrainedModel:
    """A shallow copy of a model that shares all its weights but has other layers, and maybe another configuration."""
    *path, name = _path_of_layers(model).split(".")
    shell = at = shallow_copy(model)
    for part in path:
        child = shallow_copy(getattr(at, part))
        setattr(at, part, child)
        at = child
        if config is not None and "config" in vars(child):
            whole = isinstance(vars(child)["config"], type(config))
            vars(child)["config"] = config if whole else config.get_text_config()
    setattr(at, name, nn.ModuleList(layers))
    if config is not None:
        shell.config = config  # type: ignore[assignment]
        if "first_kv_shared_layer_idx" in vars(at):  # Gemma-4 counts there from which layer on caches are shared
            vars(at)["first_kv_shared_layer_idx"] = len(layers)
    return shell  # type: ignore[return-value]


def restacked(model: PreTrainedModel, program: Program) -> PreTrainedModel:
    """A model of the same class whose layers are the program's, sharing all weights.

    Each position has a layer object with an index of its own (``layer_idx``, in old families ``layer_id``), so
    transformers' caches give it its own slot.
    """
    layers = find_layers(model)
    config = restacked_config(model.config, program)
    text_config = config.get_text_config()
    positions = [renumbered(layers[layer], i, text_config) for i, layer in enumerate(program.layers)]
    stacked = with_layers(model, positions, config)
    stacked.generation_config = copy.deepcopy(model.generation_config)
    return stacked


def restacked_config(config: PreTrainedConfig, program: Program) -> PreTrainedConfig:
    """The configuration of a model whose layers are the program's.

    A list with an entry for each layer (``layer_types`` and its like) is put into the program's order; what a family
    says in another way stands in `RESTACKED_CONFIGS`.
    """
    made = copy.deepcopy(config)
    before, after = config.get_text_config(), made.get_text_config()
    after.num_hidden_layers = len(program)
    for name, value in vars(before).items():
        if isinstance(value, list | tuple) and len(value) == before.num_hidden_layers and name not in _NOT_BY_LAYER:
            setattr(after, name, type(value)(value[layer] for layer in program.layers))
    if before.model_type in RESTACKED_CONFIGS:
        RESTACKED_CONFIGS[before.model_type](before, after, program)
    return made


_NOT_BY_LAYER = ("architectures", "eos_token_id")
"""Lists of a configuration that may happen to be as long as the model is deep."""


def renumbered(module: nn.Module, index: int, config: PreTrainedConfig) -> nn.Module:
    """A shallow copy of a layer in which every part that holds its index or its configuration holds another one."""
    copied = shallow_copy(module)
    own = {"layer_idx": index, "layer_id": index, "config": config}
    vars(copied).update({name: value for name, value in own.items() if name in vars(copied)})
    for name, child in module.named_children():
        if any(own.keys() & vars(part).keys() for part in child.modules()):
            setattr(copied, name, renumbered(child, index, config))
    return copied


def shallow_copy(module: nn.Module) -> nn.Module:
    """A copy that shares parameters and submodules but can be given other submodules, and hooks of its own."""
    copied = copy.copy(module)
    vars(copied).update({name: copy.copy(value) for name, value in vars(module).items() if isinstance(value, dict)})
    return copied
