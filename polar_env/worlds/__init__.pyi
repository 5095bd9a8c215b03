from .live import LiveWorld
from .world import World

__all__ = ["LiveWorld", "World"]
