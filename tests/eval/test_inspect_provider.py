"""Programs in inspect-ai: the same words as our own generation, under the program that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from polar_env.errors import ConfigError
from polar_env.llm import load_llm
from polar_env.program import Program
from polar_env.runner import generate

inspect_ai = pytest.importorskip("inspect_ai", reason="needs inspect-ai: pip install 'polar-env[inspect]'")

QUESTIONS = ["3 + 4", "What is left?", "one two"]


def answers(tiny_folder: Path, tmp_path: Path, **arguments: str) -> list[str]:
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes

    task = inspect_ai.Task(dataset=[Sample(input=text, target="7") for text in QUESTIONS], scorer=includes())
    (log,) = inspect_ai.eval(
        task, model=f"polar/{tiny_folder}", model_args=arguments, max_tokens=6, log_dir=str(tmp_path), display="none"
    )
    assert log.status == "success", log.error
    return [sample.output.completion for sample in log.samples]


def test_a_program_writes_in_inspect_what_it_writes_here(tiny_folder: Path, tmp_path: Path) -> None:
    llm = load_llm(str(tiny_folder))
    for program in (llm.identity, Program((0, 1, 3))):
        prompts = [[{"role": "user", "content": text}] if llm.tokenizer.chat_template else text for text in QUESTIONS]
        written = generate(llm, prompts, program, max_new_tokens=6)
        given = {} if program == llm.identity else {"program": str(program)}
        assert answers(tiny_folder, tmp_path, **given) == [each.text.strip() for each in written]
    assert answers(tiny_folder, tmp_path, agent="static:0-1 3") == answers(tiny_folder, tmp_path, program="0-1 3")


def test_what_inspect_cannot_have(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a program or an agent, not both"):
        answers(tiny_folder, tmp_path, program="0-3", agent="identity")
    with pytest.raises(ConfigError, match="answers out of several runs"):
        answers(tiny_folder, tmp_path, agent="majority:2")
