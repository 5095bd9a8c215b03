"""``polar export``: a program as a checkpoint or a GGUF file, an agent as a ``custom_generate`` folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from polar_env.cli.bars import console
from polar_env.cli.flags import ModelConfig
from polar_env.cli.opening import open_llm
from polar_env.errors import ConfigError
from polar_env.program import Program

__all__ = ["CONFIG", "EXAMPLES", "ExportConfig", "run"]


class ExportConfig(ModelConfig):
    """Take a program or an agent home into another engine.

    --program: only the layers that it executes, in its order, as a folder that plain transformers loads, or as a file
    OUT.gguf for llama.cpp and its kin; neither needs this package. --agent: a folder for transformers' custom_generate;
    it needs this package, which executes the layers.
    """

    out: Annotated[Path, tyro.conf.Positional] = Path()
    """Folder, new or empty; or a new file that ends in .gguf."""
    program: str = ""
    """The program, e.g. "0-12 14-29"."""
    agent: str = ""
    """The name or the folder of a saved agent; one that weighs layers takes another price behind it, skills@1.8."""
    dtype: str = "float32"
    """Floating-point type of the weights."""
    quantise: Literal["", "q8_0"] = ""
    """.gguf: store the matrices in 8 bits."""


CONFIG = ExportConfig
EXAMPLES = (
    'polar export runs/exported --program "0-12 14-29"',
    'polar export runs/exported.gguf --program "0-12 14-29" --dtype float32',
    "polar export runs/skills-generate --agent skills",
)


def run(config: ExportConfig) -> dict[str, Any]:
    """Export; of a folder, load it again with plain transformers, and compare."""
    if bool(config.program) == bool(config.agent) or config.out == Path():
        raise ConfigError(
            'give a folder or a .gguf file, and a program or an agent, e.g. polar export --program "0-12 14-29" OUT.'
        )
    if config.agent:
        return _export_agent(config)
    is_file = config.out.suffix == ".gguf"
    if config.quantise and not is_file:
        raise ConfigError("--quantise is for GGUF; give OUT.gguf, or leave it out.")
    from polar_env.llm import export_gguf, export_program

    llm = open_llm(config.model_name, config.dtype_name, config.device)
    program = Program.parse(config.program, llm.depth)
    with console.status(f"writing {config.out}"):
        if is_file:
            export_gguf(llm, program, config.out, config.quantise or llm.dtype_name)
            checked, difference = f"check it: polar verify --engine {config.out}", None
        else:
            difference = export_program(llm, program, config.out)
            checked = f"loaded by plain transformers its logits differ by {difference:.1e}"
    by_layer = [sum(p.numel() for p in layer.parameters()) for layer in llm.layers]
    before = llm.model.num_parameters()
    after = before - sum(by_layer) + sum(by_layer[layer] for layer in program.layers)
    console.print(
        f"{config.out}: {len(program)} of {llm.depth} layers, {after / 1e6:.1f} M parameters "
        f"({before / 1e6:.1f} M before); {checked}",
        markup=False,
    )
    return {
        "out": str(config.out),
        "program": str(program),
        "layers": len(program),
        "max_logit_difference": difference,
        "parameters": after,
        "parameters_before": before,
    }


def _export_agent(config: ExportConfig) -> dict[str, Any]:
    from agents.custom_generate import write_custom_generate
    from agents.listing import find_saved

    own = ExportConfig()
    flags = ("model", "dtype", "device", "quantise")
    given = [f"--{name}" for name in flags if getattr(config, name) != getattr(own, name)]
    if given or config.out.suffix == ".gguf":
        raise ConfigError(
            "an agent is exported as a folder and without its LLM; "
            f"leave out {' and '.join(given) or config.out.suffix}, or give a program."
        )
    folder, price = find_saved(config.agent)
    write_custom_generate(folder, config.out, price)
    console.print(
        f"{config.out}: model.generate(questions=[...], tokenizer=tokenizer, custom_generate='{config.out}', "
        "trust_remote_code=True)",
        markup=False,
    )
    return {"out": str(config.out), "agent": config.agent}
