"""``polar bench execution``: speed and memory as ratios to a reference in the same run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import tyro
from pydantic import Field

from polar_env.cli.common import console, open_llm
from polar_env.config import Config

__all__ = ["CONFIG", "BenchConfig", "run"]


class BenchConfig(Config):
    """Measure speed and memory beside a reference in the same run."""

    what: Annotated[Literal["execution"], tyro.conf.Positional] = "execution"
    """execution: identity beside plain transformers, shorter programs beside the identity, mixed rows beside one by
    one, memory over many generations."""
    model: str = "smollm2-135m"
    """A named model, a local folder, or a hub id (owner/name)."""
    dtype: str = "float32"
    """Floating-point type that the LLM runs in."""
    device: str = "cpu"
    """Device that the LLM runs on."""
    seconds: Annotated[float, Field(gt=0)] = 20.0
    """About how long each ratio is measured."""
    generations: Annotated[int, Field(ge=20)] = 1000
    """How many short generations look for growing memory."""
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the results as one JSON object on standard output; everything else goes to standard error."""


CONFIG = BenchConfig


def run(config: BenchConfig) -> dict[str, Any]:
    """Run the benchmark; what has been measured appears line by line."""
    from eval.benchmarks.execution import measure_execution

    llm = open_llm(config.model, config.dtype, config.device)

    def note(line: str) -> None:
        console.print(line, markup=False)

    result = measure_execution(llm, config.seconds, config.generations, note).as_json()
    if not config.json_output:
        print("\n".join(f"{key:<24} {value}" for key, value in result.items()))
    return result
