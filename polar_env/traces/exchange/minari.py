"""Traces as Minari episodes: recorded in our environment, and replayed in it before the export counts as done."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from polar_env.envs import ProgramEnv
from polar_env.envs.world_env import WorldEnv
from polar_env.errors import ConfigError, ProgramError, TraceError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.traces.rows import VERDICTS, VerdictRow
from polar_env.traces.trace_set import TraceSet
from polar_env.worlds import LiveWorld

if TYPE_CHECKING:
    import minari

__all__ = ["best_rows", "export_minari", "new_dataset", "plain_space", "play", "replay", "require_new"]


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
    require_new(dataset_id)
    import minari
    from minari.data_collector import EpisodeBuffer

    traces.require(world)
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


def require_new(dataset_id: str) -> None:
    """Refuse a name that Minari cannot give to a new data set, before anything is made.

    Raises:
        ConfigError: for a name that exists or is none of Minari's form, or if Minari is not installed.
    """
    try:
        import h5py  # noqa: F401 - Minari's usual storage; its other one takes hours for ten thousand episodes
        import minari
        from minari.dataset.minari_dataset import parse_dataset_id
    except ImportError as error:
        raise ConfigError("minari or h5py is not installed; pip install 'polar-env[minari]'.") from error
    try:
        parse_dataset_id(dataset_id)
    except ValueError as error:
        raise ConfigError(f"'{dataset_id}' names no data set of Minari's; write e.g. polar/mine-v0.") from error
    if dataset_id in minari.list_local_datasets():
        raise ConfigError(f"Minari has a data set '{dataset_id}' already; give another name, or delete it.")


def new_dataset(dataset_id: str, buffers: list[Any], **about: Any) -> minari.MinariDataset:
    """Episodes as a new data set of Minari's; ``about`` are further arguments of its maker."""
    import minari

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about authors and links, which its users may add
        return minari.create_dataset_from_buffers(dataset_id, buffers, data_format="hdf5", **about)


def _created(
    dataset_id: str, buffers: list[Any], env: ProgramEnv, traces: TraceSet, questions: Sequence[Question]
) -> minari.MinariDataset:
    """The episodes of a trace set as a new data set."""
    spaces = {"observation_space": env.observation_space, "action_space": plain_space(env.action_space)}
    description = (
        f"Programs of layers found by search for {traces.meta['model']} ({traces.meta['fingerprint']}). An episode's "
        f"option 'question' counts these questions: {' '.join(question.id for question in questions)}"
    )
    return new_dataset(dataset_id, buffers, algorithm_name="MCTS", description=description, **spaces)


def _recorded(env: ProgramEnv, actions: Sequence[int], options: dict[str, Any], row: VerdictRow) -> dict[str, Any]:
    """One episode as Minari stores it.

    Raises:
        TraceError: if its program is right where the row says wrong, or the other way round.
    """
    played, right = play(env, actions, options)
    if right != row.right:
        raise TraceError(
            f"the traces say that {row.program} is {_words(row.right)} on question {row.question_id}, and "
            f"played it is {_words(right)}; `polar traces check` and the --dtype of the traces may tell why."
        )
    return played


def _words(right: bool) -> str:
    return "right" if right else "wrong"


def play(env: ProgramEnv | WorldEnv, actions: Sequence[int], options: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """One episode: as Minari stores it, and whether its program is right."""
    observation, info = env.reset(seed=0, options=options)
    observations, rewards = [observation], []
    for action in actions:
        observation, reward, _, _, info = env.step(np.int64(action))
        observations.append(observation)
        rewards.append(float(reward))
    last = len(actions) - 1
    episode = {
        "options": options,
        "observations": {key: np.stack([each[key] for each in observations]) for key in observation},
        "actions": np.array(actions),
        "rewards": rewards,
        "terminations": [number == last for number in range(len(actions))],
        "truncations": [False] * len(actions),
    }
    return episode, bool(info["right"])


def replay(dataset: minari.MinariDataset, env: ProgramEnv | WorldEnv) -> None:
    """Play every episode of a data set again.

    Raises:
        TraceError: naming the first episode that comes out differently.
    """
    for number, episode in enumerate(dataset.iterate_episodes()):
        options = dataset.storage.get_episode_metadata([number])
        metadata = next(iter(options))
        played, _ = play(env, [int(a) for a in episode.actions], metadata["options"])
        same = np.allclose(played["rewards"], episode.rewards, atol=1e-6) and all(
            np.allclose(played["observations"][key], values, atol=0.02) for key, values in episode.observations.items()
        )
        if not same:
            raise TraceError(f"episode {number} of {dataset.id} does not replay as it was recorded.")


def plain_space(space: Any) -> Any:
    """The action space without its tie to the environment."""
    make, arguments = space.__reduce__()
    return make(*arguments)
