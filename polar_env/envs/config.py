"""The settings of an environment: what `gymnasium.make`, presets, training and agents' cards read and write."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from polar_env.actions import LANGUAGES, ActionLanguage, make_language
from polar_env.config import Config
from polar_env.envs.rewards import Reward, make_reward

__all__ = ["EnvConfig"]


class EnvConfig(Config):
    """What actions do, what is observed, and what is paid."""

    language: str = "layers"
    """Action language: layers, segments, or one that an installed package adds."""
    reward: str = "correctness"
    """What a finished program earns: correctness, or one that an installed package adds; options follow in braces."""
    layer_cost: float = Field(default=0.1, ge=0)
    """Reward paid per executed layer / D: the identity program pays this much."""
    max_layers: int | None = Field(default=None, ge=1)
    """Most layers that a program may execute; None is 2 D."""
    window: int | None = Field(default=4, ge=0)
    """How far from the layer that would come next an executed layer may lie (layers language); None is any layer."""
    observe: Literal["layers", "question"] = "layers"
    """What the policy sees: hidden states after each layer, or of the question before any layer."""
    relative: bool = False
    """Subtract what the identity earns on the same question from the reward: the best policy stays the same, the
    variance of returns shrinks."""
    shaping: float = Field(default=0.0, ge=0)
    """Scale of potential-based shaping by the gold answer's log-probability (Ng et al. 1999); 0 is off."""
    gamma: float = Field(default=1.0, ge=0, le=1)
    """Discount that the shaping assumes."""

    @field_validator("language")
    @classmethod
    def _language_exists(cls, name: str) -> str:
        LANGUAGES.get(name)
        return name

    @field_validator("reward")
    @classmethod
    def _reward_exists(cls, text: str) -> str:
        make_reward(text)
        return text

    def make_language(self, depth: int) -> ActionLanguage:
        """The action language for a model of ``depth`` layers."""
        return make_language(self.language, depth, self.max_layers, self.window if self.language == "layers" else None)

    def make_reward(self) -> Reward:
        """What gives each outcome its reward."""
        return make_reward(self.reward)
