from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from agents.search.config import PRESETS, MctsConfig
from polar_env.cli import VERBS, _read_config, main, quickstart, train
from polar_env.cli.eval import _split
from polar_env.cli.flags import ModelConfig, with_model
from polar_env.cli.search import SearchVerbConfig, defaults
from polar_env.errors import ConfigError, UnknownNameError
from train.config import MatrixConfig


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ("own", "bfloat16")),
        ({"dtype": "auto"}, ("own", "bfloat16")),  # decided when the agent was trained, not anew
        ({"model": "other", "dtype": "float16"}, ("other", "float16")),
        ({"dtype": "float32"}, ("own", "float32")),  # given by hand it stands, though it is the default, too
    ],
)
def test_what_was_made_before_names_model_and_dtype(asked: dict[str, str], expected: tuple[str, str]) -> None:
    config = with_model(ModelConfig(**asked), "own", "bfloat16")
    assert (config.model, config.dtype) == expected


@pytest.mark.parametrize(
    ("flags", "file", "expected"),
    [
        ([], {}, PRESETS["fast"]),
        (["--preset", "cola"], {}, PRESETS["cola"]),
        (["--preset=cola"], {"mcts": {"simulations": 7}}, PRESETS["cola"].model_copy(update={"simulations": 7})),
        ([], {"preset": "drllm"}, PRESETS["drllm"]),
        (["--preset", "repolar"], {"preset": "drllm"}, PRESETS["repolar"]),
    ],
)
def test_a_preset_by_flag_or_file(flags: list[str], file: dict[str, object], expected: MctsConfig) -> None:
    assert SearchVerbConfig.model_validate(defaults(flags, file)).mcts == expected


def test_flags_win_over_a_file_that_a_dry_run_has_printed() -> None:
    printed = SearchVerbConfig.model_validate(defaults([], {"mcts": {"simulations": 7}})).model_dump(mode="json")
    cola = SearchVerbConfig.model_validate(defaults(["--preset", "cola", "--matrix"], printed))
    assert cola.mcts == PRESETS["cola"].model_copy(update={"simulations": 7})
    assert (cola.matrix, cola.race) == (True, MatrixConfig(candidates=0, combine=8, grow=2))
    assert SearchVerbConfig.model_validate(defaults([], printed)).model_dump(mode="json") == printed
    back = SearchVerbConfig.model_validate(defaults(["--no-matrix"], cola.model_dump(mode="json")))
    assert (back.matrix, back.race) == (False, MatrixConfig(candidates=64))
    by_hand = SearchVerbConfig.model_validate(defaults(["--matrix"], {"race": {"candidates": 64}}))
    assert by_hand.race.candidates == 64


def test_a_file_changes_a_part_of_a_preset() -> None:
    values = quickstart.defaults([], {"evaluation": {"timing_questions": 0}, "mcts": {"simulations": 5}})
    config = quickstart.QuickstartConfig.model_validate(values)
    assert (config.evaluation.timing_questions, config.evaluation.baseline_questions) == (0, 64)
    assert (config.mcts.simulations, config.mcts.widening) == (5, 1.5)


def test_a_file_may_write_keys_as_flags(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("validation-limit: 20\njson: true\nppo: {total-steps: 512}\nppo.lanes: 32\n")
    config = _read_config(train.CONFIG, "train", ["--config", str(tmp_path / "a.yaml")], lambda _, given: given)
    assert isinstance(config, train.TrainConfig)
    assert (config.validation_limit, config.json_output, config.ppo.total_steps, config.ppo.lanes) == (
        20,
        True,
        512,
        32,
    )
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        _read_config(train.CONFIG, "train", ["--config", str(tmp_path / "a.yaml")], lambda _, given: given)


@pytest.mark.parametrize(("verb", "name"), [("prompt", "candidates"), ("record", "program"), ("eval", "agent")])
def test_a_flag_that_may_be_repeated_replaces_what_a_file_says(verb: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{name}: [old, older]\n")
    arguments = ["--config", str(tmp_path / "a.yaml"), f"--{name}", "new"]
    config = _read_config(import_module(f"polar_env.cli.{verb}").CONFIG, verb, arguments, lambda _, given: given)
    assert getattr(config, name) == ("new",)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_configuration_may_come_through_a_pipe() -> None:
    code = "import sys; from polar_env.cli import main; sys.exit(main())"
    command = (
        f"'{sys.executable}' -c '{code}' train --world skills-smollm2-135m-v0 --config <(echo 'seed: 7') --dry-run"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "seed: 7" in done.stdout, done.stderr


def test_tasks_are_split_at_their_own_commas() -> None:
    nested = "rg:chain_sum {size: 200, options: {max_terms: 2}}"
    assert _split(f"skills, {nested},words,") == ["skills", nested, "words"]


def test_a_preset_in_a_file_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'cola'"):
        defaults([], {"preset": "cloa"})


EXAMPLES = [example for verb in VERBS for example in import_module(f"polar_env.cli.{verb}").EXAMPLES]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_commands(example: str) -> None:
    polar, verb, *arguments = shlex.split(example)
    module = import_module(f"polar_env.cli.{verb}")
    assert polar == "polar"
    _read_config(module.CONFIG, verb, arguments, getattr(module, "defaults", lambda _, given: given))


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_with_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    last = capsys.readouterr().out.strip().splitlines()[-1].strip()
    assert last in EXAMPLES
    assert last.split()[1] == verb


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("typed", "expected"), [("polar doc", "doctor"), ("polar agents --js", "--json"), ("polar eval --dr", "--dry-run")]
)
def test_bash_completes(typed: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", "bash"]) == 0
    words = " ".join(map(shlex.quote, typed.split()))
    ask = f"COMP_WORDS=({words}); COMP_CWORD={len(typed.split()) - 1}; _tyro_polar; echo ${{COMPREPLY[@]}}"
    script = f"{capsys.readouterr().out}\n{ask}"
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert expected in done.stdout.split()


def test_completion_for_zsh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef polar")
    assert "layer-cost" in script


def test_presets_go_by_their_names(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "skills").mkdir()  # a folder of that name does not hide the preset
    assert main(["train", "--config", "skills", "--dry-run"]) == 0
    assert main(["train", "--config", "peers/polar", "--dry-run"]) == 0
    assert "learner: polar" in capsys.readouterr().out
    assert main(["train", "--config", "peers/polr", "--dry-run"]) == 2
    assert "Did you mean 'peers/polar'?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--completion"], ["--completion", "bish"]])
def test_completion_for_no_shell(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "There is: bash, zsh" in capsys.readouterr().err
