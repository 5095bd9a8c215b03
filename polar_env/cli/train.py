"""``polar train``: an agent from traces by imitation and PPO, or one from a recorded world by a learner of choice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from polar_env.cli.bars import console
from polar_env.cli.estimate import Work
from polar_env.cli.flags import TrackingConfig, with_model
from polar_env.cli.opening import open_pool, open_questions, open_world
from polar_env.cli.tracked import log_agents, log_inputs, tracked
from polar_env.envs.config import EnvConfig
from polar_env.errors import ConfigError
from train.config import ImitationConfig, PPOConfig, PredictorConfig, TrainingConfig, TrialsConfig, ValueConfig
from train.peers.config import AblrConfig, BlockDropConfig, DrLLMConfig, PolarConfig

if TYPE_CHECKING:
    from polar_env.questions import Prompts
    from polar_env.traces import TraceSet

__all__ = ["CONFIG", "EXAMPLES", "TrainConfig", "run"]


class TrainConfig(TrackingConfig):
    """Imitate traces, then PPO; run again, it resumes. With --world an agent
    learns from a recorded world, its questions and model, in seconds or minutes and without an LLM.
    """

    world: str = ""
    """Recorded world to learn from in place of traces: one that ships with the package, or a folder."""
    learner: str = "value"
    """Who learns from the recorded world: value, ppo, grpo, linucb, thompson, or a published predictor: polar, drllm,
    blockdrop, ablr."""
    value: ValueConfig = ValueConfig()
    """The value agent (--world)."""
    predictor: PredictorConfig = PredictorConfig()
    """The program predictor: PPO from the value agent (--learner ppo)."""
    trials: TrialsConfig = TrialsConfig()
    """Learners that start from nothing (--learner grpo, linucb or thompson)."""
    polar: PolarConfig = PolarConfig()
    """PoLar's predictor (--learner polar)."""
    drllm: DrLLMConfig = DrLLMConfig()
    """Dr.LLM's routers (--learner drllm)."""
    blockdrop: BlockDropConfig = BlockDropConfig()
    """BlockDrop's policy (--learner blockdrop)."""
    ablr: AblrConfig = AblrConfig()
    """The block-loop router (--learner ablr)."""

    traces: Path | None = None
    """Trace set to imitate; by default OUT/traces."""
    env: EnvConfig = EnvConfig()
    """The environment."""
    imitation: ImitationConfig = ImitationConfig()
    """The warm start."""
    ppo: PPOConfig = PPOConfig()
    """PPO."""
    validation_limit: Annotated[int, Field(ge=1)] = 200
    """Most validation questions that choose among the policies met on the way."""

    def training(self) -> TrainingConfig:
        """The settings of the training alone."""
        return TrainingConfig(env=self.env, imitation=self.imitation, ppo=self.ppo, seed=self.seed)


CONFIG = TrainConfig
EXAMPLES = (
    "polar train --world skills-smollm2-135m-v0 --learner value --out runs/value",
    "polar train --questions arithmetic --out runs/mine",
)


def work(config: TrainConfig) -> Work:
    """On a recorded world what its learner has taken; else the episodes of PPO, and what measures its policies."""
    if config.world:
        from polar_env.worlds import open_world as open_recorded
        from train.learners import MEASURED_ON, SECONDS, find_learner

        find_learner(config.learner)
        share = len(open_recorded(config.world).rows("train+validation")) / MEASURED_ON
        return Work(seconds=SECONDS[config.learner] * share, gib=1)
    traces = _traces(config)
    return work_of_ppo(with_model(config, traces.meta["model"], traces.meta["dtype"]), traces.prompts)


def work_of_ppo(config: TrainConfig, prompts: Prompts) -> Work:
    """Episodes of PPO, and the measurements of its policies, under prompts."""
    world, ppo = open_world(config, prompts), config.ppo
    measured = 3 + ppo.total_steps // (ppo.lanes * ppo.steps * ppo.validate_every)
    answers = ppo.total_steps / world.depth + measured * config.validation_limit
    return Work(answers=answers, world=world, questions=open_questions(config, "train", without=prompts))


def run(config: TrainConfig) -> dict[str, Any]:
    """Train; the agents lie in ``OUT/agents``."""
    return _from_world(config) if config.world else _from_traces(config)


def _from_world(config: TrainConfig) -> dict[str, Any]:
    """An agent from a recorded world, with the best static programs beside it."""
    from agents.card import read_card
    from polar_env.worlds import open_world as open_recorded
    from polar_env.worlds import world_folder
    from train.learners import SETTINGS, find_learner

    learn = find_learner(config.learner)
    settings = getattr(config, SETTINGS.get(config.learner, config.learner))
    world = open_recorded(config.world)
    with tracked(config, f"train-{config.learner}"):
        log_inputs("recorded-world", world_folder(config.world))
        folder = learn(world, config.out, settings, config.seed)
        results = read_card(folder).results
        how, judged = next((how, results[how]) for how in ("out_of_fold", "validation") if how in results)
        log_agents(folder, judged["pass_at_1"], judged["cost"])
    console.print(
        f"on {judged['questions']} train and validation questions that it was not fitted on: {config.learner} "
        f"{100 * judged['pass_at_1']:.1f} % at cost {judged['cost']:.3f}, best static program "
        f"{100 * judged['static_pass_at_1']:.1f} %. Agents: {folder.parent}",
        markup=False,
    )
    return {
        "agents": str(folder.parent),
        "best_static": results["best-static"],
        how: {
            "pass_at_1": judged["pass_at_1"], "mean_cost": judged["cost"],
            "static_pass_at_1": judged["static_pass_at_1"],
        },
    }  # fmt: skip


def _from_traces(config: TrainConfig) -> dict[str, Any]:
    """An agent by imitation and PPO."""
    from train.pipeline import train_agents

    traces = _traces(config)
    train = open_questions(config, "train", without=traces.prompts)
    limited = config.model_copy(update={"limit": config.validation_limit})
    validation = open_questions(limited, "validation", without=traces.prompts)
    world = open_world(with_model(config, traces.meta["model"], traces.meta["dtype"]), traces.prompts)
    world.check([*train, *validation])
    ids = traces.question_ids()
    traced = [question for question in open_pool(config).questions if question.id in ids]
    try:
        with tracked(config, "train"):
            log_inputs("traces", traces.folder)
            trained = train_agents(
                world, train, validation, traces, config.out, config.training(), config.specs, _report, traced=traced
            )
            log_agents(trained.folder / "ppo", trained.final.pass_at_1, trained.final.cost)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{config.out / 'checkpoints'} keeps the last checkpoint; run the same command to go on."
        ) from None
    warm, final = trained.warm_start, trained.final
    verdicts = world.verdicts([(question, world.identity) for question in validation])
    identity = sum(verdict.right for verdict in verdicts) / len(validation)
    console.print(
        f"on {len(validation)} validation questions: identity {100 * identity:.1f} %, "
        f"imitation {100 * warm.pass_at_1:.1f} % at cost {warm.cost:.3f}, "
        f"PPO {100 * final.pass_at_1:.1f} % at cost {final.cost:.3f}; best static on train: {trained.best_static}",
        markup=False,
    )
    return {
        "agents": str(trained.folder),
        "imitation": vars(warm),
        "ppo": vars(final),
        "best_static": trained.best_static,
        "validation_questions": len(validation),
    }


def _traces(config: TrainConfig) -> TraceSet:
    """What is imitated."""
    from polar_env.traces import TraceSet

    if config.prompt:
        raise ConfigError(
            "the prompt of a training is that of its traces; leave out --prompt, or search under another."
        )
    return TraceSet.open(config.traces or config.out / "traces")


def _report(phase: str, step: int, metrics: dict[str, float]) -> None:
    """A line on the console; of the many epochs of imitation only every tenth."""
    if phase == "imitation" and step % 10:
        return
    words = ", ".join(
        f"{name.split('/')[-1] if name.startswith(phase) else name} {v:.3g}" for name, v in metrics.items()
    )
    console.print(f"{phase} {step}: {words}", markup=False)
