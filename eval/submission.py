"""A score that others can check: which program a learner chose for each question, in a JSON file.

Whoever has a world computes the score anew from the choices. Taken on trust is what its learner saw: no verdict of the
questions that it is scored on, and no state later than it says; and its seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eval.headroom import LearnerScore, score_learner
from polar_env.config import Config
from polar_env.errors import ConfigError, FingerprintError, UnknownNameError
from polar_env.program import Program
from polar_env.tables import read_json, write_whole
from polar_env.worlds import RecordedWorld

__all__ = ["Submission", "read_submission", "score_submission"]


class Submission(Config):
    """What a learner chose."""

    world: str
    """Name of the recorded world."""
    checksum: str
    """What the world's card says of itself: ``files["world.json"]``."""
    learner: str
    """How the learner is called."""
    authors: str = ""
    """Who made it."""
    code: str = ""
    """Where its code is."""
    split: str = "test"
    """The split that it is scored on."""
    learned_from: str = "train+validation"
    """The splits whose verdicts it saw."""
    look: int = Field(0, ge=0)
    """Layers of the identity that run before a choice; those that a chosen program cannot use are paid for."""
    seconds: float = Field(0.0, ge=0)
    """To learn once."""
    choices: dict[str, list[str]]
    """For each question's id the program chosen, with each seed."""

    @classmethod
    def of_choices(
        cls,
        world: RecordedWorld,
        rows: NDArray[np.intp],
        chosen: NDArray[np.intp],
        *,
        learner: str,
        look: int,
        seconds: float,
    ) -> Submission:
        """What to hand in.

        Args:
            world: the world.
            rows: rows of the test questions, ``[Q]``.
            chosen: columns of the programs chosen, ``[N, Q]``, a row for each seed.
            learner: how the learner is called.
            look: see `look`.
            seconds: to learn once.
        """
        texts = np.array(world.card.programs)[chosen]
        choices = {world.questions[row].id: texts[:, at].tolist() for at, row in enumerate(rows)}
        checksum = world.card.files.get("world.json", "")
        return cls(
            world=world.card.name, checksum=checksum, learner=learner, look=look, seconds=seconds, choices=choices
        )

    def write(self, path: Path) -> None:
        """Write the file."""
        write_whole(path, self.model_dump_json(indent=1).encode())


def read_submission(path: Path) -> Submission:
    """Read a file.

    Raises:
        ConfigError: if it is damaged, or a value does not fit.
        UnknownNameError: for a key that does not exist.
    """
    return Submission.of(read_json(path), str(path))


def score_submission(submission: Submission, world: RecordedWorld, static: Program) -> LearnerScore:
    """Score a submission.

    Args:
        submission: what a learner chose.
        world: the world that it names.
        static: its best static program.

    Raises:
        FingerprintError: if it was made with another world, or other bytes of it.
        UnknownNameError: for a split or a question that does not exist.
        ConfigError: if choices are missing, there are not as many seeds for each question, it learned from questions
            that it is scored on, or looks later than there are layers.
        ProgramError, NotRecordedError: for a text that is no program, or one that was not recorded.
    """
    card = world.card
    if (submission.world, submission.checksum) != (card.name, card.files.get("world.json")):
        raise FingerprintError(
            f"'{submission.learner}' chose in '{submission.world}' ({submission.checksum[:16]}), and this is "
            f"'{card.name}' ({card.files.get('world.json', '')[:16]}). Choose again in this world."
        )
    if submission.look > world.depth:
        raise ConfigError(f"'{submission.learner}' looks after {submission.look} layers; the LLM has {world.depth}.")
    if set(world.rows(submission.split)) & set(world.rows(submission.learned_from)):
        raise ConfigError(
            f"'{submission.learner}' learned from {submission.learned_from} and is scored on {submission.split}; a "
            "score counts on questions whose verdicts the learner did not see."
        )
    rows = world.rows(submission.split)
    ids = [world.questions[row].id for row in rows]
    unknown, missing = sorted(set(submission.choices) - set(ids)), sorted(set(ids) - set(submission.choices))
    if unknown:
        raise UnknownNameError(f"{submission.split} question", unknown[0], ids)
    seeds = {len(submission.choices[each]) for each in ids if each not in missing}
    if missing or len(seeds) != 1 or 0 in seeds:
        raise ConfigError(
            f"'{submission.learner}' chose for {len(ids) - len(missing)} of {len(ids)} {submission.split} questions, "
            f"with {sorted(seeds)} seeds; give a choice for each question, as many for one as for another."
        )
    programs = {text: Program.parse(text, world.depth) for each in submission.choices.values() for text in each}
    columns = {text: world.column(program) for text, program in programs.items()}
    layers = {text: program.layers_after(submission.look) for text, program in programs.items()}
    texts = np.array([submission.choices[each] for each in ids]).T
    chosen = np.vectorize(columns.__getitem__, otypes=[np.intp])(texts)
    costs = np.vectorize(layers.__getitem__, otypes=[np.float64])(texts) / world.depth
    return score_learner(world, rows, chosen, costs, static, submission.seconds)
