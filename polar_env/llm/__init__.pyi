from .cache import ProgramCache
from .export import as_model, export_gguf, export_program
from .frozen import FrozenLLM
from .loading import load_llm
from .slots import Slot

__all__ = ["FrozenLLM", "ProgramCache", "Slot", "as_model", "export_gguf", "export_program", "load_llm"]
