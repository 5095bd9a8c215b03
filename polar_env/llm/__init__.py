"""The frozen LLM: loading it, executing any program of its layers exactly, generating, and exporting programs."""

from polar_env.llm.cache import ProgramCache
from polar_env.llm.export import as_model, export_program
from polar_env.llm.frozen import FrozenLLM
from polar_env.llm.generation import Generation
from polar_env.llm.loading import load_llm
from polar_env.llm.slots import Slot

__all__ = ["FrozenLLM", "Generation", "ProgramCache", "Slot", "as_model", "export_program", "load_llm"]
