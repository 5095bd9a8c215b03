"""polar-env: choose, for each question, which layers of a frozen LLM to run.

Importing this package registers its environments with Gymnasium: ``polar_env:ProgramOfLayers-v0`` over an LLM, and
those of `RECORDED` over recorded worlds. Nothing heavy is imported until used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polar_env.errors import PolarError
from polar_env.program import Program

if TYPE_CHECKING:
    from polar_env.envs import EnvConfig, ProgramEnv, ProgramVectorEnv, check_vector_env
    from polar_env.llm import FrozenLLM, load_llm
    from polar_env.questions import Ask, Prompt, Prompts, Question, load_questions
    from polar_env.runner import Generation, Runner, Verdict, generate
    from polar_env.worlds import LiveWorld

__version__ = "0.1.0"
__all__ = [
    "Ask",
    "EnvConfig",
    "FrozenLLM",
    "Generation",
    "LiveWorld",
    "PolarError",
    "Program",
    "ProgramEnv",
    "ProgramVectorEnv",
    "Prompt",
    "Prompts",
    "Question",
    "Runner",
    "Verdict",
    "check_vector_env",
    "generate",
    "load_llm",
    "load_questions",
]

_LAZY = {
    "Ask": "questions",
    "EnvConfig": "envs",
    "FrozenLLM": "llm",
    "Generation": "runner",
    "LiveWorld": "worlds",
    "ProgramEnv": "envs",
    "ProgramVectorEnv": "envs",
    "Prompt": "questions",
    "Prompts": "questions",
    "Question": "questions",
    "Runner": "runner",
    "Verdict": "runner",
    "check_vector_env": "envs",
    "generate": "runner",
    "load_llm": "llm",
    "load_questions": "questions",
}


_SKILLS = {"world": "skills-smollm2-135m-v0"}
RECORDED: dict[str, dict[str, Any]] = {
    "Skills-SmolLM2-135M": _SKILLS,
    "SkillsSegments-SmolLM2-135M": _SKILLS | {"form": "segments"},
    "TwoDigitAddition-SmolLM2-135M": _SKILLS | {"task": "two-digit addition"},
    "TwoPlusOneDigitAddition-SmolLM2-135M": _SKILLS | {"task": "two-plus-one-digit addition"},
    "TwoMinusOneDigitSubtraction-SmolLM2-135M": _SKILLS | {"task": "two-minus-one-digit subtraction"},
    "TwoByOneDigitMultiplication-SmolLM2-135M": _SKILLS | {"task": "two-by-one-digit multiplication"},
    "ThreeTermSums-SmolLM2-135M": _SKILLS | {"task": "three-term sums"},
    "Control-SmolLM2-135M": _SKILLS | {"shuffled": True},
    "Knowledge-SmolLM2-135M": {"world": "knowledge-smollm2-135m-v0"},
    "Words-SmolLM2-135M": {"world": "words-smollm2-135m-v0"},
    "Skills-Gemma3-270M": {"world": "skills-gemma3-270m-v0"},
}
"""Environments over recorded worlds, by their ids without version, with their arguments."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'polar_env' has no attribute '{name}'")
    return getattr(import_module(f"polar_env.{_LAZY[name]}"), name)


def _register() -> None:
    import gymnasium as gym

    gym.register(
        id="ProgramOfLayers-v0",
        entry_point="polar_env.envs.program_env:ProgramEnv",
        vector_entry_point="polar_env.envs.vector_env:ProgramVectorEnv",
    )
    for name, settings in RECORDED.items():
        gym.register(
            id=f"{name}-v0",
            entry_point="polar_env.envs.world_env:WorldEnv",
            vector_entry_point="polar_env.envs.world_env:WorldVectorEnv",
            kwargs=settings,
        )


_register()
