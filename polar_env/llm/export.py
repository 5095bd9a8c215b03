"""A fixed program as an ordinary transformers model: in memory, or as a checkpoint that needs nothing of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from polar_env.errors import ConfigError
from polar_env.llm.structure import find_layers, restacked
from polar_env.program import Program
from polar_env.tables import write_whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from polar_env.llm.frozen import FrozenLLM

__all__ = ["RECORD", "as_model", "export_program"]

RECORD = "polar-program.json"
"""Says beside a checkpoint which program of which model it is."""


def as_model(llm: FrozenLLM, program: Program) -> PreTrainedModel:
    """A model of the same class whose layers are the program's; whatever takes a transformers model takes it.

    It shares its weights with ``llm``, so it costs no memory, and changing one changes the other. ``generate``,
    ``pipeline`` and ``config.save_pretrained`` work as ever; to save the whole model use `export_program`, since
    transformers refuses to save a layer that stands in two places.

    Args:
        llm: the frozen LLM.
        program: the program, ``K`` steps; the model has ``K`` layers.

    Raises:
        ProgramError: if the program does not fit the model.
    """
    return restacked(llm.model, program.check(llm.depth))


def export_program(llm: FrozenLLM, program: Program, folder: Path) -> None:
    """Save a program as a checkpoint of its own: only the layers that it executes, a copy for each time.

    Plain transformers loads it (``AutoModelForCausalLM.from_pretrained(folder)``).

    Args:
        llm: the frozen LLM.
        program: the program.
        folder: where to; made, and empty until now.

    Raises:
        ProgramError: if the program does not fit the model.
        ConfigError: if there is something in the folder.
    """
    model = as_model(llm, program)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty; give a new folder, or delete it first.")
    model.save_pretrained(folder, state_dict=_unshared_state(model))
    llm.tokenizer.save_pretrained(folder)
    record = {
        "program": str(program),
        "layers": list(program.layers),
        "model": llm.name,
        "fingerprint": llm.fingerprint,
        "depth": llm.depth,
    }
    write_whole(folder / RECORD, json.dumps(record, indent=2).encode())


def _unshared_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights, with a copy of its own for every layer but the first that uses them."""
    of_layers = {id(p) for p in find_layers(model).parameters()}
    seen: set[int] = set()
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        is_repeat = id(tensor) in of_layers and id(tensor) in seen
        seen.add(id(tensor))
        state[name] = tensor.detach().clone() if is_repeat else tensor.detach()
    return state
