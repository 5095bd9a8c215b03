"""Every causal language model of transformers is executed exactly, or refused when it is loaded with the reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from polar_env.cli import main
from polar_env.errors import ModelError
from polar_env.llm import FrozenLLM
from polar_env.llm.families import tiny
from polar_env.runner.survey import Judgement, as_markdown, judge

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
KINDS = {kind.name: kind for kind in tiny.causal_classes()}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "name",
    [
        "BertLMHeadModel",  # the layers' holder takes no token ids
        "DeepseekV3ForCausalLM",  # compressed keys and values
        "Gemma3ForConditionalGeneration",  # layers for images beside those for text
        "GraniteSWAForCausalLM",  # layers that know their window
        "Gemma4ForCausalLM, no inputs by layer",  # keys of two widths
    ],
)
def test_a_family_is_exact(name: str) -> None:
    judgement = judge(KINDS[name])
    assert (judgement.verdict, judgement.reason) == ("exact", "")
    assert judgement.difference < 1e-4


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("BertLMHeadModel, not a decoder", "look at later tokens"),
        ("BartForCausalLM", "attends to an encoder"),
        ("FalconH1ForCausalLM", "keeps a recurrent state beside keys and values"),
        ("Qwen3NextForCausalLM", "keeps a recurrent state instead of keys and values"),
        ("GlmMoeDsaForCausalLM", "keeps keys of an index beside"),
        ("Gemma4ForCausalLM", "gives every layer an input of its own"),
        ("Gemma3nForCausalLM", "shares key and value caches"),
        ("RobertaForCausalLM", "counts positions in a way of its own"),
        ("GitForCausalLM", "counts positions in a way of its own"),
        ("CpmAntForCausalLM", "puts tokens of its own before the text's"),
        ("RwkvForCausalLM", "takes no cache of keys and values"),
        ("HrmTextForCausalLM", "should have one list of its"),
        ("BltForCausalLM", "does not say how many layers"),
    ],
)
def test_a_family_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as refused:
        FrozenLLM(tiny.tiny_model(KINDS[name]), tiny.tiny_tokenizer())
    assert KINDS[name].cls in str(refused.value)


def test_an_error_in_one_class_is_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no | way\nat all")

    monkeypatch.setattr("polar_env.runner.survey.verify", broken)
    judgement = judge(KINDS["LlamaForCausalLM"])
    assert judgement.verdict == "WRONG"
    assert judgement.reason == "comparing fails: ZeroDivisionError: no / way at all"
    page = as_markdown([judgement, Judgement("B", "b", "exact", 2e-6, "")], "polar verify --families")
    assert "2 rows, of which 1 exact, 0 refused and 0 left out, **1 wrong**" in page
    assert "| B | b | exact | 2e-06 |  |" in page


def test_the_command_writes_the_page_and_fails_where_one_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [Judgement("A", "a", "WRONG", 1.0, "differs"), Judgement("B", "b", "refused", float("nan"), "B is a pity.")]
    monkeypatch.setattr("polar_env.runner.survey.survey", lambda *_: made)
    assert main(["verify", "--families", "--page", str(tmp_path / "page.md")]) == 1
    assert "A: differs" in capsys.readouterr().err
    assert "| B | b | refused |  | B is a pity. |" in (tmp_path / "page.md").read_text()
    assert main(["verify", "--page", str(tmp_path / "page.md")]) == 2


def test_the_page_names_every_class_and_no_third_kind() -> None:
    page = PAGE.read_text()
    version = re.search(r"transformers (\S+):", page)
    assert version
    if version[1] != transformers.__version__:
        pytest.skip(f"docs/families.md is of transformers {version[1]}; installed is {transformers.__version__}")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")][1:]
    assert {row[0] for row in rows} == set(KINDS) >= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    assert {row[2] for row in rows} == {"exact", "refused", "left out"}
    assert all(bool(row[4]) == (row[2] != "exact") for row in rows)
