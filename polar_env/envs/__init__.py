"""The Gymnasium environments; importing `polar_env` registers them."""

from polar_env.envs.episode import Episode, ProgramRules
from polar_env.envs.program_env import ProgramEnv
from polar_env.envs.vector_env import ProgramVectorEnv

__all__ = ["Episode", "ProgramEnv", "ProgramRules", "ProgramVectorEnv"]
