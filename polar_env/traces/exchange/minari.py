"""Traces as Minari episodes: recorded in our environment, and replayed in it before the export counts as done."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from polar_env.envs import ProgramEnv
from polar_env.errors import ConfigError, ProgramError, TraceError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.traces.rows import VERDICTS, VerdictRow
from polar_env.traces.trace_set import TraceSet
from polar_env.worlds import LiveWorld

if TYPE_CHECKING:
    import minari

__all__ = ["best_rows", "export_minari", "replay"]


def best_rows(traces: TraceSet, per_question: int) -> list[VerdictRow]:
    """For each question its best programs: right ones first, then short ones; the identity breaks ties among wrong."""
    table = traces.table().drop_duplicates(["question_id", "program"])
    away = (table["layers"] - traces.depth).abs()
    ranked = table.assign(
        wrong=~table["right"], length=table["layers"].where(table["right"], away), name=table["program"].astype(str)
    ).sort_values(["question_id", "wrong", "length", "name"], kind="stable")
    best = ranked.groupby("question_id", observed=True).head(per_question)[VERDICTS.names]
    return [VerdictRow(**row) for row in best.to_dict("records")]


def export_minari(
    traces: TraceSet,
    world: LiveWorld,
    questions: Sequence[Question],
    dataset_id: str,
    per_question: int = 1,
    on_episodes: Callable[[int], None] = lambda _: None,
    **config: Any,
) -> tuple[int, int]:
    """Play the best programs of each question and store the episodes under Minari's own folder of data sets.

    Args:
        traces: which programs.
        world: the same model and prompt.
        questions: those that were searched; others are not played.
        dataset_id: Minari's name, e.g. ``polar/arithmetic-v0``.
        per_question: episodes for each question.
        on_episodes: called with the episodes just finished.
        config: the fields of `EnvConfig`.

    Returns:
        How many episodes there are, and how many programs the environment's action language cannot spell.

    Raises:
        ConfigError: if Minari is not installed.
        TraceError: if nothing can be played, or an episode does not replay as it was recorded.
    """
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise ConfigError("minari is not installed; pip install 'polar-env[minari]'.") from error
    traces.require(world)
    if dataset_id in minari.list_local_datasets():
        raise ConfigError(f"Minari has a data set '{dataset_id}' already; give another --dataset, or delete it.")
    env = ProgramEnv(world, questions, **config)
    index = {question.id: i for i, question in enumerate(questions)}
    buffers: list[Any] = []
    unspoken = 0
    for row in best_rows(traces, per_question):
        if row.question_id not in index:
            continue
        try:
            actions = env.rules.language.encode(Program.parse(row.program))
        except ProgramError:
            unspoken += 1
            continue
        episode = _recorded(env, actions, {"question": index[row.question_id]}, row)
        buffers.append(EpisodeBuffer(id=len(buffers), seed=0, infos={}, **episode))
        on_episodes(1)
    if not buffers:
        raise TraceError("no program can be played: none of these questions has traces that the environment can spell.")
    dataset = _created(dataset_id, buffers, env, traces, questions)
    try:
        with world.from_nothing():  # executed again, not remembered
            replay(dataset, env)
    except TraceError:
        minari.delete_dataset(dataset_id)
        raise
    return len(buffers), unspoken


def _created(
    dataset_id: str, buffers: list[Any], env: ProgramEnv, traces: TraceSet, questions: Sequence[Question]
) -> Any:
    """The episodes as a new data set of Minari's."""
    import minari

    spaces = {"observation_space": env.observation_space, "action_space": _plain(env.action_space)}
    description = (
        f"Programs of layers found by search for {traces.meta['model']} ({traces.meta['fingerprint']}). An episode's "
        f"option 'question' counts these questions: {' '.join(question.id for question in questions)}"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about authors and links, which its users may add
        try:
            return minari.create_dataset_from_buffers(
                dataset_id, buffers, **spaces, algorithm_name="MCTS", description=description, data_format="arrow"
            )
        except ValueError as error:
            raise ConfigError(f"Minari refuses the data set '{dataset_id}': {error}") from error


def _recorded(env: ProgramEnv, actions: Sequence[int], options: dict[str, Any], row: VerdictRow) -> dict[str, Any]:
    """One episode as Minari stores it.

    Raises:
        TraceError: if its program is right where the row says wrong, or the other way round.
    """
    observations, rewards, right = play(env, actions, options)
    if right != row.right:
        raise TraceError(
            f"the traces say that {row.program} is {_words(row.right)} on question {row.question_id}, and "
            f"played it is {_words(right)}; `polar traces check` and the --dtype of the traces may tell why."
        )
    last = len(actions) - 1
    return {
        "options": options,
        "observations": {key: np.stack([o[key] for o in observations]) for key in observations[0]},
        "actions": np.array(actions),
        "rewards": rewards,
        "terminations": [number == last for number in range(len(actions))],
        "truncations": [False] * len(actions),
    }


def _words(right: bool) -> str:
    return "right" if right else "wrong"


def play(
    env: ProgramEnv, actions: Sequence[int], options: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[float], bool]:
    """One episode: observations before each action and after the last, rewards, and whether its program is right."""
    observation, _ = env.reset(seed=0, options=options)
    observations: list[dict[str, Any]] = [observation]
    rewards: list[float] = []
    for action in actions:
        observation, reward, _, _, info = env.step(np.int64(action))
        observations.append(observation)
        rewards.append(float(reward))
    return observations, rewards, bool(info["right"])


def replay(dataset: minari.MinariDataset, env: ProgramEnv) -> None:
    """Play every episode of a data set again.

    Raises:
        TraceError: naming the first episode that comes out differently.
    """
    for number, episode in enumerate(dataset.iterate_episodes()):
        options = dataset.storage.get_episode_metadata([number])
        metadata = next(iter(options))
        observations, rewards, _ = play(env, [int(a) for a in episode.actions], metadata["options"])
        same = np.allclose(rewards, episode.rewards, atol=1e-6) and all(
            np.allclose([o[key] for o in observations], values, atol=0.02)
            for key, values in episode.observations.items()
        )
        if not same:
            raise TraceError(f"episode {number} of {dataset.id} does not replay as it was recorded.")


def _plain(space: Any) -> Any:
    """The action space without its tie to the environment."""
    make, arguments = space.__reduce__()
    return make(*arguments)
