"""The PPO policy's network, and the agent that a saved policy makes.

Letters: ``H`` the LLM's width, ``D`` its depth, ``B`` a batch, ``N`` questions.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from polar_env.config import Config
from polar_env.envs.episode import Episode, Observation, ProgramRules
from polar_env.errors import ConfigError, FingerprintError
from polar_env.executor import Executor
from polar_env.program import Program
from polar_env.questions import Prompt, Question
from polar_env.runtime import torch_threads
from polar_env.tables import write_whole

if TYPE_CHECKING:
    from sb3_contrib import MaskablePPO

__all__ = [
    "NETWORK",
    "AgentCard",
    "PolicyAgent",
    "ProgramFeatures",
    "load_policy",
    "read_card",
    "save_policy",
    "write_model",
]

CARD, WEIGHTS = "agent.json", "policy.zip"


class ProgramFeatures(BaseFeaturesExtractor):
    """Reads an observation: hidden states standardised by the statistics of the warm start, and the program so far.

    Args:
        observation_space: that of the environment.
        width: size of the features.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, observation_space: spaces.Dict, width: int = 128) -> None:
        super().__init__(observation_space, features_dim=width)
        hidden = int(np.prod(observation_space["hidden"].shape or ()))
        self.depth = int(np.prod(observation_space["program"].shape or ()))
        self.register_buffer("mean", torch.zeros(hidden))  # [2 H]
        self.register_buffer("scale", torch.ones(hidden))  # [2 H]
        self.read_hidden = nn.Linear(hidden, width)
        self.read_program = nn.Linear(2 * self.depth + 2, width)

    def fit(self, hidden: Tensor) -> None:
        """Take mean and scale from hidden states ``[B, 2 H]``."""
        self.mean.copy_(hidden.mean(0))
        self.scale.copy_(hidden.std(0).clamp(min=1e-3))

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Observations of ``B`` states to features ``[B, width]``."""
        hidden = ((observations["hidden"] - self.mean) / self.scale).clamp(-5, 5)  # [B, 2 H]
        # As a number, neighbouring cursors differ by 1 / D only, and what to do next hangs on them.
        cursor = (observations["cursor"][:, 0] * self.depth).round().long()  # [B]
        position = nn.functional.one_hot(cursor, self.depth + 1)  # [B, D + 1]
        program = torch.cat([observations["program"], position, observations["budget"]], dim=-1)  # [B, 2 D + 2]
        return nn.functional.silu(self.read_hidden(hidden) + self.read_program(program))


NETWORK: dict[str, Any] = {
    "features_extractor_class": ProgramFeatures,
    "net_arch": [64],
    "activation_fn": nn.SiLU,
}
"""The network of a policy, as Stable-Baselines3 takes it; nothing of the LLM is in it."""


class AgentCard(Config):
    """What must be known to use a saved policy; it holds no LLM, only what it was trained with."""

    name: str
    """Name of the row in a report."""
    model: str
    """How the LLM was called."""
    dtype: str
    """The LLM's floating-point type."""
    fingerprint: str
    """The LLM's fingerprint."""
    depth: int
    """The LLM's depth."""
    prompt: Prompt
    """The prompt that questions are asked under."""
    rules: dict[str, Any]
    """Arguments of `ProgramRules`."""
    questions: list[str]
    """The question specs of the training."""
    train_texts: list[str]
    """The questions that it was trained on; they are refused in an evaluation."""
    best_static: str
    """The best static program on the train questions."""
    config: dict[str, Any]
    """The resolved configuration of the training."""
    validation: dict[str, float]
    """Its score on the validation questions: pass_at_1, cost, reward."""
    chosen_step: int
    """PPO's step at which this policy was best on the validation questions; 0 is the warm start itself."""


class PolicyAgent:
    """Plays the policy's most likely action at every step; further proposals are sampled.

    Args:
        model: a trained MaskablePPO.
        rules: the environment's rules, which hold the executor.
        name: name of the row in a report.
    """

    def __init__(self, model: MaskablePPO, rules: ProgramRules, name: str = "ppo") -> None:
        self.model, self.rules, self.name = model, rules, name

    def propose(self, questions: Sequence[Question], k: int = 1) -> list[list[Program]]:
        """``k`` programs for each question: the greedy one, then samples."""
        columns = [self._play(questions, deterministic=i == 0) for i in range(k)]
        return [list(row) for row in zip(*columns, strict=True)]

    def _play(self, questions: Sequence[Question], deterministic: bool) -> list[Program]:
        """One episode for each question, without verdicts: the answer is not read out here."""
        language = self.rules.language
        episodes = [Episode(question) for question in questions]
        while running := [i for i, e in enumerate(episodes) if not e.draft.finished]:
            current = [episodes[i] for i in running]
            observation = self.rules.observe(current)
            masks = np.stack([self.rules.mask(episode) for episode in current])
            actions = self.act(observation, masks, deterministic)
            for i, action in zip(running, actions, strict=True):
                episodes[i] = replace(episodes[i], draft=language.apply(episodes[i].draft, int(action)))
        return [episode.program for episode in episodes]

    @torch.inference_mode()
    def act(self, observation: Observation, masks: NDArray[np.bool_], deterministic: bool) -> NDArray[np.int64]:
        """An action for each row: what the model's ``predict`` gives, without its detours."""
        policy = self.model.policy
        with torch_threads(1):
            features: Any = policy.extract_features({k: torch.as_tensor(v) for k, v in observation.items()})
            if isinstance(features, tuple):  # where actor and critic have an extractor each
                features = features[0]
            logits = policy.action_net(policy.mlp_extractor.forward_actor(features))  # [B, A]
            logits = logits.masked_fill(~torch.as_tensor(masks), -torch.inf)
            actions = logits.argmax(-1) if deterministic else torch.multinomial(logits.softmax(-1), 1)[:, 0]
        return np.asarray(actions.numpy())


def save_policy(model: MaskablePPO, card: AgentCard, folder: Path) -> None:
    """Save a policy and its card; the card last, so that a folder with a card is whole."""
    write_model(model, folder / WEIGHTS)
    write_whole(folder / CARD, card.model_dump_json(indent=2).encode())


def write_model(model: MaskablePPO, path: Path) -> None:
    """Save a model so that the file is there whole or not at all."""
    buffer = io.BytesIO()
    model.save(buffer)
    write_whole(path, buffer.getvalue())


def read_card(folder: Path) -> AgentCard:
    """Read an agent's card.

    Raises:
        ConfigError: if the folder holds no agent.
    """
    if not (folder / CARD).is_file():
        raise ConfigError(f"{folder} holds no agent ({CARD} is missing); `polar train --out DIR` makes DIR/agents/ppo.")
    return AgentCard.model_validate_json((folder / CARD).read_text(encoding="utf-8"))


def load_policy(folder: Path, executor: Executor) -> PolicyAgent:
    """Load a saved agent for an executor.

    Raises:
        ConfigError: if the folder holds no agent.
        FingerprintError: if it was trained with another LLM or prompt.
    """
    from sb3_contrib import MaskablePPO

    card = read_card(folder)
    if card.fingerprint != executor.llm.fingerprint:
        raise FingerprintError(
            f"the agent in {folder} was trained with '{card.model}' in {card.dtype} ({card.fingerprint}); this is "
            f"'{executor.llm.name}' in {executor.llm.dtype_name} ({executor.llm.fingerprint}). Pass that model with "
            "--model and that type with --dtype, or train an agent for this one."
        )
    if card.prompt != executor.prompt:
        raise FingerprintError(
            f"the agent in {folder} was trained under prompt '{card.prompt.name}' with other examples than this one "
            f"('{executor.prompt.name}'); leave --prompt away to use the agent's own."
        )
    rules = ProgramRules(executor, [_PLACEHOLDER], **card.rules)
    return PolicyAgent(MaskablePPO.load(folder / WEIGHTS, device="cpu"), rules, card.name)


_PLACEHOLDER = Question(text="0", answer="0")
"""Rules draw episodes from questions; an agent that is only asked to propose draws none."""
