"""The settings of published predictors; defaults are the papers' where they fit a recorded world."""

from __future__ import annotations

from pydantic import Field, model_validator

from polar_env.config import Config

__all__ = ["AblrConfig", "BlockDropConfig", "DrLLMConfig", "PeerConfig", "PolarConfig"]


class PeerConfig(Config):
    """What all of them are told."""

    look: int = Field(default=4, ge=0)
    """Layers of the identity that run before the choice; their hidden state is read."""
    epochs: int = Field(default=25, ge=1)
    """Passes over the questions."""
    batch_size: int = Field(default=64, ge=1)
    """Questions in a gradient step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size of AdamW."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of AdamW."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of hidden units that are left out in a gradient step."""


class PolarConfig(PeerConfig):
    """PoLar (arXiv 2606.06574), as its released code and sample command set it, but narrower and trained longer."""

    epochs: int = Field(default=60, ge=1)
    """Passes over the questions, all right programs of a question at once; in the released sample they are 10."""
    batch_size: int = Field(default=16, ge=1)
    """Questions in a gradient step."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Largest step size, 5e-4 in the released sample; it rises over the warm-up and falls like a cosine."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW."""
    warmup: int = Field(default=10, ge=0)
    """Steps of the warm-up."""
    width: int = Field(default=64, ge=4)
    """Width of the predictor; the paper's is 256."""
    heads: int = Field(default=4, ge=1)
    """Heads of each attention; they divide the width."""
    blocks: int = Field(default=2, ge=1)
    """Transformer blocks over the layers."""
    length_preference: float = Field(default=0.05, ge=0)
    """A program of K layers weighs exp(-this * K)."""
    identity_weight: float = Field(default=0.3, ge=0, le=1)
    """Weight of the identity where a shorter program is right."""

    @model_validator(mode="after")
    def _heads_divide(self) -> PolarConfig:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} do not divide the width {self.width}")
        return self


class DrLLMConfig(PeerConfig):
    """Dr.LLM (arXiv 2510.12773)."""

    hidden: int = Field(default=128, ge=1)
    """Hidden units of each layer's router."""
    focus: float = Field(default=2.0, ge=0)
    """The focal loss's gamma: how much less a choice counts that is likely already."""
    balance: float = Field(default=0.999, ge=0, lt=1)
    """The beta of the effective number of examples, by which rare choices count more."""


class BlockDropConfig(PeerConfig):
    """BlockDrop (arXiv 1711.08393)."""

    epochs: int = Field(default=800, ge=1)
    """Passes over the questions."""
    batch_size: int = Field(default=256, ge=1)
    """Questions in a gradient step."""
    hidden: int = Field(default=128, ge=1)
    """Hidden units of the policy."""
    penalty: float = Field(default=1.0, ge=0)
    """A wrong answer's reward is minus this; a right one's is 1 minus the square of the share of layers kept."""
    bound: float = Field(default=0.8, gt=0.5, lt=1)
    """While it learns, the policy keeps a layer with at most this probability, and drops it with at most this."""
    entropy: float = Field(default=0.1, ge=0)
    """Weight of the policy's entropy."""


class AblrConfig(PeerConfig):
    """The adaptive block-loop router."""

    hidden: int = Field(default=128, ge=1)
    """Hidden units of the router."""
    price: float = Field(default=0.0, ge=0)
    """Reward that D layers must add."""
