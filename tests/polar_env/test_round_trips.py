"""Inside a program nothing is read back from the device: on CUDA each such number would stop the queue of kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from polar_env.llm import FrozenLLM
from polar_env.program import Program, single_edits
from polar_env.questions import Prompt, Question
from tests.worlds import world_of

READ_BACK = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "item")


class ReadBacks(TorchDispatchMode):
    """Numbers all operations, and finds those whose result the host must see."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        if func.overloadpacket.__name__ in READ_BACK:
            self.found.append(self.operations)
        return func(*args, **(kwargs or {}))


def test_the_counter_sees_a_number_that_is_read() -> None:
    with ReadBacks() as seen:
        float(torch.ones(3).sum())
        bool((torch.ones(3) > 0).all())
        torch.ones(3).nonzero()
    assert len(seen.found) == 3


def test_many_programs_run_without_a_read_back(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks are looked at before the first layer and verdicts after the last; between them nothing is."""
    world = world_of(tiny_llm, prompt)
    programs = [tiny_llm.identity, *single_edits(tiny_llm.identity)]
    pairs = [(question, program) for question in questions[:4] for program in programs]
    world.verdicts(pairs)  # masks of a new shape are looked at, once for each shape
    world.runner.clear()
    apply, layers = tiny_llm.apply, []

    def noted(*args: Any, **kwargs: Any) -> torch.Tensor:
        layers.append(seen.operations)
        return apply(*args, **kwargs)

    monkeypatch.setattr(tiny_llm, "apply", noted)
    with ReadBacks() as seen:
        world.verdicts(pairs)
    assert len(layers) > 20
    assert not [number for number in seen.found if layers[0] <= number <= layers[-1]]


def test_a_step_of_a_mixed_batch_reads_back_once(tiny_llm: FrozenLLM) -> None:
    """`run` looks once, at its end, whether all is finite; how long the programs are does not matter."""
    counts = []
    for programs in ([Program((0,)), Program((1, 2))], [Program((0, 1, 2, 3)), Program((0, 2, 2, 2, 3))]):
        cache = tiny_llm.new_cache(programs)
        tiny_llm.run(torch.ones(2, 5, dtype=torch.long), programs, cache)
        with ReadBacks() as seen:
            tiny_llm.run(torch.ones(2, 1, dtype=torch.long), programs, cache)
        counts.append(len(seen.found))
    assert counts == [1, 1]
