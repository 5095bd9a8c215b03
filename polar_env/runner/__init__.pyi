from .answers import Answer
from .choosing import no_verdicts_for
from .decoding import Decoding, Generation
from .generation import generate
from .profile import DeviceProfile
from .runner import Runner
from .stats import ExecutionStats
from .store import VerdictStore
from .verdict import NO_CHANCE, Verdict

__all__ = [
    "NO_CHANCE",
    "Answer",
    "Decoding",
    "DeviceProfile",
    "ExecutionStats",
    "Generation",
    "Runner",
    "Verdict",
    "VerdictStore",
    "generate",
    "no_verdicts_for",
]
