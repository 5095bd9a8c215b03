"""An agent as a folder for transformers' custom_generate; tests/test_end_to_end.py compares its tokens."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from agents.card import read_card, save_agent
from agents.custom_generate import write_custom_generate
from agents.registry import find_agents
from polar_env.cli import main
from polar_env.errors import ConfigError, UnknownNameError


def strings_of(folder: Path) -> dict[str, str]:
    """The constants that the code of a folder is closed by; it has nothing else at its top level."""
    _, *statements = ast.parse((folder / "custom_generate" / "generate.py").read_text(encoding="utf-8")).body
    assert all(isinstance(each, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.Assign) for each in statements), (
        ast.dump(ast.Module(statements, []))
    )
    assigned = [each for each in statements if isinstance(each, ast.Assign)]
    return {ast.unparse(each.targets[0]): ast.literal_eval(each.value) for each in assigned}


def test_what_a_card_says_is_never_code(tmp_path: Path) -> None:
    hostile = '''"""; import os; os.abort(); """ \\'''
    save_agent(read_card(find_agents("skills")[0]).model_copy(update={"name": hostile}), tmp_path / "agent", {})
    (tmp_path / "agent" / "notes.txt").write_text("of no concern to the agent")
    write_custom_generate(tmp_path / "agent", tmp_path / "out", price="1.8")
    texts = strings_of(tmp_path / "out")
    assert texts["_PRICE"] == "@1.8"
    assert "notes.txt" not in texts["_FILES"]


@pytest.mark.parametrize("name", ["name", "model", "dtype"])
def test_what_pages_show_is_one_line(name: str, tmp_path: Path) -> None:
    save_agent(read_card(find_agents("skills")[0]).model_copy(update={name: "a\nb"}), tmp_path / "agent", {})
    with pytest.raises(ConfigError, match=f"'{name}' is"):
        read_card(tmp_path / "agent")


def test_an_agent_that_nobody_can_load_is_not_exported(tmp_path: Path) -> None:
    save_agent(read_card(find_agents("skills")[0]).model_copy(update={"kind": "valu"}), tmp_path / "agent", {})
    with pytest.raises(UnknownNameError, match="Did you mean 'value'"):
        write_custom_generate(tmp_path / "agent", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("out --agent selector:2|skills", "'selector:2|skills' runs several programs of a saved agent"),
        ("out --agent skills --dtype bfloat16", "without its LLM; leave out --dtype, or give a program"),
        ("out.gguf --agent skills", "an agent is exported as a folder and without its LLM; leave out .gguf"),
        ("out --agent skils", "Did you mean 'skills'"),
    ],
)
def test_what_an_agent_has_not(
    arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *arguments.split()]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
