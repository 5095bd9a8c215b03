"""From a trace set to saved agents: best static programs and other baselines, imitation, PPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sb3_contrib import MaskablePPO
from stable_baselines3.common.utils import set_random_seed

from agents.card import CARD, AgentCard, library_versions, read_card, save_agent
from agents.policy.agent import KIND, WEIGHTS
from agents.policy.network import weights_of
from polar_env.envs import ProgramRules, ProgramVectorEnv
from polar_env.envs.sb3 import ProgramVecEnv
from polar_env.errors import FingerprintError, TraceError
from polar_env.questions import Question
from polar_env.tables import read_json, write_whole
from polar_env.traces import TraceSet, VerdictMatrix
from polar_env.tracking import tracker
from polar_env.worlds import LiveWorld
from train.baselines import save_baselines
from train.checkpoint import has_checkpoint, steps_done
from train.config import TrainingConfig
from train.imitate import demonstrate, imitate, teacher_choice
from train.provenance import asks_seen, static_results
from train.reinforce import Score, make_model, reinforce, score
from train.static import StaticChoice, choose_static

__all__ = ["TrainedAgents", "train_agents"]

Report = Callable[[str, int, dict[str, float]], None]
"""Called with the phase, its step, and metrics."""


@dataclass(frozen=True)
class TrainedAgents:
    """What training made.

    Attributes:
        folder: holds one folder for each agent.
        warm_start: score of the imitation agent on the validation questions.
        final: score of the PPO agent on the validation questions.
        best_static: text of the best static program.
    """

    folder: Path
    warm_start: Score
    final: Score
    best_static: str


def train_agents(
    world: LiveWorld,
    train: Sequence[Question],
    validation: Sequence[Question],
    traces: TraceSet,
    folder: Path,
    config: TrainingConfig,
    specs: Sequence[str],
    report: Report,
    *,
    traced: Sequence[Question] = (),
) -> TrainedAgents:
    """Choose static programs, fit the baselines, imitate the traces, go on with PPO, and save all of them as agents.

    Started again it resumes PPO at its checkpoint; once finished it trains nothing more.

    Args:
        world: executes programs, under the prompt of the traces.
        train: train questions.
        validation: validation questions, which choose among policies.
        traces: of the train questions.
        folder: gets ``agents/imitation``, ``agents/ppo``, the baselines beside them, ``checkpoints``.
        config: the settings.
        specs: the question specs, for the agents' cards.
        report: told of every epoch and rollout.
        traced: all questions of the trace set, whatever their split: its programs were chosen on them, so the agents'
            cards name them, too.

    Raises:
        TraceError: if the traces hold questions that are not given.
        FingerprintError: if the traces or a checkpoint belong to another model, prompt, questions or configuration.
    """
    traces.require(world)
    missing = traces.question_ids() - {question.id for question in (*train, *traced)}
    if missing:
        raise TraceError(
            f"{traces.folder} holds programs that were chosen on {len(missing)} questions that are not given, so the "
            "agents' cards could not name them. Give all questions that were searched (--questions)."
        )
    questions, matrix = traces.matrix().of(train)
    static = choose_static(world, questions, matrix, validation)
    card = _blank_card(world, [*train, *traced], validation, config, specs, static)
    rules = ProgramRules(world, questions, config.env)  # refuses wrong settings before anything is written
    agents, checkpoints = folder / "agents", folder / "checkpoints"
    _require_same(checkpoints / "training.json", card)
    if (agents / "ppo" / CARD).is_file():
        cards = [read_card(agents / name) for name in ("imitation", "ppo")]
        report("finished before", config.ppo.total_steps, {})
        warm, final = (Score(**each.results["validation"]) for each in cards)
        return TrainedAgents(agents, warm, final, str(static.program))

    set_random_seed(config.seed)
    env = ProgramVecEnv(ProgramVectorEnv(config.ppo.lanes, world, questions, **config.env.model_dump()))
    env.seed(config.seed)
    model = make_model(env, config.ppo, config.env.gamma, config.seed)
    if has_checkpoint(checkpoints):
        report("resumed", steps_done(checkpoints), {})
    else:

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            tracker().log(metrics, epoch)
            report("imitation", epoch, metrics)

        _warm_start(model, rules, questions, matrix, config, on_epoch)
        _save(model, "imitation", score(model, rules, validation), 0, card, agents)
    save_baselines(world, questions, validation, static, card, agents)
    warm = Score(**read_card(agents / "imitation").results["validation"])

    def on_rollout(step: int, metrics: dict[str, float]) -> None:
        tracker().log(metrics, step)
        report("ppo", step, metrics)

    chosen_step = reinforce(model, rules, validation, config.ppo, checkpoints, warm_start=warm, on_rollout=on_rollout)
    final = score(model, rules, validation)
    _save(model, "ppo", final, chosen_step, card, agents)
    return TrainedAgents(agents, warm, final, str(static.program))


def _warm_start(
    model: MaskablePPO,
    rules: ProgramRules,
    questions: Sequence[Question],
    matrix: VerdictMatrix,
    config: TrainingConfig,
    on_epoch: Callable[[int, dict[str, float]], None],
) -> None:
    """Let a new policy imitate the programs that the teacher chooses from the traces."""
    choice = teacher_choice(rules, questions, matrix, config.imitation)
    demonstrations = demonstrate(rules, questions, matrix, choice, config.imitation.routine_weight)
    imitate(model, demonstrations, config.imitation, config.seed, on_epoch)


def _blank_card(
    world: LiveWorld,
    train: Sequence[Question],
    validation: Sequence[Question],
    config: TrainingConfig,
    specs: Sequence[str],
    static: StaticChoice,
) -> AgentCard:
    """What the cards of all agents have in common."""
    return AgentCard(
        kind=KIND,
        name="",
        model=world.llm.name,
        dtype=world.llm.dtype_name,
        fingerprint=world.llm.fingerprint,
        depth=world.depth,
        prompts=world.prompts,
        tasks=sorted({question.task for question in train}),
        questions=list(specs),
        **asks_seen(train, validation),
        seed=config.seed,
        versions=library_versions(),
        config=config.model_dump(mode="json"),
        results=static_results(static),
    )


def _save(model: MaskablePPO, name: str, validation: Score, step: int, card: AgentCard, agents: Path) -> None:
    results = {**card.results, "validation": vars(validation), "chosen_step": step}
    named = card.model_copy(update={"name": name, "results": results})
    save_agent(named, agents / name, {WEIGHTS: weights_of(model.policy)})


def _require_same(path: Path, card: AgentCard) -> None:
    """Refuse to go on with a training of something else; remember this one.

    Raises:
        FingerprintError: naming what differs.
    """
    if path.exists():
        before = AgentCard.of(read_json(path), str(path))
        changed = [name for name in AgentCard.model_fields if getattr(before, name) != getattr(card, name)]
        if changed:
            raise FingerprintError(
                f"{path.parent} holds a training that differs in: {', '.join(changed)}. Delete that folder and the "
                "agents beside it to train anew, or give another --out."
            )
    write_whole(path, card.model_dump_json(indent=2).encode())
