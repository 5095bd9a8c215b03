from .live import LiveAsks, LiveWorld
from .recorded import NotRecordedError, RecordedWorld, WorldCard, open_world, write_world
from .reduction import ReducedAsks, Reduction
from .world import AskWorld, ObservedStates, World

__all__ = [
    "AskWorld",
    "LiveAsks",
    "LiveWorld",
    "NotRecordedError",
    "ObservedStates",
    "RecordedWorld",
    "ReducedAsks",
    "Reduction",
    "World",
    "WorldCard",
    "open_world",
    "write_world",
]
