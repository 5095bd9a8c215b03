"""Engines that read an export: what they write, greedily, whatever its generation configuration asks for."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from polar_env.errors import ConfigError
from polar_env.llm import FrozenLLM, export_program
from polar_env.program import Program
from polar_env.runner.engines import ONNX, open_engines, read_export
from polar_env.runner.generation import generate
from tests.conftest import character_tokenizer
from tests.models import build

PROMPT, END = [3, 7, 5], 9


def test_a_repetition_penalty_of_the_model_plays_no_part(tmp_path: Path) -> None:
    model = build("llama")
    assert model.generation_config is not None
    model.generation_config.repetition_penalty = 5.0
    llm = FrozenLLM(model, character_tokenizer())
    export_program(llm, Program((0, 1, 1, 3)), tmp_path / "out")
    (engine,) = open_engines(tmp_path / "out", llm.end_tokens, 64).values()
    (ours,) = generate(llm, [PROMPT], Program((0, 1, 1, 3)), max_new_tokens=12)
    assert engine(PROMPT, 12) == list(ours.tokens)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    llm = FrozenLLM(build("llama"), character_tokenizer())
    export_program(llm, Program((0, 1)), tmp_path / "out")
    assert read_export(tmp_path / "out")["program"] == "0-1"
    damaged = tmp_path / "cut.gguf"
    writer = gguf.GGUFWriter(damaged, "llama")
    writer.add_string("polar.program", "0-1")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    whole = damaged.read_bytes()
    for length in range(0, len(whole), 3):
        damaged.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"cut.gguf is no export of a program"):
            read_export(damaged)


def test_onnx_runtime_reads_what_lies_in_the_folder(tmp_path: Path) -> None:
    """A graph with optimum's inputs and outputs: a token is the last one and the number of tokens so far, modulo 16."""
    pytest.importorskip("onnxruntime")
    (tmp_path / ONNX).parent.mkdir()
    write_counting_graph(tmp_path / ONNX)
    engine = open_engines(tmp_path, {END}, 64)["ONNX Runtime"]
    assert engine([1, 2], 4) == counted([1, 2], 4)
    assert engine([3, 4], 64)[-1] == END


def counted(prompt: list[int], most: int) -> list[int]:
    """What the graph writes."""
    tokens, length = [], len(prompt)
    last = prompt[-1]
    while not tokens or (len(tokens) < most and tokens[-1] != END):
        last = (last + length) % 16
        tokens.append(last)
        length += 1
    return tokens


def write_counting_graph(path: Path) -> None:
    """Logits are 1 at (token + length of the attention mask) mod 16; the cache grows by the tokens given."""
    from onnx import TensorProto, checker, helper, save

    def value(name: str, kind: int, shape: list[int | str]) -> object:
        return helper.make_tensor_value_info(name, kind, shape)

    integers, floats = TensorProto.INT64, TensorProto.FLOAT
    nodes = [
        helper.make_node("Shape", ["attention_mask"], ["size"]),
        helper.make_node("Gather", ["size", "one"], ["length"]),
        helper.make_node("Add", ["input_ids", "length"], ["sum"]),
        helper.make_node("Mod", ["sum", "sixteen"], ["next"]),
        helper.make_node("OneHot", ["next", "sixteen", "off_on"], ["logits"]),
        helper.make_node("Cast", ["input_ids"], ["as_floats"], to=floats),
        helper.make_node("Unsqueeze", ["as_floats", "axes"], ["new"]),
        *[
            helper.make_node("Concat", [f"past_key_values.0.{part}", "new"], [f"present.0.{part}"], axis=2)
            for part in ("key", "value")
        ],
    ]
    constants = {"one": np.array(1), "sixteen": np.array(16), "axes": np.array([1, 3])}
    initial = [helper.make_tensor(name, integers, array.shape, array.ravel()) for name, array in constants.items()]
    initial.append(helper.make_tensor("off_on", floats, [2], [0.0, 1.0]))
    cache = [1, 1, "past", 1]
    graph = helper.make_graph(
        nodes,
        "counting",
        [
            value("input_ids", integers, [1, "new"]),
            value("attention_mask", integers, [1, "all"]),
            *[value(f"past_key_values.0.{part}", floats, cache) for part in ("key", "value")],
        ],
        [
            value("logits", floats, [1, "new", 16]),
            *[value(f"present.0.{part}", floats, [1, 1, "all", 1]) for part in ("key", "value")],
        ],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, str(path))
