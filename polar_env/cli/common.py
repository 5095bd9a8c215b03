"""Flags that mean the same in every command, and what they stand for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro
from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from polar_env.assets import cache_folder
from polar_env.config import Config
from polar_env.errors import MemoryBoundError
from polar_env.executor import ExecutionStats, Executor
from polar_env.questions import Prompt, Question, Split, load_questions, make_prompt, mixed_order, read_prompt

if TYPE_CHECKING:
    from polar_env.llm import FrozenLLM

__all__ = [
    "ModelConfig",
    "QuestionsConfig",
    "console",
    "open_executor",
    "open_llm",
    "open_prompt",
    "open_questions",
    "progress_bar",
    "with_model",
]

C = TypeVar("C", bound="ModelConfig")
DEFAULT_PROMPT = "restate-6"
PROMPT_FILE = "prompt.yaml"
_LIBRARIES_BYTES = 3 << 29
"""What Python, torch, transformers and the plots take in main memory, with room for what an allocator leaves unused."""
console = Console(stderr=True, highlight=False, soft_wrap=True)
"""Everything that is not a result goes to standard error."""


class ModelConfig(Config):
    """Flags about the model."""

    model: str = "smollm2-135m"
    """A named model, a local folder, or a hub id (owner/name)."""
    dtype: str = "float32"
    """Floating-point type that the LLM runs in; auto measures whether bfloat16 is clearly faster here than float32."""
    device: str = "cpu"
    """Device that the LLM runs on."""
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the results as one JSON object on standard output; everything else goes to standard error."""


_DEFAULTS = ModelConfig.model_fields


class QuestionsConfig(ModelConfig):
    """Flags about the model, its questions and the run."""

    questions: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Questions, repeatable: a mixture such as 'arithmetic', rg:NAME, jsonl:PATH, or a .yaml file with a list of
    sources; options follow in braces."""
    prompt: str = ""
    """Prompt: STYLE-N (styles qa, bare, chat, restate; N examples) or a prompt file; by default OUT/prompt.yaml, or
    restate-6 where there is none."""
    limit: Annotated[int, Field(ge=0)] = 0
    """Use at most this many questions, tasks taking turns; 0 uses all."""
    skip_bad: bool = False
    """Leave out broken lines of JSON files, and say how many."""
    memory_gib: Annotated[float, Field(ge=0)] = 0.0
    """Bound of memory in GiB: libraries, weights, states in flight, and what is kept of them for later; 0 is 4 GiB, or
    the libraries and twice the weights where that is more."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads that the LLM runs on; 0 measures which number is fastest."""
    verdicts: str = ""
    """Folder in which verdicts are kept on disk for all commands and later runs; 'none' keeps them in memory; by
    default $POLAR_HOME/verdicts, or ~/.cache/polar-env/verdicts."""
    out: Path = Path("runs/default")
    """Folder of the run: prompt, traces, agents and reports lie in it."""
    seed: int = 0
    """Seed of everything random in this command."""

    @property
    def specs(self) -> tuple[str, ...]:
        """The questions asked for, or the default mixture."""
        return self.questions or ("arithmetic",)


def open_questions(config: QuestionsConfig, split: Split, without: Prompt | None = None) -> list[Question]:
    """Load one split of the questions.

    Args:
        config: the flags.
        split: which split.
        without: questions that stand in this prompt as examples are left out.
    """
    skipped: list[str] | None = [] if config.skip_bad else None
    questions = load_questions(config.specs, split, skipped=skipped)
    if skipped:
        console.print(f"skipped {len(skipped)} broken lines, the first: {skipped[0]}", markup=False)
    asked = {example.question for example in without.examples} if without else set()
    questions = [question for question in questions if question.text not in asked]
    return mixed_order(questions, 0)[: config.limit] if config.limit else questions


def open_prompt(config: QuestionsConfig) -> Prompt:
    """The prompt that the flags ask for; see `QuestionsConfig.prompt`."""
    recorded = config.out / PROMPT_FILE
    if not config.prompt and recorded.is_file():
        return read_prompt(recorded)
    name = config.prompt or DEFAULT_PROMPT
    if name.endswith((".yaml", ".yml")):
        return read_prompt(Path(name))
    skipped: list[str] | None = [] if config.skip_bad else None
    return make_prompt(name, load_questions(config.specs, "train", skipped=skipped))


def with_model(config: C, model: str, dtype: str) -> C:
    """The model and the floating-point type of what was made before, where the flags name no other."""
    own: dict[str, Any] = {}
    if config.model == _DEFAULTS["model"].default:
        own["model"] = model
    if config.dtype in (_DEFAULTS["dtype"].default, "auto"):
        own["dtype"] = dtype
    return config.model_copy(update=own)


def open_executor(config: QuestionsConfig, prompt: Prompt) -> Executor:
    """Load the model and make its executor.

    Raises:
        MemoryBoundError: if the model leaves nothing of the memory bound.
    """
    return _executor(
        config.model, config.dtype, config.device, prompt.model_dump_json(), config.memory_gib, config.threads,
        config.verdicts,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _executor(
    model: str, dtype: str, device: str, prompt: str, memory_gib: float, threads: int, verdicts: str
) -> Executor:
    """The executor of the last command goes on in the next one of the same process, with all that it remembers."""
    from polar_env.executor.store import VerdictStore
    from polar_env.llm.fastest import fastest_threads

    llm = open_llm(model, dtype, device)
    folder = Path(verdicts) if verdicts else cache_folder() / "verdicts"
    store = None if verdicts == "none" else VerdictStore(folder, llm.fingerprint, llm.dtype_name)
    bound = _memory_left(llm, memory_gib)
    return Executor(llm, Prompt.model_validate_json(prompt), bound, store, threads or fastest_threads(llm))


def _memory_left(llm: FrozenLLM, memory_gib: float) -> int:
    """Bytes that a memory bound leaves beside the model's weights and the libraries.

    Args:
        llm: the model.
        memory_gib: the bound in GiB; 0 is 4 GiB, or the libraries and twice the weights where that is more.

    Raises:
        MemoryBoundError: if nothing is left; says how much is needed.
    """
    weights = sum(int(parameter.nbytes) for parameter in llm.model.parameters())
    libraries = _LIBRARIES_BYTES if llm.device.type == "cpu" else 0
    bound = int(memory_gib * (1 << 30)) or max(4 << 30, libraries + 2 * weights)
    if bound <= libraries + weights:
        raise MemoryBoundError(
            f"the memory bound of {memory_gib} GiB is too small: the weights of {llm.name} take "
            f"{weights / (1 << 30):.2f} GiB and the libraries about {libraries / (1 << 30):.2f} GiB. Give --memory-gib "
            f"{2 * (libraries + weights) / (1 << 30):.1f} or more."
        )
    return bound - libraries - weights


@lru_cache(maxsize=1)
def open_llm(model: str, dtype: str, device: str, attention: str = "") -> FrozenLLM:
    """Load a model; the next command of the same process does not load it again."""
    from polar_env.llm import load_llm

    with console.status(f"loading {model}"):
        return load_llm(model, dtype=dtype, device=device, attention=attention)


@contextmanager
def progress_bar(
    stats: ExecutionStats, title: str, total: int | None, unit: str, per_question: int = 1
) -> Iterator[ProgressBar]:
    """A progress bar with rates: questions and units a second, layer executions a second, cache hit rate.

    Args:
        stats: statistics that give the rates, and grow.
        title: what is being done.
        total: how many units there are; None where nobody knows beforehand.
        unit: what is counted, in the plural.
        per_question: units that make one question.
    """
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        bar = ProgressBar(progress, stats, title, total, unit, per_question)
        yield bar
    console.print(f"{title}: {bar.done} {unit}, {bar.rates()}", markup=False)


class ProgressBar:
    """One bar; see `progress_bar`."""

    def __init__(
        self, progress: Progress, stats: ExecutionStats, title: str, total: int | None, unit: str, per_question: int
    ) -> None:
        self.progress, self.stats, self.unit, self.per_question = progress, stats, unit, per_question
        self.before, self.done = stats.copy(), 0
        self.task = progress.add_task(title, total=total, rates="")

    def advance(self, count: int) -> None:
        """``count`` more units are done."""
        self.done += count
        self.progress.update(self.task, advance=count, rates=self.rates())

    def rates(self) -> str:
        """The rates so far, in words."""
        stats = self.stats.since(self.before)
        seconds = max(self.progress.tasks[0].elapsed or 0.0, 1e-9)
        questions = f"{self.done / self.per_question / seconds:.2f} questions/s, " if self.per_question > 1 else ""
        layers = stats.executed_layers / max(stats.seconds, 1e-9)
        return (
            f"{questions}{self.done / seconds:.1f} {self.unit}/s, {layers:.0f} layer executions/s, "
            f"{stats.hit_rate:.0%} cached, sharing {stats.sharing:.1f}x"
        )
