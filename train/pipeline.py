"""From a trace set to saved agents: best static program, imitation, PPO."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from sb3_contrib import MaskablePPO
from stable_baselines3.common.utils import set_random_seed

from agents.policy import AgentCard, save_policy
from polar_env.config import Config
from polar_env.envs.episode import ProgramRules
from polar_env.envs.sb3 import ProgramVecEnv
from polar_env.envs.vector_env import ProgramVectorEnv
from polar_env.errors import FingerprintError
from polar_env.executor import Executor
from polar_env.questions import Question
from train.imitate import ImitationConfig, best_static, demonstrate, imitate, teacher_choice
from train.reinforce import PPOConfig, Score, make_model, reinforce, score
from train.traces import TraceSet
from train.tracking import Tracker

__all__ = ["EnvConfig", "TrainedAgents", "train_agents"]

Report = Callable[[str, int, dict[str, float]], None]
"""Called with the phase, its step, and metrics."""


class EnvConfig(Config):
    """The environment that agents are trained in; see `ProgramRules`."""

    language: str = "layers"
    """Action language: layers or segments."""
    layer_cost: float = Field(default=0.1, ge=0)
    """Reward paid per executed layer / D."""
    max_steps: int | None = None
    """Most layers that a program may execute; by default 2 D."""
    window: int | None = 4
    """How far from the next layer an executed layer may lie (layers language); None is any layer."""
    observe: str = "layers"
    """What the policy sees: hidden states after each layer, or of the question only."""
    relative: bool = True
    """Subtract the identity's verdict from the reward, which shrinks its variance."""
    shaping: float = Field(default=0.0, ge=0)
    """Scale of potential-based shaping by the gold answer's log-probability."""

    def rules(self) -> dict[str, Any]:
        """As arguments of `ProgramRules`."""
        window = self.window if self.language == "layers" else None
        return {**self.model_dump(), "window": window}


@dataclass(frozen=True)
class TrainedAgents:
    """What training made.

    Attributes:
        folder: holds one folder for each agent.
        warm_start: score of the imitation agent on the validation questions.
        final: score of the PPO agent on the validation questions.
        best_static: text of the best static program on the train questions.
    """

    folder: Path
    warm_start: Score
    final: Score
    best_static: str


def train_agents(
    executor: Executor,
    train: Sequence[Question],
    validation: Sequence[Question],
    traces: TraceSet,
    folder: Path,
    *,
    env: EnvConfig,
    imitation: ImitationConfig,
    ppo: PPOConfig,
    specs: Sequence[str],
    seed: int,
    report: Report,
) -> TrainedAgents:
    """Imitate the traces, go on with PPO, save both agents; started again, it resumes PPO at its checkpoint.

    Args:
        executor: executes programs, under the prompt of the traces.
        train: train questions.
        validation: validation questions, which choose among policies.
        traces: of the train questions.
        folder: gets ``agents/imitation``, ``agents/ppo``, ``checkpoints`` and wandb's files.
        env: the environment.
        imitation: settings of the warm start.
        ppo: settings of PPO.
        specs: the question specs, for the agents' cards.
        seed: of networks, rollouts and the order of states.
        report: told of every epoch and rollout.

    Raises:
        FingerprintError: if the traces or a checkpoint belong to another model, prompt or configuration.
    """
    traces.require(executor)
    set_random_seed(seed)
    questions, matrix = traces.matrix().of(train)
    static = str(best_static(matrix, env.layer_cost))
    rules = ProgramRules(executor, questions, **env.rules())
    lanes = ProgramVectorEnv(ppo.lanes, executor, questions, **env.rules())
    vec_env = ProgramVecEnv(lanes)
    vec_env.seed(seed)
    config = {
        "env": env.model_dump(), "imitation": imitation.model_dump(), "ppo": ppo.model_dump(), "seed": seed
    }  # fmt: skip

    def card(name: str) -> AgentCard:
        return AgentCard(
            name=name,
            model=executor.llm.name,
            fingerprint=executor.llm.fingerprint,
            depth=executor.depth,
            prompt=executor.prompt,
            rules=env.rules(),
            questions=list(specs),
            train_ids=[question.id for question in train],
            best_static=static,
            config=config,
        )

    checkpoints = folder / "checkpoints"
    _require_same(checkpoints / "config.json", {**config, "fingerprint": executor.llm.fingerprint})
    warm = folder / "agents" / "imitation"
    with Tracker(folder, f"ppo-seed{seed}", config) as tracker:
        if (checkpoints / "state.json").exists():
            state = json.loads((checkpoints / "state.json").read_text(encoding="utf-8"))
            model = MaskablePPO.load(checkpoints / "last.zip", env=vec_env, device="cpu")
            warm_score = Score(**state["warm_start"])
            report("resumed", model.num_timesteps, {})
        else:
            model = make_model(vec_env, ppo, seed)

            def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
                tracker.log(metrics, step=0)
                report("imitation", epoch, metrics)

            choice = teacher_choice(rules, questions, matrix, imitation)
            demonstrations = demonstrate(rules, questions, matrix, choice, imitation.routine_weight)
            imitate(model, demonstrations, imitation, seed, on_epoch)
            warm_score = score(model, rules, validation)
            save_policy(model, card("imitation"), warm)
        model = reinforce(
            model, rules, validation, ppo, checkpoints, tracker,
            warm_start=warm_score, on_progress=lambda step, metrics: report("ppo", step, metrics),
        )  # fmt: skip
        final = score(model, rules, validation)
        save_policy(model, card("ppo"), folder / "agents" / "ppo")
        tracker.log({"final/right": final.pass_at_1, "final/cost": final.cost}, step=ppo.total_steps)
    return TrainedAgents(folder / "agents", warm_score, final, static)


def _require_same(path: Path, config: dict[str, Any]) -> None:
    """Refuse to resume a checkpoint of another configuration; remember this one."""
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(config)):
        raise FingerprintError(
            f"{path.parent} holds checkpoints of another model or configuration. Delete that folder to train anew, or "
            "give another --out."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
