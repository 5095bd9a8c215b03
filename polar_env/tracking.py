"""Where a run's metrics, tables, images and files go: Weights & Biases, TensorBoard, or nowhere.

A command opens one tracker (`tracking`); whatever works under it logs to `tracker()`, as to a logger.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polar_env.errors import ConfigError
from polar_env.tables import read_json, write_whole

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EXPERIMENT", "TensorBoardTracker", "Tracker", "WandbTracker", "experiment_of", "tracker", "tracking"]

EXPERIMENT = "experiment.json"
"""In a run's folder: the name that groups its search, training and evaluation."""
_MODES = ("offline", "online", "disabled", "shared")
_SECONDS_TO_CONNECT = 30
Kind = Literal["traces", "recorded-world", "agent", "report"]
"""What an artifact is."""


class Tracker:
    """Keeps nothing: what code logs to where no tracking is wanted, and the interface of the trackers below."""

    place = ""
    """One sentence for the user: where everything lies; empty where nothing is kept."""
    last_step = 0
    """The largest step so far."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics, named ``part/metric``, at a ``global_step``."""
        self.last_step = max(self.last_step, step)

    def summary(self, values: Mapping[str, float]) -> None:
        """Set values that describe the whole run, named ``part/metric``."""

    def table(self, name: str, rows: pd.DataFrame) -> None:
        """Log a table."""

    def image(self, name: str, path: Path) -> None:
        """Log a PNG file."""

    def input(self, kind: Kind, path: Path) -> None:
        """Say which file or folder this run reads."""

    def output(self, kind: Kind, path: Path) -> None:
        """Keep a file or folder that this run made; made from all inputs that were named before."""

    def close(self, *, failed: bool) -> None:
        """The run is over."""


class WandbTracker(Tracker):
    """A run of Weights & Biases.

    Offline unless ``WANDB_MODE`` says otherwise, or a sweep's agent started the run. The library's variables are kept
    to, such as ``WANDB_PROJECT``, ``WANDB_RUN_GROUP``, ``WANDB_RUN_ID``, ``WANDB_NAME`` and ``WANDB_DIR``.

    Args:
        folder: the run's folder; wandb's files lie in ``folder/wandb``. Its experiment groups its runs.
        job: what this run does in it. A run of the same job goes on with the same wandb run.
        config: the resolved configuration.
        part: which of several runs of the job, where one folder takes them.

    Raises:
        ConfigError: for an unknown mode, an id that wandb does not take, and online for a missing key or a server that
            cannot be reached.
    """

    def __init__(self, folder: Path, job: str, config: dict[str, Any], part: str = "") -> None:
        os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")  # it takes our package `agents` for OpenAI's
        import wandb

        given = os.environ.get
        swept = given("WANDB_SWEEP_ID") is not None
        mode: Any = given("WANDB_MODE", "online" if swept else "offline")
        if mode not in _MODES:
            raise ConfigError(f"WANDB_MODE is '{mode}'; it must be one of {', '.join(_MODES)}.")
        self._offline, group = mode == "offline", experiment_of(folder)
        name = f"{folder.resolve().name} {job} {part}".strip()
        run_id = given("WANDB_RUN_ID", None if swept else "-".join(filter(None, [_name_of(folder), job, part])))
        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(mode=mode, silent=True, console="off", init_timeout=_SECONDS_TO_CONNECT)
        try:
            self.run = wandb.init(
                project=given("WANDB_PROJECT", "polar-env"), group=given("WANDB_RUN_GROUP", group),
                job_type=given("WANDB_JOB_TYPE", job), name=given("WANDB_NAME", name),
                id=run_id, resume=None if self._offline else "allow", dir=given("WANDB_DIR", str(folder)),
                config=config, settings=settings,
            )  # fmt: skip
        except wandb.errors.Error as error:
            mend = (
                "Mend the WANDB_ variable that it names, or give --track none"
                if self._offline
                else "Run `wandb login`, or keep the run on disk: leave WANDB_MODE unset, and send it later with "
                "`wandb sync`"
            )
            raise ConfigError(
                f"wandb cannot log {'offline' if self._offline else 'online'}: "
                f"{str(error).splitlines()[0].rstrip('.')}. {mend}."
            ) from error
        self.run.define_metric("*", step_metric="global_step")
        self._inputs: list[dict[str, str]] = []
        self.place = (
            f"wandb: kept in {Path(self.run.dir).parent}; send it with `wandb sync {Path(self.run.dir).parent}`"
            if self._offline
            else f"wandb: {self.run.url}"
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics at a step."""
        super().log(metrics, step)
        self.run.log({**metrics, "global_step": step})

    def summary(self, values: Mapping[str, float]) -> None:
        """Set values of the whole run."""
        self.run.summary.update(dict(values))

    def table(self, name: str, rows: pd.DataFrame) -> None:
        """Log a ``wandb.Table``."""
        import wandb

        self.run.log({name: wandb.Table(dataframe=rows)})

    def image(self, name: str, path: Path) -> None:
        """Log a ``wandb.Image``."""
        import wandb

        self.run.log({name: wandb.Image(str(path))})

    def input(self, kind: Kind, path: Path) -> None:
        """Use an artifact. Offline, where wandb cannot, its digest goes into the configuration and the outputs."""
        artifact = self._artifact(kind, path)
        self._inputs.append({"name": artifact.name, "type": kind, "digest": artifact.digest})
        self.run.config.update({"inputs": self._inputs}, allow_val_change=True)  # type: ignore[no-untyped-call]
        if not self._offline:
            self.run.use_artifact(artifact)

    def output(self, kind: Kind, path: Path) -> None:
        """Log an artifact; its metadata name the inputs."""
        artifact = self._artifact(kind, path)
        artifact.metadata = {"made_from": self._inputs}
        self.run.log_artifact(artifact)

    def close(self, *, failed: bool) -> None:
        """Finish the run."""
        self.run.finish(exit_code=int(failed))

    def _artifact(self, kind: Kind, path: Path) -> Any:
        import wandb

        artifact = wandb.Artifact(_name_of(path), type=kind)
        for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
            name = str(file.relative_to(path if path.is_dir() else path.parent))
            artifact.add_file(str(file), name=name, policy="immutable", skip_cache=True)  # else it is copied elsewhere
        return artifact


class TensorBoardTracker(Tracker):
    """TensorBoard's event files; tables are Markdown texts, and files are named, not copied.

    Args:
        folder: the run's folder; the events lie in ``folder/tensorboard/JOB``.
        job: what this run does.
        config: the resolved configuration.

    Raises:
        ConfigError: if tensorboard is not installed.
    """

    def __init__(self, folder: Path, job: str, config: dict[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("--track tensorboard needs a package: pip install 'polar-env[tensorboard]'.") from error
        events = folder / "tensorboard" / job
        self._writer: Any = SummaryWriter(str(events))
        self._writer.add_text("config", f"```\n{json.dumps(config, indent=2)}\n```")
        self.place = f"TensorBoard: tensorboard --logdir {folder / 'tensorboard'}"

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add scalars."""
        super().log(metrics, step)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def summary(self, values: Mapping[str, float]) -> None:
        """Add scalars without a step."""
        self.log(values, 0)

    def table(self, name: str, rows: pd.DataFrame) -> None:
        """Add a text."""
        cells = rows.map(lambda cell: " ".join(str(cell).replace("|", r"\|").split()))  # a cell is one line
        lines = [cells.columns, ["---"] * len(cells.columns), *cells.itertuples(index=False)]
        self._writer.add_text(name, "\n".join(" | ".join(line) for line in lines))

    def image(self, name: str, path: Path) -> None:
        """Add an image."""
        from matplotlib.image import imread

        self._writer.add_image(name, imread(path), dataformats="HWC")

    def input(self, kind: Kind, path: Path) -> None:
        """Add a text that names the path."""
        self._writer.add_text(f"input/{kind}", str(path))

    def output(self, kind: Kind, path: Path) -> None:
        """Add a text that names the path."""
        self._writer.add_text(f"output/{kind}", str(path))

    def close(self, *, failed: bool) -> None:
        """Close the event file."""
        self._writer.close()


_TRACKER: ContextVar[Tracker | None] = ContextVar("tracker", default=None)


def tracker() -> Tracker:
    """The tracker of the command that runs; one that keeps nothing where none was opened."""
    return _TRACKER.get() or Tracker()


@contextmanager
def tracking(
    to: Literal["wandb", "tensorboard", "none"], folder: Path, job: str, config: dict[str, Any], part: str = ""
) -> Iterator[Tracker]:
    """Open a tracker, which is the current one until the block ends.

    Args:
        to: where everything goes; ``wandb`` with ``WANDB_MODE=disabled`` is ``none``.
        folder: the run's folder.
        job: what the run does: ``search``, ``train-ppo``, ``eval``.
        config: the resolved configuration.
        part: which of several runs of the job, where one folder takes them.

    Raises:
        ConfigError: see the trackers.
    """
    if to == "none" or (to == "wandb" and os.environ.get("WANDB_MODE") == "disabled"):
        opened = Tracker()
    elif to == "wandb":
        opened = WandbTracker(folder, job, config, part)
    else:
        opened = TensorBoardTracker(folder, "-".join(filter(None, [job, part])), config)
    token, failed = _TRACKER.set(opened), True
    try:
        yield opened
        failed = False
    finally:
        _TRACKER.reset(token)
        opened.close(failed=failed)


def experiment_of(folder: Path) -> str:
    """The experiment that a run's folder belongs to: its own or that of the folder above; made on first use."""
    for each in (folder, folder.parent):
        if (each / EXPERIMENT).is_file():
            return _experiment(each / EXPERIMENT)
    name = f"{_slug(folder.resolve().name)[:40]}-{secrets.token_hex(3)}"
    write_whole(folder / EXPERIMENT, json.dumps({"experiment": name}).encode())
    return name


def _experiment(path: Path) -> str:
    """The name in such a file.

    Raises:
        ConfigError: if it holds none.
    """
    try:
        return str(read_json(path)["experiment"])
    except (ConfigError, KeyError) as error:
        raise ConfigError(f"{path} names no experiment; delete that file, and a new one is made.") from error


def _name_of(path: Path) -> str:
    """A run's or an artifact's name: its experiment and the way from there to the path; outside, the path's own."""
    path = path.resolve()
    for above in (path, *path.parents[:3]):  # OUT/agents/NAME, in a folder below the experiment's
        if (above / EXPERIMENT).is_file():
            return _slug("-".join([_experiment(above / EXPERIMENT), *path.relative_to(above).parts]))
    return _slug(path.name)


def _slug(text: str) -> str:
    """A text in the letters, and of the length, that wandb takes in a name; the end of a long one."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-")[-100:] or "run"
