"""A program as an ordinary transformers model, in memory and as a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen2Tokenizer, pipeline

from polar_env.errors import ConfigError, ModelError, ProgramError
from polar_env.llm import FrozenLLM, as_model, export_program
from polar_env.program import Program
from polar_env.runner import generate
from tests.conftest import character_tokenizer
from tests.models import FAMILIES, build, build_other
from tests.oracle import logits_of, restack
from tests.polar_env.test_gguf import KINDS, tiny

PROGRAM = Program((0, 2, 2, 1, 3, 3))
IDS = torch.randint(3, 99, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=FAMILIES)
def llm(request: pytest.FixtureRequest) -> FrozenLLM:
    return FrozenLLM(build(request.param), character_tokenizer(chat=True), request.param)


def test_a_program_as_a_model_is_the_restacked_model(llm: FrozenLLM, tmp_path: Path) -> None:
    model = as_model(llm, PROGRAM)
    assert type(model) is type(llm.model)
    expected = logits_of(restack(llm.model, PROGRAM), IDS)
    torch.testing.assert_close(logits_of(model, IDS), expected, rtol=0, atol=1e-5)
    written = generate(llm, ["hello"], PROGRAM, max_new_tokens=6)[0]
    asked = llm.tokenizer("hello", return_tensors="pt")
    made = model.generate(**asked, max_new_tokens=6, do_sample=False)[0, asked.input_ids.shape[1] :]
    assert made.tolist() == list(written.tokens)
    answers = pipeline("text-generation", model=model, tokenizer=llm.tokenizer)(
        "hello", max_new_tokens=6, do_sample=False, return_full_text=False
    )
    assert answers[0]["generated_text"] == written.text
    model.config.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).num_hidden_layers == len(PROGRAM)


def test_the_model_behind_it_stays_untouched(llm: FrozenLLM) -> None:
    before = logits_of(llm.model, IDS)
    model = as_model(llm, PROGRAM)
    assert len(model(IDS, output_hidden_states=True).hidden_states) == len(PROGRAM) + 1
    assert model.generation_config is not llm.model.generation_config
    assert model.generation_config.eos_token_id == llm.model.generation_config.eos_token_id
    assert len(llm.model(IDS, output_hidden_states=True).hidden_states) == llm.depth + 1
    assert torch.equal(logits_of(llm.model, IDS), before)
    assert llm.model.config.num_hidden_layers == llm.depth
    weights = {p.data_ptr() for p in llm.model.parameters()}
    assert {p.data_ptr() for p in model.parameters()} <= weights  # shared: it costs no memory
    model.set_attn_implementation("eager")
    assert len(model(IDS, output_attentions=True).attentions) == len(PROGRAM)
    assert llm.attention == "sdpa"
    assert torch.equal(logits_of(llm.model, IDS), before)


@pytest.mark.parametrize("program", [PROGRAM, Program((1, 3))], ids=str)
def test_an_exported_program_is_loaded_by_plain_transformers(llm: FrozenLLM, program: Program, tmp_path: Path) -> None:
    export_program(llm, program, tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert loaded.config.num_hidden_layers == len(program)
    torch.testing.assert_close(logits_of(loaded, IDS), llm.logits(IDS, program), rtol=0, atol=1e-4)
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("ab").input_ids == llm.tokenizer("ab").input_ids
    record = json.loads((tmp_path / "out" / "polar-program.json").read_text())
    assert (record["program"], record["fingerprint"]) == (str(program), llm.fingerprint)
    again = FrozenLLM(loaded, llm.tokenizer)
    torch.testing.assert_close(again.logits(IDS, again.identity), llm.logits(IDS, program), rtol=0, atol=1e-4)


def test_names_that_transformers_4_and_other_engines_read(tmp_path: Path) -> None:
    """Measured with transformers 4.57, which is not installed here: with these names its logits differ by nothing."""
    stretched = {"rope_theta": 123.0, "rope_type": "linear", "factor": 2.0}
    llms = {
        "llama": tiny(*KINDS["llama"][:2], rope_parameters=stretched),
        "gemma3": FrozenLLM(build("gemma3"), character_tokenizer()),
    }
    values = {}
    for name, llm in llms.items():
        export_program(llm, Program((0, 2)), tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text())
        keys = ("rope_theta", "rope_scaling", "rope_local_base_freq", "torch_dtype")
        values[name] = tuple(config.get(key) for key in keys)
        tokenizer = json.loads((tmp_path / name / "tokenizer_config.json").read_text())
        assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert values == {"llama": (123.0, stretched, None, "float32"), "gemma3": (1e6, None, 1e4, "float32")}


def test_further_special_tokens_are_named_as_transformers_4_reads_them(tmp_path: Path) -> None:
    vocabulary = {letter: place for place, letter in enumerate("abcdefgh")} | {"<|endoftext|>": 8}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], extra_special_tokens=["<|x|>", "<|y|>"])
    export_program(FrozenLLM(build("llama"), tokenizer), Program((0, 1)), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config["additional_special_tokens"] == ["<|x|>", "<|y|>"]
    assert not isinstance(config.get("extra_special_tokens"), list)
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again("a<|x|>").input_ids == tokenizer("a<|x|>").input_ids


def test_fewer_layers_are_fewer_weights(tiny_llm: FrozenLLM, tmp_path: Path) -> None:
    export_program(tiny_llm, Program((0, 3)), tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    per_layer = sum(p.numel() for p in tiny_llm.layers[0].parameters())
    assert loaded.num_parameters() == tiny_llm.model.num_parameters() - 2 * per_layer


def test_a_checkpoint_that_would_be_another_model_is_not_written(tmp_path: Path) -> None:
    """GPT-2 may scale attention by the layer's index, which restacking changes: refused, and nothing is left behind."""
    model = build_other("gpt2", scale_attn_by_inverse_layer_idx=True)
    llm = FrozenLLM(model, character_tokenizer())
    with pytest.raises(ModelError, match="makes another model"):
        export_program(llm, Program((2, 3)), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_and_wrong_programs_are_named(tiny_llm: FrozenLLM, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        export_program(tiny_llm, tiny_llm.identity, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    with pytest.raises(ProgramError, match="layer 7 is out of range"):
        as_model(tiny_llm, Program((7,)))
