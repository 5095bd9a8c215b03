from .checker import check_vector_env
from .config import EnvConfig
from .episode import Episode, ProgramRules
from .observer import Observer
from .program_env import ProgramEnv
from .vector_env import ProgramVectorEnv

__all__ = ["EnvConfig", "Episode", "Observer", "ProgramEnv", "ProgramRules", "ProgramVectorEnv", "check_vector_env"]
