"""Families whose configuration says in a way of its own what each layer is.

Executing a program needs nothing from here: any decoder's own forward says what its layers take. Only a model whose
layers are re-stacked (`polar_env.llm.as_model`, `polar export`) needs a configuration that describes the new stack.
A family that needs help is one file beside this one and one row in the table.
"""

from collections.abc import Callable
from typing import Any

from polar_env.llm.families import qwen2_moe
from polar_env.program import Program

__all__ = ["RESTACKED_CONFIGS"]

RESTACKED_CONFIGS: dict[str, Callable[[Any, Any, Program], None]] = {
    "qwen2_moe": qwen2_moe.restack,
    "qwen3_moe": qwen2_moe.restack,
}
"""By ``model_type``: told the text configuration and its restacked copy, mends the copy."""
