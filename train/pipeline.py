"""From a trace set to saved agents: best static program, imitation, PPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator
from sb3_contrib import MaskablePPO
from stable_baselines3.common.utils import set_random_seed

from agents.policy import CARD, AgentCard, read_card, save_policy
from polar_env.actions import LANGUAGES
from polar_env.config import Config
from polar_env.envs.episode import ProgramRules
from polar_env.envs.sb3 import ProgramVecEnv
from polar_env.envs.vector_env import ProgramVectorEnv
from polar_env.errors import FingerprintError, UnknownNameError
from polar_env.executor import Executor
from polar_env.questions import Question
from polar_env.tables import write_whole
from train.imitate import ImitationConfig, best_static, demonstrate, imitate, teacher_choice
from train.reinforce import PPOConfig, Score, make_model, reinforce, score
from train.traces import TraceSet
from train.tracking import Tracker

__all__ = ["EnvConfig", "TrainedAgents", "TrainingConfig", "train_agents"]

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

    @field_validator("language")
    @classmethod
    def _language_exists(cls, name: str) -> str:
        if name not in LANGUAGES:
            raise UnknownNameError("action language", name, LANGUAGES)
        return name

    def rules(self) -> dict[str, Any]:
        """As arguments of `ProgramRules`."""
        window = self.window if self.language == "layers" else None
        return {**self.model_dump(), "window": window}


class TrainingConfig(Config):
    """Everything that decides what comes out of a training, beside model, questions and traces."""

    env: EnvConfig = EnvConfig()
    """The environment."""
    imitation: ImitationConfig = ImitationConfig()
    """The warm start."""
    ppo: PPOConfig = PPOConfig()
    """PPO."""
    seed: int = 0
    """Seed of networks, rollouts and the order of states."""


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
    config: TrainingConfig,
    specs: Sequence[str],
    report: Report,
) -> TrainedAgents:
    """Imitate the traces, go on with PPO, save both agents.

    Started again it resumes PPO at its checkpoint; once finished it trains nothing more.

    Args:
        executor: executes programs, under the prompt of the traces.
        train: train questions.
        validation: validation questions, which choose among policies.
        traces: of the train questions.
        folder: gets ``agents/imitation``, ``agents/ppo``, ``checkpoints`` and wandb's files.
        config: the settings.
        specs: the question specs, for the agents' cards.
        report: told of every epoch and rollout.

    Raises:
        FingerprintError: if the traces or a checkpoint belong to another model, prompt, questions or configuration.
    """
    traces.require(executor)
    questions, matrix = traces.matrix().of(train)
    blank = AgentCard(
        name="",
        model=executor.llm.name,
        dtype=executor.llm.dtype_name,
        fingerprint=executor.llm.fingerprint,
        depth=executor.depth,
        prompt=executor.prompt,
        rules=config.env.rules(),
        questions=list(specs),
        train_texts=[question.text for question in train],
        best_static=str(best_static(matrix, config.env.layer_cost)),
        config=config.model_dump(mode="json"),
        validation={},
        chosen_step=0,
    )
    rules = ProgramRules(executor, questions, **config.env.rules())  # refuses wrong settings before anything is written
    agents, checkpoints = folder / "agents", folder / "checkpoints"
    _require_same(checkpoints / "training.json", blank)
    if (agents / "ppo" / CARD).is_file():
        cards = [read_card(agents / name) for name in ("imitation", "ppo")]
        report("finished before", config.ppo.total_steps, {})
        warm, final = (Score(**card.validation) for card in cards)
        return TrainedAgents(agents, warm, final, blank.best_static)

    set_random_seed(config.seed)
    env = ProgramVecEnv(ProgramVectorEnv(config.ppo.lanes, executor, questions, **config.env.rules()))
    env.seed(config.seed)
    with Tracker(folder, f"ppo-seed{config.seed}", blank.config) as tracker:
        if (checkpoints / "state.json").exists():
            model = MaskablePPO.load(checkpoints / "last.zip", env=env, device="cpu")
            env.seed(config.seed + model.num_timesteps)  # other questions than those before the stop
            report("resumed", model.num_timesteps, {})
        else:
            model = make_model(env, config.ppo, config.seed)
            choice = teacher_choice(rules, questions, matrix, config.imitation)
            demonstrations = demonstrate(rules, questions, matrix, choice, config.imitation.routine_weight)

            def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
                tracker.log(metrics, step=0)
                report("imitation", epoch, metrics)

            imitate(model, demonstrations, config.imitation, config.seed, on_epoch)
            _save(model, "imitation", score(model, rules, validation), 0, blank, agents)
        warm = Score(**read_card(agents / "imitation").validation)

        def on_progress(step: int, metrics: dict[str, float]) -> None:
            tracker.log(metrics, step)
            report("ppo", step, metrics)

        model, chosen_step = reinforce(
            model, rules, validation, config.ppo, checkpoints, tracker, warm_start=warm, on_progress=on_progress
        )
        final = score(model, rules, validation)
        tracker.log({"final/right": final.pass_at_1, "final/cost": final.cost}, step=config.ppo.total_steps)
    _save(model, "ppo", final, chosen_step, blank, agents)
    return TrainedAgents(agents, warm, final, blank.best_static)


def _save(model: MaskablePPO, name: str, validation: Score, step: int, blank: AgentCard, agents: Path) -> None:
    known = {"name": name, "validation": vars(validation), "chosen_step": step}
    save_policy(model, blank.model_copy(update=known), agents / name)


def _require_same(path: Path, blank: AgentCard) -> None:
    """Refuse to go on with a training of something else; remember this one.

    Raises:
        FingerprintError: naming what differs.
    """
    if path.exists():
        before = AgentCard.model_validate_json(path.read_text(encoding="utf-8"))
        changed = [name for name in AgentCard.model_fields if getattr(before, name) != getattr(blank, name)]
        if changed:
            raise FingerprintError(
                f"{path.parent} holds a training that differs in: {', '.join(changed)}. Delete that folder and the "
                "agents beside it to train anew, or give another --out."
            )
    write_whole(path, blank.model_dump_json(indent=2).encode())
