"""``polar export --program "0-12 14-29" OUT``: a fixed program as a checkpoint that plain transformers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from polar_env.cli.bars import console
from polar_env.cli.flags import ModelConfig
from polar_env.cli.opening import open_llm
from polar_env.errors import ConfigError
from polar_env.program import Program

__all__ = ["CONFIG", "EXAMPLES", "ExportConfig", "run"]


class ExportConfig(ModelConfig):
    """Save a program as a stand-alone checkpoint: only the layers that it executes, in its order."""

    out: Annotated[Path, tyro.conf.Positional] = Path()
    """Folder for the checkpoint; new or empty."""
    program: str = ""
    """The program, e.g. "0-12 14-29"."""
    dtype: str = "auto"
    """Floating-point type of the checkpoint; auto is the model's own."""


CONFIG = ExportConfig
EXAMPLES = ('polar export runs/exported --program "0-12 14-29"',)


def run(config: ExportConfig) -> dict[str, Any]:
    """Export, load again with plain transformers, and compare."""
    if not config.program or config.out == Path():
        raise ConfigError('give a program and a folder, e.g. polar export --program "0-12 14-29" OUT.')
    from polar_env.llm import export_program

    llm = open_llm(config.model_name, config.dtype_name, config.device)
    program = Program.parse(config.program, llm.depth)
    with console.status(f"writing {config.out}"):
        difference = export_program(llm, program, config.out)
    by_layer = [sum(p.numel() for p in layer.parameters()) for layer in llm.layers]
    before = llm.model.num_parameters()
    after = before - sum(by_layer) + sum(by_layer[layer] for layer in program.layers)
    sizes = {"parameters": after, "parameters_before": before}
    console.print(
        f"{config.out}: {len(program)} of {llm.depth} layers, {sizes['parameters'] / 1e6:.1f} M parameters "
        f"({sizes['parameters_before'] / 1e6:.1f} M before); loaded by plain transformers its logits differ by "
        f"{difference:.1e}",
        markup=False,
    )
    return {
        "out": str(config.out),
        "program": str(program),
        "layers": len(program),
        "max_logit_difference": difference,
    } | sizes
