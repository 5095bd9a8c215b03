"""``polar bench execution``: speed and memory as ratios to a reference in the same run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import tyro
from pydantic import Field

from polar_env.cli.common import ModelConfig, console, open_llm

__all__ = ["CONFIG", "BenchConfig", "run"]


class BenchConfig(ModelConfig):
    """Measure speed and memory beside a reference in the same run."""

    what: Annotated[Literal["execution"], tyro.conf.Positional] = "execution"
    """execution: identity beside plain transformers, shorter programs beside the identity, mixed rows beside one by
    one, memory over many generations."""
    seconds: Annotated[float, Field(gt=0)] = 20.0
    """About how long each ratio is measured."""
    generations: Annotated[int, Field(ge=20)] = 1000
    """How many short generations look for growing memory."""


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
