"""The Gymnasium environments; importing `polar_env` registers them."""

from polar_env.envs.checker import check_vector_env
from polar_env.envs.episode import Episode, ProgramRules
from polar_env.envs.program_env import ProgramEnv
from polar_env.envs.vector_env import ProgramVectorEnv

__all__ = ["Episode", "ProgramEnv", "ProgramRules", "ProgramVectorEnv", "check_vector_env"]
