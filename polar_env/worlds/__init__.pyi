from .live import LiveAsks, LiveWorld
from .world import AskWorld, World

__all__ = ["AskWorld", "LiveAsks", "LiveWorld", "World"]
