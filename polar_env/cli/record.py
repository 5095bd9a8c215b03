"""``polar record run|check|describe``: recorded worlds."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field

from polar_env.cli.bars import bars, console
from polar_env.cli.flags import QuestionsConfig
from polar_env.cli.opening import open_pool, open_prompts, open_world
from polar_env.errors import ConfigError
from polar_env.program import Program, single_edits
from polar_env.questions import mixed_order, without_examples

__all__ = ["CONFIG", "RecordConfig", "run"]


class RecordConfig(QuestionsConfig):
    """Record worlds: execute shared programs on many questions once, for learners that need no LLM.

    run: record --questions and write OUT/world; run again, it goes on where it stopped. check WORLD: whether every byte
    is there. describe WORLD: what methods that do not learn are worth in it: how much there is to learn.
    """

    action: Annotated[Literal["run", "check", "describe"], tyro.conf.Positional] = "run"
    """What to do."""
    world: Annotated[str, tyro.conf.Positional] = "skills-smollm2-135m-v0"
    """check, describe: a world that ships with the package, or a folder."""
    program: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """run: programs to record beside the identity, repeatable; by default all single edits."""
    name: str = "world"
    """run: how the world is called."""
    licence: str = "unknown"
    """run: under which licence its questions may be used."""
    texts: bool = True
    """run: ship the questions' texts; without them only their ids, where a licence forbids it."""
    piece: Annotated[int, Field(ge=1)] = 16
    """run: questions that are recorded at a time; a stop loses one piece."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """run: begin no piece later than this; 0 goes on to the end."""
    components: Annotated[int, Field(ge=1)] = 96
    """run: numbers kept of a hidden state."""
    every: Annotated[int, Field(ge=1)] = 2
    """run: states are kept after each so many layers."""
    split: Literal["train", "validation", "test"] = "test"
    """describe: on which questions."""


CONFIG = RecordConfig


def run(config: RecordConfig) -> dict[str, Any]:
    """Do what the action says."""
    return {"run": _record, "check": _check, "describe": _describe}[config.action](config)


def _record(config: RecordConfig) -> dict[str, Any]:
    from polar_env.worlds import write_world
    from train.record import pack, record

    if not config.questions:
        raise ConfigError("there is nothing to record; give --questions, e.g. polar record --questions arithmetic.")
    prompts = open_prompts(config)
    questions = mixed_order(without_examples(open_pool(config).questions, prompts), config.seed)
    questions = questions[: config.limit] if config.limit else questions
    live = open_world(config, prompts)
    live.check(questions)
    given = [Program.parse(text, live.depth) for text in config.program] or list(single_edits(live.identity))
    programs = list(dict.fromkeys([live.identity, *given]))
    total, folder = len(questions) * len(programs), config.out / "recording"
    console.print(f"{len(questions)} questions x {len(programs)} programs = {total:,} verdicts", markup=False)
    started, fresh = time.perf_counter(), 0
    with bars(live.stats)("recording", total, "verdicts") as advance:

        def on_verdicts(count: int) -> None:
            nonlocal fresh
            if not fresh:
                hours = (time.perf_counter() - started) / count * total / 3600
                console.print(f"about {hours:.1f} hours for all of it, judged by the first piece", markup=False)
            fresh += count
            advance(count)

        try:
            done = record(
                live, questions, programs, folder, piece=config.piece, seconds=config.seconds or None,
                on_verdicts=on_verdicts,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{folder} keeps what was recorded; run the same command to go on.") from None
    if done < len(questions):
        console.print(f"{done} of {len(questions)} questions are recorded; run the same command to go on.")
        return {"questions": done, "of": len(questions), "programs": len(programs), "world": None}
    world = pack(
        folder, questions, name=config.name, sources=config.specs, licence=config.licence,
        components=config.components, every=config.every,
    )  # fmt: skip
    write_world(world, config.out / "world", texts=config.texts)
    if not config.texts:
        console.print("texts were left out, as asked; questions are known by their ids.")
    console.print(f"world: {config.out / 'world'}", markup=False)
    return {
        "questions": done, "of": len(questions), "programs": len(programs), "world": str(config.out / "world")
    }  # fmt: skip


def _check(config: RecordConfig) -> dict[str, Any]:
    from polar_env.worlds import open_world as open_recorded

    world = open_recorded(config.world)
    console.print(
        f"{world.card.name}: {len(world.questions)} questions x {len(world.programs)} programs of {world.card.model}, "
        f"every byte of {len(world.card.files)} files as its card says.",
        markup=False,
    )
    return {"name": world.card.name, "questions": len(world.questions), "programs": len(world.programs)}


def _describe(config: RecordConfig) -> dict[str, Any]:
    from eval.headroom import headroom, headroom_table
    from polar_env.worlds import open_world as open_recorded
    from train.static import static_of_world

    world = open_recorded(config.world)
    static = static_of_world(world)
    found = headroom(world, static.program, static.by_task, config.split, config.seed)
    if not config.json_output:
        print(f"{world.card.name}, {found.identity.count} {config.split} questions\n")
        print(headroom_table(found).markdown())
    return asdict(found)
