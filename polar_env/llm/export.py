"""A fixed program as an ordinary transformers model: in memory, or as a checkpoint that needs nothing of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from polar_env.errors import ConfigError, ModelError
from polar_env.llm.structure import find_layers, restacked
from polar_env.program import Program
from polar_env.tables import read_json, write_whole, writing_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from polar_env.llm.frozen import FrozenLLM

__all__ = ["RECORD", "RECORD_KEY", "as_model", "export_gguf", "export_program", "tolerance_of"]

RECORD = "polar-program.json"
"""Says beside a checkpoint which program of which model it is."""
RECORD_KEY = "polar."
"""In a GGUF file, what the keys of the same record begin with."""


def as_model(llm: FrozenLLM, program: Program) -> PreTrainedModel:
    """A model of the same class whose layers are the program's; whatever takes a transformers model takes it.

    It shares its weights with ``llm``, so it costs no memory, and changing one changes the other; ``train()`` reaches
    the LLM's own parts. ``generate``, ``pipeline`` and ``config.save_pretrained`` work as ever; to save the whole model
    use `export_program`, since transformers refuses to save a layer that stands in two places.

    Args:
        llm: the frozen LLM.
        program: the program, ``K`` positions; the model has ``K`` layers.

    Raises:
        ProgramError: if the program does not fit the model.
    """
    return restacked(llm.model, program.check(llm.depth))


def tolerance_of(dtype: torch.dtype, largest_logit: float) -> float:
    """Difference of logits that rounding explains: absolute in float32 and float64, else a share of the largest."""
    return {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, 2**-6 * largest_logit)


def export_program(llm: FrozenLLM, program: Program, folder: Path) -> float:
    """Save a program as a checkpoint of its own: only the layers that it executes, a copy for each time.

    Plain transformers loads it (``AutoModelForCausalLM.from_pretrained(folder)``).

    Args:
        llm: the frozen LLM.
        program: the program.
        folder: where to; made, and empty until now.

    Returns:
        Largest difference of logits between the program and the checkpoint, loaded again by plain transformers.

    Raises:
        ProgramError: if the program does not fit the model.
        ConfigError: if there is something in the folder.
        ModelError: if plain transformers makes another model of the checkpoint, because the family's configuration says
            in a way of its own what each layer is. Nothing is left in the folder.
    """
    model = as_model(llm, program)
    with writing_folder(folder) as fresh:
        return _write(llm, program, model, fresh)


def export_gguf(llm: FrozenLLM, program: Program, path: Path, kind: str = "float32") -> None:
    """Save a program as a GGUF file: only the layers that it executes, a copy for each time.

    Args:
        llm: the frozen LLM.
        program: the program.
        path: the file; new.
        kind: type of the matrices, one of `polar_env.llm.gguf_file.GGUF_TYPES`.

    Raises:
        ProgramError: if the program does not fit the model.
        ConfigError: if the file exists.
        ModelError: naming the part that the format cannot hold.
    """
    from polar_env.llm.gguf_file import write_gguf

    if path.exists():
        raise ConfigError(f"{path} exists; give a new file, or delete it first.")
    about = {RECORD_KEY + name: value for name, value in (_record(llm, program) | {"kind": kind}).items()}
    write_gguf(as_model(llm, program), llm.tokenizer, path, kind, about)


def _record(llm: FrozenLLM, program: Program) -> dict[str, str]:
    """Which program of which model an export is."""
    return {"program": str(program), "model": llm.name, "fingerprint": llm.fingerprint, "dtype": llm.dtype_name}


def _write(llm: FrozenLLM, program: Program, model: PreTrainedModel, folder: Path) -> float:
    """Write all files, and see by how much the logits of what plain transformers loads differ."""
    model.save_pretrained(folder, state_dict=_unshared_state(model))
    llm.tokenizer.save_pretrained(folder)
    _add_names_of_version_4(folder)
    record: dict[str, Any] = {**_record(llm, program), "layers": list(program.layers), "depth": llm.depth}
    write_whole(folder / RECORD, json.dumps(record, indent=2).encode())
    kind = type(model).__name__
    mend = "Add the family to polar_env/llm/families, which says how its configuration names each layer."
    try:
        loaded = type(model).from_pretrained(folder, dtype=llm.dtype, device_map=llm.device).eval()
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"plain transformers cannot load the exported {kind}: {error} {mend}") from error
    ids = torch.arange(16, device=llm.device)[None] % llm.vocabulary_size
    with torch.inference_mode():
        ours, theirs = llm.logits(ids, program), loaded(input_ids=ids).logits
    difference = float((ours - theirs).abs().max())
    if not difference <= tolerance_of(llm.dtype, float(ours.abs().max())):
        raise ModelError(
            f"plain transformers makes another model of the exported {kind}: logits differ by {difference:.2g}. {mend}"
        )
    return difference


def _add_names_of_version_4(folder: Path) -> None:
    """Add the names that transformers 4, and engines that read its folders, know for what version 5 calls otherwise.

    Without them version 4 takes its defaults for the rotary embedding, and computes another model.
    """
    config = read_json(folder / "config.json")
    rotary = config.get("rope_parameters") or {}
    local, whole = rotary.get("sliding_attention"), rotary.get("full_attention", rotary)
    if "rope_theta" in whole:
        config["rope_theta"] = whole["rope_theta"]
        config["rope_scaling"] = None if whole.get("rope_type", "default") == "default" else whole
    if "partial_rotary_factor" in whole:
        config["partial_rotary_factor"] = whole["partial_rotary_factor"]
    if config["model_type"] == "gpt_neox" and "rope_theta" in whole:
        config |= {"rotary_emb_base": whole["rope_theta"], "rotary_pct": whole.get("partial_rotary_factor", 1.0)}
    if local and "rope_theta" in local:
        config["rope_local_base_freq"] = local["rope_theta"]
    config["torch_dtype"] = config.get("dtype")
    write_whole(folder / "config.json", json.dumps(config, indent=2, sort_keys=True).encode())
    of_tokenizer = folder / "tokenizer_config.json"
    tokenizer = read_json(of_tokenizer) if of_tokenizer.is_file() else {}
    if tokenizer.get("tokenizer_class") == "TokenizersBackend":
        tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(tokenizer.get("extra_special_tokens"), list):
        tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
    if tokenizer:
        write_whole(of_tokenizer, json.dumps(tokenizer, indent=2, sort_keys=True).encode())


def _unshared_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights, with a copy of its own for every layer but the first that uses them."""
    layers = find_layers(model)
    of_layers = {id(tensor) for tensor in (*layers.parameters(), *layers.buffers())}
    seen: set[int] = set()
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        is_repeat = id(tensor) in of_layers and id(tensor) in seen
        seen.add(id(tensor))
        state[name] = tensor.detach().clone() if is_repeat else tensor.detach()
    return state
