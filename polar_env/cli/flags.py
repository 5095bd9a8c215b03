"""Flags that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro
from pydantic import Field

from polar_env.config import Config

__all__ = [
    "DEFAULT_PROMPT",
    "PROMPT_FILE",
    "EngineConfig",
    "ModelConfig",
    "QuestionsConfig",
    "TrackingConfig",
    "with_model",
]

DEFAULT_MODEL, DEFAULT_DTYPE, DEFAULT_PROMPT = "smollm2-135m", "float32", "restate-6"
PROMPT_FILE = "prompt.yaml"


class ModelConfig(Config):
    """Flags about the model."""

    model: str = ""
    """A named model, a local folder, or a hub id (owner/name); by default that of the agent or trace set, or
    smollm2-135m."""
    dtype: str = ""
    """Floating-point type that the LLM runs in; by default that of the agent or trace set, or float32. auto measures
    whether bfloat16 is clearly faster here than float32."""
    device: str = "cpu"
    """Device that the LLM runs on."""
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the results as one JSON object on standard output; everything else goes to standard error."""

    @property
    def model_name(self) -> str:
        """The model asked for, or the default one."""
        return self.model or DEFAULT_MODEL

    @property
    def dtype_name(self) -> str:
        """The floating-point type asked for, or the default one."""
        return self.dtype or DEFAULT_DTYPE


class QuestionsConfig(ModelConfig):
    """Flags about the model, its questions and the run."""

    questions: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Questions, repeatable: a mixture such as 'arithmetic', rg:NAME, jsonl:PATH, or a .yaml file with a list of
    sources; options follow in braces."""
    prompt: str = ""
    """Prompt: STYLE-N (styles qa, bare, chat, restate; N examples) or a prompt file; by default OUT/prompt.yaml, or
    restate-6 where there is none."""
    examples: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Questions whose train split gives the worked examples, repeatable; by default those of --questions."""
    limit: Annotated[int, Field(ge=0)] = 0
    """Use at most this many questions, tasks taking turns; 0 uses all."""
    skip_bad: bool = False
    """Leave out broken lines of JSON files, and say how many."""
    memory_gib: Annotated[float, Field(ge=0)] = 0.0
    """Bound of memory in GiB: libraries, weights, states in flight, and what is kept of them for later; 0 is, on a CPU,
    the smaller of 4 GiB and half of the memory, on an accelerator 70 % of its memory, or the libraries and twice the
    weights where that is more."""
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


class TrackingConfig(QuestionsConfig):
    """Flags of commands whose work is tracked."""

    track: Literal["wandb", "tensorboard", "none"] = "wandb"
    """Where metrics, tables, images and files go: wandb keeps them in OUT/wandb, or sends them with WANDB_MODE=online;
    tensorboard writes OUT/tensorboard."""


class EngineConfig(TrackingConfig):
    """Flags about where work on many questions runs."""

    engine: str = "local"
    """Where questions are executed: local, in this process; ray, on the workers of a Ray cluster, each with its own
    copy of the LLM; or an engine that an installed package adds."""
    workers: Annotated[int, Field(ge=1)] = 2
    """ray: how many workers."""
    worker_gpus: Annotated[float, Field(ge=0)] = 0.0
    """ray: share of a GPU that each worker takes."""
    ray_address: str = ""
    """ray: address of a running cluster ('auto' finds the one of this machine); empty starts one here."""


C = TypeVar("C", bound=ModelConfig)


def with_model(config: C, model: str, dtype: str) -> C:
    """The model and the floating-point type of what was made before, where the flags name no other."""
    own = {} if config.model else {"model": model}
    own |= {"dtype": dtype} if config.dtype in ("", "auto") else {}
    return config.model_copy(update=own)
