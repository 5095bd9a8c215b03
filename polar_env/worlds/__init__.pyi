from .live import LiveAsks, LiveWorld
from .recorded import RecordedWorld, open_world, world_folder, write_world
from .recorded_asks import NotRecordedError, RecordedAsks, Unstable, WorldCard
from .reduction import ReducedAsks, Reduction
from .world import AskWorld, ObservedStates, World

__all__ = [
    "AskWorld",
    "LiveAsks",
    "LiveWorld",
    "NotRecordedError",
    "ObservedStates",
    "RecordedAsks",
    "RecordedWorld",
    "ReducedAsks",
    "Reduction",
    "Unstable",
    "World",
    "WorldCard",
    "open_world",
    "world_folder",
    "write_world",
]
