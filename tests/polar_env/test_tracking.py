"""Tracking: what wandb keeps offline is read back from its own files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from polar_env.cli import _read_config, main
from polar_env.cli import train as train_verb
from polar_env.errors import ConfigError
from polar_env.tables import read_json
from polar_env.tracking import experiment_of, tracker, tracking
from tests.recording import part_of_shipped
from tests.wandb_files import OfflineRun, read_offline_run

SWEEPS = sorted(path.name for path in (resources.files("train.presets") / "sweeps").iterdir())


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


def runs_of(folder: Path) -> list[OfflineRun]:
    return [read_offline_run(each) for each in sorted(folder.glob("wandb/offline-run-*"))]


def test_a_run_keeps_metrics_tables_images_and_files(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    made, out = tmp_path / "data.txt", tmp_path / "run"
    made.write_text("what is read")
    figure, picture = plt.figure(), tmp_path / "picture.png"
    figure.savefig(picture)
    with tracking("wandb", out, "search", {"seed": 3}) as opened:
        assert tracker() is opened
        tracker().log({"search/right": 0.5}, 10)
        tracker().log({"search/right": 0.75}, 20)
        tracker().table("search/verdicts", pd.DataFrame({"question": ["q"], "right": [True]}))
        tracker().image("search/programs", picture)
        tracker().summary({"search/rows": 4})
        tracker().input("recorded-world", made)
        (out / "traces").mkdir()
        (out / "traces" / "a.json").write_text("{}")
        tracker().output("traces", out / "traces")
    assert tracker() is not opened
    assert f"wandb sync {out}" in opened.place
    (run,) = runs_of(out)
    experiment = experiment_of(out)
    assert (run.run.run_group, run.run.job_type, run.run.run_id) == (experiment, "search", f"{experiment}-search")
    assert run.config["seed"] == 3
    steps = {row["global_step"]: row["search/right"] for row in run.history if "search/right" in row}
    assert steps == {10: 0.5, 20: 0.75}
    media = {key: value for row in run.history for key, value in row.items()}
    assert media["search/verdicts._type"] == "table-file"
    assert (media["search/verdicts.nrows"], media["search/verdicts.ncols"]) == (1, 2)
    assert media["search/programs._type"] == "image-file"
    assert run.summary["search/rows"] == 4
    (artifact,) = [each for each in run.artifacts if each.type == "traces"]
    assert artifact.name == f"{experiment}-traces"
    assert [entry.path for entry in artifact.manifest.contents] == ["a.json"]
    (origin,) = run.config["inputs"]
    assert origin["name"] == "data.txt"
    assert origin["digest"] in artifact.metadata
    assert run.exit_code == 0


def test_runs_of_an_experiment_are_grouped_and_a_job_goes_on(tmp_path: Path) -> None:
    for folder, job in ((tmp_path, "train-ppo"), (tmp_path, "eval"), (tmp_path / "search", "search")):
        with tracking("wandb", folder, job, {}):
            pass
    time.sleep(1.1)  # wandb names folders by the second
    with pytest.raises(KeyboardInterrupt), tracking("wandb", tmp_path, "train-ppo", {}):
        raise KeyboardInterrupt
    runs = [*runs_of(tmp_path), *runs_of(tmp_path / "search")]
    assert len({run.run.run_group for run in runs}) == 1
    ids = [run.run.run_id.removeprefix(f"{experiment_of(tmp_path)}-") for run in runs]
    assert sorted(ids) == ["eval", "search-search", "train-ppo", "train-ppo"]
    assert sorted(run.exit_code or 0 for run in runs) == [0, 0, 0, 1]


def test_the_environment_of_wandb_is_kept_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PROJECT", "mine"), ("RUN_GROUP", "g"), ("RUN_ID", "abc")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    with tracking("wandb", tmp_path, "eval", {}):
        pass
    (run,) = runs_of(tmp_path)
    assert (run.run.project, run.run.run_group, run.run.run_id) == ("mine", "g", "abc")


@pytest.mark.parametrize(("track", "mode"), [("none", "offline"), ("wandb", "disabled")])
def test_off_is_off(tmp_path: Path, track: str, mode: str) -> None:
    code = (
        "import sys; from pathlib import Path; import polar_env.tracking as t\n"
        f"with t.tracking('{track}', Path('{tmp_path}'), 'eval', {{}}) as opened: opened.log({{'a': 1.0}}, 1)\n"
        "assert not opened.place and not {'wandb', 'torch'} & set(sys.modules)"
    )
    environment = os.environ | {"WANDB_MODE": mode}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not list(tmp_path.iterdir())


def test_what_wandb_cannot_do_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "of")
    with (
        pytest.raises(ConfigError, match="WANDB_MODE is 'of'; it must be one of offline, online"),
        tracking("wandb", tmp_path, "eval", {}),
    ):
        pass
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with (
        pytest.raises(ConfigError, match=r"(?s)wandb cannot log online: .*wandb login"),
        tracking("wandb", tmp_path, "eval", {}),
    ):
        pass


@pytest.mark.parametrize("content", ["{}", "", "[1]", '{"experiment"'])
def test_a_damaged_experiment_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "experiment.json").write_text(content)
    with (
        pytest.raises(ConfigError, match=r"experiment.json names no experiment; delete that file"),
        tracking("wandb", tmp_path, "eval", {}),
    ):
        pass


def test_tensorboard_is_the_other_choice(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tracking("tensorboard", tmp_path, "train", {"seed": 1}) as opened:
        opened.log({"rollout/right": 0.25}, 64)
        opened.table("eval/methods", pd.DataFrame({"method": ["identity"], "text": ["a|b\n\nc"]}))
        opened.output("agent", tmp_path / "agents")
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "train"))
    events.Reload()
    (event,) = events.Scalars("rollout/right")
    assert (event.step, event.value) == (64, 0.25)
    table = events.Tensors("eval/methods/text_summary")[0].tensor_proto.string_val[0].decode()
    assert table == "method | text\n--- | ---\nidentity | a\\|b c"
    assert {"config/text_summary", "eval/methods/text_summary", "output/agent/text_summary"} <= set(
        events.Tags()["tensors"]
    )


def _swept(preset: str) -> tuple[dict[str, Any], list[str]]:
    """A sweep, and the command that wandb's agent makes of it, without `polar`."""
    sweep = yaml.safe_load((resources.files("train.presets") / "sweeps" / preset).read_text(encoding="utf-8"))
    values = {
        name: {"value": next(iter(each["values"])) if "values" in each else each["max"]}
        for name, each in sweep["parameters"].items()
    }
    flags = create_sweep_command_args({"args": values})["args"]
    polar, *command = [part for each in sweep["command"] for part in (flags if each == "${args}" else [each])]
    assert polar == "polar"
    return sweep, command


@pytest.mark.parametrize("preset", SWEEPS)
def test_sweeps_run_our_command(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    sweep, (verb, *arguments) = _swept(preset)
    assert verb == "train"
    config = _read_config(train_verb.CONFIG, verb, arguments, lambda _, given: given).model_dump()
    for name, each in sweep["parameters"].items():
        value: Any = config
        for key in name.replace("-", "_").split("."):
            value = value[key]
        assert value == (each["values"][0] if "values" in each else each["max"])


def test_a_swept_training_logs_what_the_sweep_maximises(tmp_path: Path) -> None:
    part_of_shipped(tmp_path / "world")
    sweep, command = _swept("value.yaml")
    at = {command[place + 1]: place + 1 for place, flag in enumerate(command) if flag in ("--world", "--out")}
    command[at["skills-smollm2-135m-v0"]], command[at["runs/sweep"]] = str(tmp_path / "world"), str(tmp_path / "out")
    assert main(command) == 0
    (run,) = runs_of(tmp_path / "out")
    assert 0 < run.summary[sweep["metric"]["name"]] < 1
    made = {each.name.partition("-agents-")[2] for each in run.artifacts}
    assert made == {"value", "best-static", "best-static-per-task"}


def test_an_evaluation_on_record_names_its_agent_and_world(tmp_path: Path) -> None:
    out = tmp_path / "my größe: 1"  # what wandb takes in no name
    part_of_shipped(tmp_path / "world")
    assert main(["train", "--world", str(tmp_path / "world"), "--out", str(out)]) == 0
    (trained,) = runs_of(out)
    command = ["eval", "--world", str(tmp_path / "world"), "--out", str(out), "--agent", str(out / "agents" / "value")]
    assert main(command) == 0
    (judged,) = [run for run in runs_of(out) if run.run.job_type == "eval-recorded"]
    assert read_json(out / "recorded.json")["part test"]["value"]["pass_at_1"] == judged.summary["eval/value/pass_at_1"]
    assert 0 < judged.summary["eval/value/pass_at_1"] < 1
    world, agent = judged.config["inputs"]
    assert (world["name"], world["type"]) == ("world", "recorded-world")
    (logged,) = [each for each in trained.artifacts if each.name == agent["name"]]
    assert logged.digest == agent["digest"]
    for entry in logged.manifest.contents:  # not copied out of the run's folder
        assert Path(entry.local_path).is_relative_to(out)


def test_results_that_cannot_be_logged_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part_of_shipped(tmp_path / "world")

    def fail(*_: object) -> None:
        raise ValueError("the disk of wandb is full")

    monkeypatch.setattr("polar_env.tracking.WandbTracker.output", fail)
    assert main(["train", "--world", str(tmp_path / "world"), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert "warning: not all is logged: the disk of wandb is full" in told
    assert "wandb sync" in told


def test_an_id_that_wandb_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "a/b")
    with (
        pytest.raises(ConfigError, match=r"wandb cannot log offline: .* Mend the WANDB_ variable"),
        tracking("wandb", tmp_path, "eval", {}),
    ):
        pass


def test_ppo_logs_the_curves_of_sb3(tmp_path: Path) -> None:
    part_of_shipped(tmp_path / "world", 600)
    short = ["--predictor.total-steps", "2048", "--predictor.lanes", "64", "--predictor.steps", "16"]
    command = ["train", "--world", str(tmp_path / "world"), "--learner", "ppo", "--out", str(tmp_path / "out"), *short]
    assert main(command) == 0
    (run,) = runs_of(tmp_path / "out")
    steps = [row["global_step"] for row in run.history if "train/loss" in row]
    assert len(steps) >= 2
    assert steps == sorted(steps)
