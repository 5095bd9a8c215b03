from .matrix import VerdictMatrix
from .rows import NodeRow, VerdictRow
from .trace_set import TraceSet, new_meta
from .tree import Trace, best_programs

__all__ = ["NodeRow", "Trace", "TraceSet", "VerdictMatrix", "VerdictRow", "best_programs", "new_meta"]
