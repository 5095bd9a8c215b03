"""Exports in other engines: the same logits, the same tokens, and what a format cannot hold is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from polar_env.cli import main
from polar_env.errors import ConfigError, ModelError
from polar_env.llm import FrozenLLM, export_gguf
from polar_env.program import Program
from polar_env.runner.engines import open_engines
from tests.conftest import character_tokenizer

PROGRAM = Program((0, 2, 2, 1, 3))
QUESTIONS = "rg:chain_sum {size: 60, options: {min_terms: 2, max_terms: 2, max_digits: 1}}"


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and one merge."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate([*alphabet, "he"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("h", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|end|>")


def tiny(kind: type[PreTrainedModel], config: type, **options: object) -> FrozenLLM:
    torch.manual_seed(0)
    shape = {
        "vocab_size": 260, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3, "eos_token_id": 257,
        "bos_token_id": 257,
    }  # fmt: skip
    model = kind(config(**shape | options))
    for weights in model.parameters():  # norms and biases that a wrong file would lose
        if weights.ndim == 1:
            torch.nn.init.normal_(weights, 1.0, 0.3)
    return FrozenLLM(model, byte_tokenizer())


KINDS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
    "llama, own head": (LlamaForCausalLM, LlamaConfig, {}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 128}),  # transformers reads no other from a file
}


@pytest.fixture(params=KINDS)
def llm(request: pytest.FixtureRequest) -> FrozenLLM:
    kind, config, options = KINDS[request.param]
    return tiny(kind, config, **options)


def test_transformers_reads_the_program_out_of_the_file(llm: FrozenLLM, tmp_path: Path) -> None:
    export_gguf(llm, PROGRAM, tmp_path / "program.gguf")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="program.gguf", dtype=torch.float32).eval()
    ids = torch.randint(0, 257, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(ids).logits, llm.logits(ids, PROGRAM), rtol=0, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="program.gguf")
    text = "What is 17 + 25? The hedge says 'here'.\n"
    assert tokenizer(text, add_special_tokens=False).input_ids == llm.tokenizer(text).input_ids


def test_eight_bits_stay_near(llm: FrozenLLM, tmp_path: Path) -> None:
    export_gguf(llm, PROGRAM, tmp_path / "small.gguf", "q8_0")
    export_gguf(llm, PROGRAM, tmp_path / "large.gguf")
    assert (tmp_path / "small.gguf").stat().st_size < 0.5 * (tmp_path / "large.gguf").stat().st_size
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="small.gguf", dtype=torch.float32).eval()
    ids = torch.arange(12)[None]
    with torch.inference_mode():
        ours, theirs = llm.logits(ids, PROGRAM), loaded(ids).logits
    assert 0 < (ours - theirs).norm() / ours.norm() < 0.1


def test_llama_cpp_writes_the_same_tokens(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="needs llama-cpp-python, which is built from source")
    llm = tiny(*KINDS["llama"][:2], tie_word_embeddings=True)
    export_gguf(llm, PROGRAM, tmp_path / "program.gguf")
    engines = open_engines(tmp_path / "program.gguf", llm.end_tokens, 64)
    written = [engine([72, 69, 76, 76, 79], 12) for engine in engines.values()]
    assert written[0] == written[1]


def test_what_the_format_cannot_hold_is_named(tmp_path: Path) -> None:
    out = tmp_path / "program.gguf"
    with pytest.raises(ModelError, match="in float32, bfloat16, float16, q8_0, not in float64"):
        export_gguf(tiny(*KINDS["llama"][:2]), PROGRAM, out, "float64")
    with pytest.raises(ModelError, match="byte-level BPE tokenizers; this one is WordLevel"):
        export_gguf(FrozenLLM(tiny(*KINDS["llama"][:2]).model, character_tokenizer()), PROGRAM, out)
    stretched = {"rope_theta": 10_000.0, "rope_type": "linear", "factor": 2.0}
    with pytest.raises(ModelError, match="plain rotary embeddings, not for 'linear'"):
        export_gguf(tiny(*KINDS["llama"][:2], rope_parameters=stretched), PROGRAM, out)
    with pytest.raises(ModelError, match=r"no place for the weight 'model.layers.0.mlp.gate_proj.bias'"):
        export_gguf(tiny(*KINDS["llama"][:2], mlp_bias=True), PROGRAM, out)
    from tests.models import build

    with pytest.raises(ModelError, match="written for llama, qwen2, qwen3, not for 'gemma3_text'"):
        export_gguf(FrozenLLM(build("gemma3"), character_tokenizer()), PROGRAM, out)
    assert not list(tmp_path.iterdir())
    out.touch()
    with pytest.raises(ConfigError, match="exists; give a new file"):
        export_gguf(tiny(*KINDS["llama"][:2]), PROGRAM, out)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    llm = tiny(*KINDS["llama"][:2], max_position_embeddings=2048)
    llm.model.save_pretrained(tmp_path / "model")
    llm.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["program.gguf", "program"])
def test_verify_engine(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, dtype: str) -> None:
    out = str(tmp_path / name)
    assert main(["export", "--model", str(folder), "--dtype", dtype, "--program", "0 2x2 1 3", out]) == 0
    asked = ["--questions", QUESTIONS, "--prompt", "qa-2", "--limit", "5", "--json"]
    capsys.readouterr()
    assert main(["verify", "--engine", out, *asked]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["program"] == "0 2x2 1 3"
    by_transformers = {name: each for name, each in result["engines"].items() if "transformers" in name}
    assert list(by_transformers.values()) == [{"same": 5, "questions": 5}]
    assert main(["export", "--model", str(folder), "--program", "0 1 2 3", str(tmp_path / "other")]) == 0
    record = tmp_path / "other" / "polar-program.json"
    record.write_text(record.read_text().replace('"program": "0-3"', '"program": "0 2-3"'))
    assert main(["verify", "--engine", str(tmp_path / "other"), *asked]) == 1  # it is not what it says


def test_verify_engine_with_bad_input(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--engine", str(folder)]) == 2
    assert "is no export of a program" in capsys.readouterr().err
    out = str(tmp_path / "program")
    assert main(["export", "--model", str(folder), "--program", "0-3", out]) == 0
    other = tiny(*KINDS["qwen2"][:2])
    other.model.save_pretrained(tmp_path / "else")
    other.tokenizer.save_pretrained(tmp_path / "else")
    assert main(["verify", str(tmp_path / "else"), "--engine", out]) == 2
    assert "here lies another" in capsys.readouterr().err
    assert main(["export", "--model", str(folder), "--program", "0-3", "--quantise", "q8_0", str(tmp_path / "q")]) == 2
    assert "--quantise is for GGUF" in capsys.readouterr().err
    assert main(["export", "--agent", "skils", str(tmp_path / "agent")]) == 2
    assert "Did you mean 'skills'" in capsys.readouterr().err
