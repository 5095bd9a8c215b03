"""``polar record run|check|describe|reference|score|curves|transfer|push|pull|export``: recorded worlds."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import Field

from polar_env.cli.bars import bars, console
from polar_env.cli.estimate import Work
from polar_env.cli.flags import EngineConfig, with_model
from polar_env.cli.hub import pull_world, push_world
from polar_env.cli.opening import open_pool, open_prompts, open_ray, open_world, require_engine
from polar_env.cli.tracked import log_world, tracked
from polar_env.errors import ConfigError, UnknownNameError
from polar_env.program import Program, single_edits
from polar_env.questions import Question, mixed_order, without_examples
from polar_env.tables import read_json, write_whole

if TYPE_CHECKING:
    from polar_env.worlds import LiveWorld, RecordedWorld, Unstable

__all__ = ["CONFIG", "EXAMPLES", "RecordConfig", "run"]


class RecordConfig(EngineConfig):
    """Record worlds: execute shared programs on many questions once, for learners that need no LLM.

    run: record --questions and write OUT/world; run again, it goes on where it stopped. check WORLD: whether every byte
    is there, with --again whether the LLM still says so. describe WORLD: what methods that do not learn are worth in
    it: how much there is to learn. reference WORLD: let the reference learners learn it, and score them;
    OUT/reference.json keeps each as it is done, beside other worlds' scores, and OUT/submissions what they chose. score
    FILE: check a file of such choices, yours or others', and score it. curves WORLD: what the value agent gains from
    more questions, more programs, later states and at other prices, cross-validated; OUT/curves.json and curves.png.
    transfer WORLD: what it is worth on tasks and numbers that it was not fitted on; OUT/transfer.json. push WORLD
    OWNER/REPO: to the Hugging Face hub, with a page made of its card and table. pull OWNER/REPO: from there into a new
    folder, OUT or one that is called as the repository, every file checked. export WORLD --minari NAME: episodes of a
    behaviour policy as a Minari data set, in Minari's own folder ($MINARI_DATASETS_PATH).
    """

    action: Annotated[
        Literal["run", "check", "describe", "reference", "score", "curves", "transfer", "push", "pull", "export"],
        tyro.conf.Positional,
    ] = "run"
    """What to do."""
    world: Annotated[str, tyro.conf.Positional] = "skills-smollm2-135m-v0"
    """check, describe, reference, push, export: a world that ships with the package, or a folder; score: a file of
    choices; pull: a repository of the hub."""
    repo: Annotated[str, tyro.conf.Positional] = ""
    """push: a repository of the hub, OWNER/REPO; made where there is none."""
    private: bool = False
    """push: a new repository is seen by its owner alone."""
    revision: str = ""
    """push: a branch, made where there is none; pull: a branch, tag or commit; by default the main branch."""
    of_world: str = ""
    """score: the world's folder, where it does not ship with the package."""
    program: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """run: programs to record beside the identity, repeatable; by default all single edits."""
    programs: str = ""
    """run: a text file of more programs, one a line."""
    name: str = "world"
    """run: how the world is called."""
    licence: str = "unknown"
    """run: under which licence its questions may be used."""
    texts: bool = True
    """run: ship the questions' texts; without them only their ids, where a licence forbids it."""
    piece: Annotated[int, Field(ge=1)] = 16
    """run: questions that are recorded at a time, under 128 programs; a stop loses what is being recorded."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """run: begin no piece later than this; 0 goes on to the end."""
    verdicts_dtype: str = ""
    """run: floating-point type for verdicts, confidences and answers, where one is faster; the share of verdicts that
    are others in --dtype is stored. States are always of --dtype."""
    writers: Annotated[int, Field(ge=0)] = 17
    """run: so many programs beside the identity write their whole answers: the best of train and validation."""
    again: bool = False
    """check: load the LLM and execute --pairs again."""
    pairs: Annotated[int, Field(ge=1)] = 500
    """check --again: so many; run: verdicts of another --verdicts-dtype that are executed again in --dtype."""
    components: Annotated[int, Field(ge=1)] = 96
    """run: numbers kept of a hidden state."""
    every: Annotated[int, Field(ge=1)] = 2
    """run: states are kept after each so many layers."""
    split: Literal["train", "validation", "test"] | None = None
    """On which questions: describe, reference: test unless said otherwise; export: train."""
    seeds: Annotated[int, Field(ge=1)] = 10
    """reference: how often each learner learns."""
    steps: Annotated[int, Field(ge=1)] = 50_000
    """reference: verdicts that learners by trial may ask for."""
    control: bool = False
    """reference: shuffle states among questions first, so that nothing can be learned from them; learners that read
    states."""
    learner: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """reference: learners, repeatable; by default all."""
    minari: str = ""
    """export: name of the Minari data set, e.g. polar/skills/uniform-v0."""
    policy: Literal["uniform", "best"] = "uniform"
    """export: who chooses programs: each alike, or the cheapest right one, which only a judge can know."""
    form: Literal["menu", "segments"] = "menu"
    """export: form of the environment."""
    per_question: Annotated[int, Field(ge=1)] = 1
    """export: episodes for each question."""


CONFIG = RecordConfig
EXAMPLES = (
    "polar record describe skills-smollm2-135m-v0",
    "polar record run --questions arithmetic --limit 50 --out runs/recorded",
)


def work(config: RecordConfig) -> Work | None:
    """Of a recording: verdicts of all pairs, and answers of some programs. Other actions are not counted."""
    if config.action != "run":
        return None
    world, questions, programs = _pairs(config)
    answers = sum(not question.choices for question in questions) * min(1 + config.writers, len(programs))
    verdicts = len(questions) * len(programs)
    return Work(verdicts, len(programs), answers, world=world, questions=questions)


def run(config: RecordConfig) -> dict[str, Any]:
    """Do what the action says."""
    actions = {
        "run": _record,
        "check": _check,
        "describe": _describe,
        "reference": _reference,
        "score": _score,
        "curves": _curves,
        "transfer": _transfer,
        "push": _push,
        "pull": _pull,
        "export": _export,
    }
    return actions[config.action](config)


def _pairs(config: RecordConfig) -> tuple[LiveWorld, list[Question], list[Program]]:
    """The world that gives verdicts, the questions, and the programs, the identity first."""
    if not config.questions:
        raise ConfigError("there is nothing to record; give --questions, e.g. polar record run --questions arithmetic.")
    require_engine(config)
    prompts = open_prompts(config)
    questions = mixed_order(without_examples(open_pool(config).questions, prompts), config.seed)
    questions = questions[: config.limit] if config.limit else questions
    fast = open_world(config.model_copy(update={"dtype": config.verdicts_dtype or config.dtype}), prompts)
    fast.check(questions)
    given = [Program.parse(text, fast.depth) for text in _texts(config)] or list(single_edits(fast.identity))
    return fast, questions, list(dict.fromkeys([fast.identity, *given]))


def _record(config: RecordConfig) -> dict[str, Any]:
    from polar_env.worlds import write_world

    fast, questions, programs = _pairs(config)
    folder, total = config.out / "recording", len(questions) * len(programs)
    outcome: dict[str, Any] = {"questions": len(questions), "programs": len(programs), "verdicts": total, "world": None}
    try:
        with tracked(config, "record"):
            done = _record_tiles(config, fast, questions, programs, folder)
            if done < total:
                console.print(f"{done:,} of {total:,} verdicts are recorded; the same command goes on.", markup=False)
                return outcome | {"recorded": done}
            world = _pack(config, fast, questions, programs, folder)
            write_world(world, config.out / "world", texts=config.texts)
            log_world(config.out / "world", world)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{folder} keeps what was recorded; run the same command to go on.") from None
    if not config.texts:
        console.print("texts were left out, as asked; questions are known by their ids.")
    console.print(f"world: {config.out / 'world'}", markup=False)
    return outcome | {"recorded": done, "world": str(config.out / "world")}


def _pack(
    config: RecordConfig, fast: LiveWorld, questions: list[Question], programs: list[Program], folder: Path
) -> RecordedWorld:
    """A world of recorded verdicts: with the answers of the best programs, and with states."""
    from train.pack import pack
    from train.record import read_recording
    from train.states import record_states
    from train.written import best_programs, write_answers

    right = read_recording(folder)[2]["right"]
    writers = [programs[column] for column in best_programs(right, questions, config.writers)]
    with bars(fast.stats)("writing answers", len(questions) * len(writers), "answers") as advance:
        answers = write_answers(fast, questions, writers, folder, on_answers=advance)
    live = open_world(config, fast.prompts)
    with bars(live.stats)("recording states", len(questions), "questions") as advance:
        states = record_states(live, questions, folder, on_questions=advance)
    same = live.llm.fingerprint == fast.llm.fingerprint
    return pack(
        folder, questions, states, name=config.name, sources=config.specs, licence=config.licence,
        components=config.components, every=config.every, answers=answers,
        unstable=None if same else _unstable(config, live, questions, programs, right),
    )  # fmt: skip


def _texts(config: RecordConfig) -> list[str]:
    """Programs to record: those of the flags, then those of the file, one a line."""
    if not config.programs:
        return list(config.program)
    lines = Path(config.programs).read_text(encoding="utf-8").splitlines()
    return [*config.program, *(line.strip() for line in lines if line.strip())]


def _record_tiles(
    config: RecordConfig, live: LiveWorld, questions: list[Question], programs: list[Program], folder: Path
) -> int:
    """Record verdicts and confidences; returns how many verdicts are there."""
    from train.record import record

    total = len(questions) * len(programs)
    console.print(f"{len(questions)} questions x {len(programs)} programs = {total:,} verdicts", markup=False)
    engine = open_ray(config, live) if config.engine == "ray" else None
    started, fresh = time.perf_counter(), 0
    with bars(engine.stats if engine else live.stats)("recording", total, "verdicts") as advance:

        def on_verdicts(count: int) -> None:
            nonlocal fresh
            if not fresh:
                workers = config.workers if engine else 1
                hours = (time.perf_counter() - started) / count * total / 3600 / workers
                console.print(f"about {hours:.1f} hours for all of it, judged by the first piece", markup=False)
            fresh += count
            advance(count)

        return record(
            live, questions, programs, folder, piece=config.piece, seconds=config.seconds or None,
            recorder=engine.tiles if engine else None, on_verdicts=on_verdicts,
        )  # fmt: skip


def _unstable(
    config: RecordConfig, live: LiveWorld, questions: list[Question], programs: list[Program], right: Any
) -> Unstable:
    """How many verdicts are others in the floating-point type of the states."""
    from eval.faithful import unstable_verdicts

    unstable = unstable_verdicts(right, questions, programs, live, config.pairs, config.seed)
    console.print(f"{unstable.changed} of {unstable.pairs} verdicts are others in {live.llm.dtype_name}", markup=False)
    return unstable


def _check(config: RecordConfig) -> dict[str, Any]:
    from polar_env.worlds import open_world as open_recorded

    world = open_recorded(config.world)
    console.print(
        f"{world.card.name}: {len(world.questions)} questions x {len(world.programs)} programs of {world.card.model}, "
        f"every byte of {len(world.card.files)} files as its card says.",
        markup=False,
    )
    outcome = {"name": world.card.name, "questions": len(world.questions), "programs": len(world.programs)}
    if not config.again:
        return outcome
    from eval.faithful import compare_with_live, faithfulness_table

    live = open_world(with_model(config, world.card.model, world.card.dtype), world.prompts)
    found = compare_with_live(world, live, config.pairs, config.seed)
    if not config.json_output:
        print(faithfulness_table(found).markdown())
    return outcome | asdict(found)


def _describe(config: RecordConfig) -> dict[str, Any]:
    from eval.headroom import headroom, headroom_table
    from polar_env.worlds import open_world as open_recorded
    from train.static import static_of_world

    world = open_recorded(config.world)
    static = static_of_world(world)
    split = config.split or "test"
    found = headroom(world, static.program, static.by_task, split, config.seed)
    if not config.json_output:
        print(f"{world.card.name}, {found.identity.count} {split} questions\n")
        print(headroom_table(found).markdown())
    return asdict(found)


def _reference(config: RecordConfig) -> dict[str, Any]:
    from eval.headroom import reference_table, score_learner
    from eval.submission import Submission
    from polar_env.worlds import open_world as open_recorded
    from train.config import ValueConfig
    from train.reference import LEARNERS, READ_NO_STATE, Task, learn
    from train.static import static_of_world

    world = open_recorded(config.world)
    world = world.shuffled() if config.control else world
    unknown = [name for name in config.learner if name not in LEARNERS]
    if unknown:
        raise UnknownNameError("learner", unknown[0], LEARNERS)
    if config.split not in (None, "test"):
        raise ConfigError(f"reference learners learn on train and validation; score them on test, not {config.split}.")
    of_control = [name for name in LEARNERS if name not in READ_NO_STATE]
    names = config.learner or (of_control if config.control else LEARNERS)
    rows, static = world.rows("test"), static_of_world(world).program
    task, scores = Task(world, "train+validation", ValueConfig(), config.steps), {}
    path = config.out / "reference.json"
    with bars(world.stats)("learning", len(names), "learners") as advance:
        for name in names:
            chosen, costs, seconds = learn(task, name, config.seeds, rows)
            scores[name] = score_learner(world, rows, chosen, costs, static, seconds)
            values = read_json(path, delete=path) if path.is_file() else {}
            values[world.card.name] = values.get(world.card.name, {}) | {name: scores[name].as_json()}
            write_whole(path, json.dumps(values, indent=1).encode())
            advance(1)
            if config.control:  # a world that nobody else has
                continue
            look = task.config.look if LEARNERS[name][1] else 0
            given = Submission.of_choices(world, rows, chosen, learner=name, look=look, seconds=seconds)
            given.write(config.out / "submissions" / world.card.name / f"{name.replace(' ', '-')}.json")
    if not config.json_output:
        print(f"{world.card.name}, {len(rows)} test questions\n")
        print(reference_table(scores).markdown())
    return values


def _curves(config: RecordConfig) -> dict[str, Any]:
    from eval.curves import curve_table, draw_curves, point_of
    from polar_env.worlds import open_world as open_recorded
    from train.config import ValueConfig
    from train.curves import CURVES, learning_curves

    world = open_recorded(config.world)
    with bars(world.stats)("cross-validating", sum(map(len, CURVES.values())), "points") as advance:
        points = [
            point_of(each.curve, each.value, each.judged.right, each.judged.static_right, each.judged.costs)
            for each in learning_curves(world, ValueConfig(), config.seed, advance)
        ]
    values = {"world": world.card.name, "points": [point.as_json() for point in points]}
    write_whole(config.out / "curves.json", json.dumps(values, indent=1).encode())
    draw_curves(points, config.out / "curves.png")
    if not config.json_output:
        print(f"{world.card.name}, {len(world.rows('train+validation'))} train and validation questions\n")
        print(curve_table(points).markdown())
    return values


def _transfer(config: RecordConfig) -> dict[str, Any]:
    from eval.curves import transfer_row, transfer_table
    from polar_env.worlds import open_world as open_recorded
    from train.config import ValueConfig
    from train.transfer import transfers

    world = open_recorded(config.world)
    rows = [
        transfer_row(name, judged.right, judged.static_right, world.arrays["right"][judged.questions, 0], judged.costs)
        for name, judged in transfers(world, ValueConfig())
    ]
    values = {"world": world.card.name, "rows": [asdict(row) for row in rows]}
    write_whole(config.out / "transfer.json", json.dumps(values, indent=1).encode())
    if not config.json_output:
        print(transfer_table(rows).markdown())
    return values


def _score(config: RecordConfig) -> dict[str, Any]:
    from eval.headroom import reference_table
    from eval.submission import read_submission, score_submission
    from polar_env.worlds import open_world as open_recorded
    from train.static import static_of_world

    submission = read_submission(Path(config.world))
    world = open_recorded(config.of_world or submission.world)
    score = score_submission(submission, world, static_of_world(world).program)
    if not config.json_output:
        print(f"{submission.learner} on {len(submission.choices)} {submission.split} questions of {world.card.name}\n")
        print(reference_table({submission.learner: score}).markdown())
    return {submission.learner: score.as_json()}


def _push(config: RecordConfig) -> dict[str, Any]:
    return push_world(config.world, config.repo, config.private, config.revision)


def _pull(config: RecordConfig) -> dict[str, Any]:
    given = config.out if config.out != RecordConfig.model_fields["out"].default else None
    return pull_world(config.world, given, config.revision)


def _export(config: RecordConfig) -> dict[str, Any]:
    from polar_env.traces.exchange.minari_world import export_world

    if not config.minari:
        raise ConfigError("there is no name for the data set; give e.g. --minari polar/skills/uniform-v0.")
    split = config.split or "train"
    episodes = export_world(
        config.world, config.minari, config.policy, config.form, split, config.per_question, config.seed
    )
    console.print(f"{episodes} episodes in {config.minari}; minari.load_dataset opens it.", markup=False)
    return {"dataset": config.minari, "episodes": episodes}
