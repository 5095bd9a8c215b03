"""The frozen LLM: loading it, and executing any program of its layers exactly."""

from polar_env.llm.frozen import FrozenLLM
from polar_env.llm.loading import load_llm
from polar_env.llm.slots import Slot

__all__ = ["FrozenLLM", "Slot", "load_llm"]
