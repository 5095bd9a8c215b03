"""The whole way through the command line, on the tiny model, and what the command line says to bad input."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents.card import CARD, read_card
from agents.policy.agent import WEIGHTS
from agents.registry import load_agent
from agents.search.config import MctsConfig
from polar_env.cli import VERBS, main
from polar_env.cli.quickstart import preset
from polar_env.config import merged
from polar_env.llm import load_llm
from polar_env.questions import Ask
from polar_env.runner import Decoding, Runner
from polar_env.traces import TraceSet
from polar_env.worlds import LiveWorld
from tests.conftest import character_tokenizer, tiny_llama
from tests.wandb_files import read_offline_run

SMALL = {
    "questions": [
        "rg:chain_sum {size: 120, options: {min_terms: 2, max_terms: 2, max_digits: 1}, text: 'What is {expression}?'}"
    ],
    "prompt_candidates": ["qa-0", "bare-2", "chat-1"],
    "prompt_limit": 10,
    "tree_questions": 8,
    "mcts": {"simulations": 8},
    "race": {"candidates": 8, "survivors": 3, "first_questions": 8},
    "imitation": {"epochs": 3, "value_layers": 2, "batch_size": 32},
    "ppo": {"lanes": 8, "steps": 16, "batch_size": 64, "total_steps": 512, "validate_every": 2},
    "validation_limit": 10,
    "evaluation": {"oracle_questions": 6, "agreement_questions": 3, "oracle": {"simulations": 6}},
}


def polar(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from polar_env.cli import main; sys.exit(main())", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Warning" not in done.stdout + done.stderr, done.stderr  # as Python and libraries print theirs
    return done


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of its own: no verdict of these tests reaches the user's."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("POLAR_HOME", str(home))
        patch.setenv("WANDB_MODE", "offline")
        yield home


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    folder = tmp_path_factory.mktemp("run")
    config = folder / "small.yaml"
    config.write_text(yaml.safe_dump(SMALL))
    out = folder / "out"
    done = polar("quickstart", "--model", str(tiny_folder), "--config", str(config), "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    return out, json.loads(done.stdout)


def test_quickstart_leaves_what_scripts_read(run: tuple[Path, dict[str, object]]) -> None:
    out, summary = run
    assert json.loads((out / "summary.json").read_text()) == summary
    for method in ("identity", "random", "majority 2", "shortgpt-10", "early-exit", "imitation", "ppo", "oracle"):
        entry = summary[method]
        assert isinstance(entry, dict)
        assert {
            "pass_at_1", "low", "high", "mean_cost", "questions", "flops", "seconds_per_question", "tasks"
        } <= entry.keys()  # fmt: skip
        assert entry["low"] <= entry["pass_at_1"] <= entry["high"]
    for method in ("imitation", "ppo"):
        entry = summary[method]
        assert isinstance(entry, dict)
        compared = {"delta", "low", "high", "won", "lost", "p_holm", "verdict", "smallest_difference"}
        assert compared <= entry["vs_identity"].keys()
        assert entry["seconds_per_question"] > 0
    assert {"findings", "seconds", "peak_rss_gib", "report"} <= summary.keys()
    assert Path(str(summary["report"])).is_file()
    jobs = {read_offline_run(each).run.job_type for each in out.glob("wandb/offline-run-*")}
    assert jobs == {"search", "train", "eval"}


def test_quickstart_again_goes_on_and_changes_nothing(run: tuple[Path, dict[str, object]], tiny_folder: Path) -> None:
    out, summary = run
    config = str(out.parent / "small.yaml")
    done = polar("quickstart", "--model", str(tiny_folder), "--config", config, "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    again = json.loads(done.stdout)
    for method in ("identity", "random", "imitation", "ppo", "oracle"):
        assert again[method] == summary[method]


def test_a_later_search_finds_its_verdicts_on_disk(
    run: tuple[Path, dict[str, object]], tiny_folder: Path, home: Path, tmp_path: Path
) -> None:
    out, _ = run
    config = tmp_path / "search.yaml"
    same = merged(preset(), {key: SMALL[key] for key in ("questions", "tree_questions", "race", "mcts")})
    same = {key: same[key] for key in ("questions", "tree_questions", "race")} | {
        "mcts": MctsConfig.model_validate(same["mcts"]).model_dump()  # the quickstart starts from none of the search's
    }
    config.write_text(yaml.safe_dump({**same, "limit": 320}))  # the quickstart's limit, which decides the order
    arguments = ("search", "--model", str(tiny_folder), "--config", str(config), "--prompt", str(out / "prompt.yaml"))
    arguments += ("--held-out-limit", "0")  # the quickstart measures none
    again = polar(*arguments, "--out", str(tmp_path / "again"), "--json")
    assert again.returncode == 0, again.stderr[-2000:]
    assert json.loads(again.stdout)["layer_executions"] == 0
    alone = polar(*arguments, "--out", str(tmp_path / "alone"), "--verdicts", "none", "--json")
    assert json.loads(alone.stdout)["layer_executions"] > 0
    assert json.loads(alone.stdout)["survivors"] == json.loads(again.stdout)["survivors"]
    assert len(list((home / "verdicts").glob("*.sqlite"))) == 1


def test_a_memory_bound_too_small_says_what_is_needed(tiny_folder: Path, tmp_path: Path) -> None:
    done = polar("search", "--model", str(tiny_folder), "--memory-gib", "0.5", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "Give --memory-gib" in done.stderr


def test_run_answers_one_question(run: tuple[Path, dict[str, object]]) -> None:
    out, _ = run
    agent = str(out / "agents" / "ppo")
    done = polar("run", "What is 4 + 3?", "--agent", agent, "--max-new-tokens", "4", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert answer["answers"].keys() == {"identity", "ppo"}
    assert answer["answers"]["identity"]["program"] == "0-3"


def test_saved_agent_holds_no_llm(run: tuple[Path, dict[str, object]]) -> None:
    out, _ = run
    assert {path.name for path in (out / "agents" / "ppo").iterdir()} == {CARD, WEIGHTS}
    assert sum(tensor.numel() for tensor in load_file(out / "agents" / "ppo" / WEIGHTS).values()) < 100_000


def test_evaluation_refuses_the_questions_of_the_training(
    run: tuple[Path, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run
    model = json.loads((out / "agents" / "ppo" / "agent.json").read_text())["model"]
    assert main(["eval", "--model", model, "--agent", str(out), "--split", "train", "--out", str(out / "leak")]) == 2
    assert "are train questions of the agent" in capsys.readouterr().err


def test_agent_of_another_model_is_refused(
    run: tuple[Path, dict[str, object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run
    tiny_llama(seed=5).save_pretrained(tmp_path / "other")
    character_tokenizer(chat=True).save_pretrained(tmp_path / "other")
    agent = str(out / "agents" / "ppo")
    assert main(["eval", "--model", str(tmp_path / "other"), "--agent", agent, "--out", str(tmp_path)]) == 2
    assert "was made for" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_done_and_says_how_to_go_on(tiny_folder: Path, tmp_path: Path) -> None:
    question = "rg:chain_sum {size: 200, options: {min_terms: 2, max_terms: 2, max_digits: 1}}"
    arguments = [
        "search",
        "--model",
        str(tiny_folder),
        "--questions",
        question,
        "--prompt",
        "qa-0",
        "--out",
        str(tmp_path),
    ]
    arguments += ["--in-flight", "2", "--tree-questions", "100", "--mcts.simulations", "60"]
    code = "import sys; from polar_env.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in background jobs
    )
    for _ in range(6000):
        if len(list((tmp_path / "traces").glob("shard-*.parquet"))) >= 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run the same command to go on" in errors
    kept = len(TraceSet.open(tmp_path / "traces").questions_done())
    assert 4 <= kept < 100
    done = polar(*arguments, "--race.candidates", "4", "--race.survivors", "2", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["questions_searched"] == 100 - kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serch"], "Did you mean 'search'"),
        (["search", "--model", "smollm2-135n"], "Did you mean 'smollm2-135m'"),
        (["search", "--questions", "arithmetik"], "Did you mean 'arithmetic'"),
        (["search", "--questions", "rg:chain_sums"], "Did you mean 'chain_sum'"),
        (["search", "--preset", "colla"], "Did you mean 'cola'"),
        (["search", "--matrix", "--trees"], "give one or neither"),
        (["search", "--prompt", "chad-6"], "Did you mean 'chat-6'"),
        (["eval", "--agent", "idendity"], "Did you mean 'identity'"),
        (["assets", "path", "smollm2"], "Did you mean 'smollm2-135m'"),
        (["assets", "pull"], "needs a name"),
        (["run"], "there is no question"),
        (["traces", "info"], "needs a folder"),
        (["traces", "check", "nowhere"], "holds no trace set"),
        (["analyse", "nowhere"], "holds no trace set"),
        (["train", "--out", "nowhere"], "holds no trace set"),
        (["search", "--config", "nowhere.yaml"], "cannot read the configuration"),
    ],
)
def test_bad_input_exits_with_2(
    arguments: list[str], message: str, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[0] == "eval":
        arguments = [*arguments, "--model", str(tiny_folder), "--prompt", "qa-0", "--out", str(tmp_path)]
    if arguments[0] == "search" and "--model" not in arguments:
        arguments = [*arguments, "--model", str(tiny_folder), "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("mcts: {simulation: 3}", "Did you mean 'mcts.simulations'"),
        ("tree_question: 3", "Did you mean 'tree_questions'"),
        ("mcts: {simulations: 0}", "'mcts.simulations' is 0"),
        ("[1, 2]", "holds no mapping"),
        ("env: {language: laiers}", "Did you mean 'layers'"),
    ],
)
def test_bad_preset_names_the_key(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(content)
    assert main(["quickstart", "--config", str(tmp_path / "c.yaml")]) == 2
    assert message in capsys.readouterr().err


def test_unknown_flag_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["search", "--modle", "x"])
    assert stop.value.code == 2
    assert "--model" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_custom_generate_writes_the_tokens_of_the_agents_program(
    run: tuple[Path, dict[str, object]], tiny_folder: Path, tmp_path: Path
) -> None:
    """transformers' generate with the exported agent, and the executor with the program that the agent chooses."""
    agent, out = run[0] / "agents" / "ppo", tmp_path / "exported"
    done = polar("export", "--agent", str(agent), str(out))
    assert done.returncode == 0, done.stderr
    again = polar("export", "--agent", str(agent), str(out))
    assert again.returncode == 2
    assert "is not empty" in again.stderr
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    texts = ["What is 1 + 2?", "What is 7 + 9?"]
    generate = partial(model.generate, custom_generate=str(out), trust_remote_code=True, max_new_tokens=6)
    tokens = generate(questions=texts, tokenizer=tokenizer)
    llm = load_llm(str(tiny_folder))
    world = LiveWorld(Runner(llm), read_card(agent).prompts)
    asks = [Ask.typed(text, "") for text in texts]
    programs = [each.program for each in load_agent(str(agent), world).decide(asks)]
    for row, written in zip(tokens, world.generate(asks, programs, Decoding(6)), strict=True):
        assert tuple(row.tolist()[: len(written.tokens)]) == written.tokens
    with pytest.raises(ValueError, match="give tokenizer"):
        generate(questions=texts[0])
    with pytest.raises(ValueError, match="leave out do_sample"):
        generate(questions=texts, tokenizer=tokenizer, do_sample=True)


COUNTED = ("quickstart", "search", "prompt", "record", "train", "eval")
"""The verbs that say how long they would take."""


@pytest.mark.parametrize("verb", VERBS)
def test_a_dry_run_prints_a_configuration_that_config_reads(
    verb: str,
    run: tuple[Path, dict[str, object]],
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    prompt = {"quickstart": ["--prompt-candidates", "qa-0"], "train": ["--traces", str(run[0] / "traces")]}
    small = ["--model", str(tiny_folder), "--questions", SMALL["questions"][0], *prompt.get(verb, ["--prompt", "qa-0"])]
    small = small if verb in COUNTED else []
    assert main([verb, *small, "--dry-run"]) == 0
    printed = capsys.readouterr()
    (tmp_path / "all.yaml").write_text(printed.out)
    assert main([verb, "--config", "all.yaml", "--dry-run"]) == 0
    assert capsys.readouterr().out == printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["all.yaml"]  # nothing was done
    assert bool(re.search(r"^about \d.* for .*; memory at most \d", printed.err, re.MULTILINE)) == (verb in COUNTED)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("record run", "there is nothing to record"),
        ("train --world skills-v0", "Did you mean 'skills-"),
        ("train --prompt qa-0", "the prompt of a training is that of its traces"),
        ("train", "polar search"),
        ("eval --world skills-v0", "Did you mean 'skills-"),
        ("eval --world skills-smollm2-135m-v0 --variations", "a recorded world has its own questions"),
        ("search --matrix --trees", "--matrix races without trees"),
        ("search --engine nope", "unknown engine 'nope'"),
        ("quickstart --learner nope", "unknown learner 'nope'"),
    ],
)
def test_a_dry_run_refuses_what_the_command_refuses(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--dry-run"]):
        assert main([*arguments.split(), "--out", str(tmp_path), *more]) == 2
        assert message in capsys.readouterr().err


def test_quiet_leaves_results_and_errors(tiny_folder: Path, tmp_path: Path) -> None:
    export = ["export", "--model", str(tiny_folder), "--program", "0-3", "--quiet"]
    done = polar(*export, "--json", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["layers"] == 4
    again = polar(*export, str(tmp_path / "out"))
    assert again.returncode == 2
    assert "is not empty" in again.stderr
