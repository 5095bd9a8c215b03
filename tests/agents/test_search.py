from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.base import seeded_rng
from agents.search.common import reward_of
from agents.search.config import PRESETS, MctsConfig
from agents.search.lockstep import search
from agents.search.moves import Construction, Edits, make_moves
from agents.search.reference import search_one
from agents.search.root import considered_visits
from polar_env.llm import FrozenLLM
from polar_env.program import Program, single_edits
from polar_env.questions import Prompt, Question
from polar_env.runner import Verdict
from polar_env.traces.tree import Trace, best_programs
from polar_env.worlds import LiveWorld
from tests.planted import PlantedWorld, best_program, planted_questions
from tests.recording import recorded_world
from tests.worlds import world_of

GOLDEN = Path(__file__).with_name("golden_trees.json")
QUESTIONS = [Question.of(f"{n} + {n}", str(2 * n)) for n in range(7)]
DEPTH = 6


class Judge(LiveWorld):
    """Verdicts drawn from question and program, without a model."""

    def __init__(self, depth: int = DEPTH, right: float = 0.3) -> None:
        self._depth, self.right = depth, right

    @property
    def depth(self) -> int:
        return self._depth

    def verdicts(self, pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        return [self.verdict(question, program) for question, program in pairs]

    def verdict(self, question: Question, program: Program) -> Verdict:
        rng = seeded_rng(question.id, program)
        return Verdict(bool(rng.random() < self.right), -1.0, answer_tokens=tuple(range(rng.integers(5))))


CONFIGS = st.builds(
    MctsConfig,
    simulations=st.integers(1, 60),
    moves=st.sampled_from(["edits", "construction"]),
    exploration=st.sampled_from([0.0, 1.0, 2**0.5]),
    length_penalty=st.sampled_from([0.0, 0.5, 5.0]),
    partial_credit=st.sampled_from([0.0, 0.5, 1.0]),
    widening=st.sampled_from([None, 1.0, 2.0]),
    random_child=st.sampled_from([0.0, 0.1, 0.9]),
    skip_block=st.integers(1, 4),
    repeat_block=st.integers(0, 4),
    repeats=st.integers(2, 4),
    any_order=st.booleans(),
    max_visits=st.integers(1, 4),
    prune=st.booleans(),
    root_candidates=st.sampled_from([0, 1, 8]),
    shared_edits=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(config=CONFIGS, seed=st.integers(0, 99), count=st.integers(1, 7))
def test_lock_step_equals_the_reference(config: MctsConfig, seed: int, count: int) -> None:
    """Every verdict, visit and value, whatever the settings and whoever is searched beside."""
    judge = Judge()
    together = search(judge, QUESTIONS[:count], config, seed)
    for trace in together:
        one = search_one(trace.question, DEPTH, lambda p, q=trace.question: judge.verdict(q, p), config, seed)
        assert list(trace.verdicts.items()) == list(one.verdicts.items())
        assert trace.nodes == one.nodes
        assert trace == one


def test_a_wrong_answer_is_paid_for_the_part_that_is_right() -> None:
    """Two tokens of the gold answer before the wrong one; of a choice, the tokens are another choice's."""
    config = MctsConfig(partial_credit=0.9, layer_cost=0.1)
    identity, verdict = Program.identity(DEPTH), Verdict(False, -1.0, answer_tokens=(5, 6, 7))
    choice = Question.of("Which?", "a", choices=("a", "b"))
    assert reward_of(QUESTIONS[0], verdict, identity, DEPTH, config) == pytest.approx(0.9 * 2 / 3 - 0.1)
    assert reward_of(choice, verdict, identity, DEPTH, config) == pytest.approx(-0.1)
    assert reward_of(QUESTIONS[0], Verdict(True, -1.0), identity, DEPTH, config) == pytest.approx(0.9)
    assert reward_of(QUESTIONS[0], Verdict(False, -1.0), identity, DEPTH, config) == pytest.approx(-0.1)


def sums_and_lengths(trace: Trace) -> dict[str, list[object]]:
    return {str(p): [trace.visits[p], verdict.right] for p, verdict in trace.verdicts.items()}


GOLDEN_CONFIGS = {
    **{name: preset.model_copy(update={"simulations": 24}) for name, preset in PRESETS.items()},
    "fast": PRESETS["fast"].model_copy(update={"simulations": 150}),  # it is broad before it goes deep
    "construction": MctsConfig(simulations=24, moves="construction"),
    "any order": MctsConfig(simulations=24, any_order=True, widening=4.0),
    "pruned": MctsConfig(simulations=24, prune=True),
    "gumbel": MctsConfig(simulations=24, root_candidates=8),
}


@pytest.mark.parametrize("name", GOLDEN_CONFIGS)
def test_golden_trees(name: str) -> None:
    """The statistics of one search for each preset and option, recorded; a change of the search shows here."""
    judge = Judge()
    (trace,) = search(judge, QUESTIONS[:1], GOLDEN_CONFIGS[name], seed=1)
    assert sums_and_lengths(trace) == json.loads(GOLDEN.read_text())[name]


@pytest.mark.parametrize("shared_edits", [True, False])
@pytest.mark.parametrize(
    "options", [{"widening": 4.0}, {"moves": "construction", "simulations": 200}, {"root_candidates": 64}]
)
def test_search_finds_the_planted_programs(
    tiny_llm: FrozenLLM, prompt: Prompt, shared_edits: bool, options: dict[str, object]
) -> None:
    questions = planted_questions()
    config = MctsConfig.model_validate({"simulations": 60, "shared_edits": shared_edits} | options)
    traces = search(PlantedWorld(tiny_llm, prompt), questions, config)
    hits = sum(best_programs(trace)[0] == best_program(trace.question) for trace in traces)
    assert hits >= 0.9 * len(questions)


@pytest.mark.parametrize("moves", ["edits", "construction"])
def test_every_simulation_evaluates_a_new_program(moves: str) -> None:
    counts: list[int] = []
    judge = Judge()
    config = MctsConfig.model_validate({"simulations": 40, "moves": moves})
    traces = search(judge, QUESTIONS[:4], config, on_round=counts.append)
    assert counts == [4] * 41
    for trace in traces:
        assert len(trace.verdicts) == 41
        assert next(iter(trace.verdicts)) == Program.identity(DEPTH)
        assert max(max(program.executions(DEPTH)) for program in trace.verdicts) <= config.max_visits
        assert max(map(len, trace.verdicts)) <= 2 * DEPTH


def test_statistics_add_up() -> None:
    """A node is visited as often as its edges are taken, and once more where the walk ended there."""
    for trace in search(Judge(), QUESTIONS, MctsConfig(simulations=50)):
        nodes = {node.state: node for node in trace.nodes}
        arrived = dict.fromkeys(nodes, 0)
        for node in trace.nodes:
            for child in node.children:
                arrived[child.state] += child.visits
                assert child.visits == 0 or -0.2 <= child.value <= 1.0
        walks = trace.nodes[0].visits
        assert sum(child.visits for child in trace.nodes[0].children) == walks - 1  # the first ended at the identity
        assert all(arrived[node.state] == node.visits for node in trace.nodes[1:])


def test_few_questions_fill_a_batch_with_different_programs() -> None:
    config = MctsConfig(simulations=30, rows=8)
    counts: list[int] = []
    traces = search(Judge(), QUESTIONS[:2], config, on_round=counts.append)
    assert counts[:2] == [2, 8]  # the identities, then four programs of each tree
    assert sum(counts) == 2 * (config.simulations + 1)
    lowest = -config.layer_cost * 2  # a wrong program of twice the depth: no virtual loss is left behind
    for trace in traces:
        assert sum(child.visits for child in trace.nodes[0].children) == trace.nodes[0].visits - 1
        assert all(child.value >= lowest for node in trace.nodes for child in node.children)


def test_with_questions_enough_rows_change_nothing() -> None:
    config = MctsConfig(simulations=30)
    step_by_step = search(Judge(), QUESTIONS, config)
    full = search(Judge(), QUESTIONS, config.model_copy(update={"rows": len(QUESTIONS)}))
    assert full == step_by_step


@pytest.mark.parametrize("moves", ["edits", "construction"])
def test_a_space_that_runs_out_ends_the_search(moves: str) -> None:
    config = MctsConfig.model_validate({"simulations": 400, "max_visits": 1, "moves": moves, "skip_block": 4})
    (trace,) = search(Judge(depth=4), QUESTIONS[:1], config)
    assert 8 < len(trace.verdicts) <= 15  # only skips: 15 programs of 4 layers


def test_pruning_leaves_out_what_cannot_be_better() -> None:
    judge = Judge(right=1.0)
    for moves in ("edits", "construction"):
        config = MctsConfig.model_validate({"simulations": 200, "prune": True, "moves": moves})
        for trace in search(judge, QUESTIONS, config):
            shortest = DEPTH
            for program in list(trace.verdicts)[1:]:
                assert moves == "construction" or len(program) < shortest
                shortest = min(shortest, len(program))
            assert shortest == 1


def test_sequential_halving_spends_its_simulations_on_fewer_and_fewer() -> None:
    table = considered_visits(4, 16)
    assert table == (0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
    (trace,) = search(Judge(), QUESTIONS[:1], MctsConfig(simulations=60, root_candidates=8))
    visits = sorted(child.visits for child in trace.nodes[0].children)
    assert len(visits) == 8
    assert visits[-1] >= 3 * max(1, visits[0])


def test_edits_of_the_identity_are_the_single_edits() -> None:
    moves = Edits(30, MctsConfig())
    assert {Program(state) for state in moves.children(moves.root)} == set(single_edits(Program.identity(30)))


def test_any_order_exchanges_blocks() -> None:
    moves = Edits(4, MctsConfig(any_order=True, skip_block=0, repeat_block=2))
    exchanged = {Program(state) for state in moves.children(moves.root) if len(state) == 4}
    expected = {"1 0 2 3", "0 2 1 3", "0 1 3 2", "1 2 0 3", "0 2 3 1", "2 0 1 3", "0 3 1 2", "2 3 0 1"}
    assert exchanged == {Program.parse(text) for text in expected}


@settings(max_examples=50, deadline=None)
@given(config=CONFIGS, seed=st.integers(0, 99))
def test_no_program_below_a_state_is_shorter_than_its_bound(config: MctsConfig, seed: int) -> None:
    moves = Construction(DEPTH, config)
    state, rng, bounds = moves.root, np.random.default_rng(seed), []
    while children := moves.children(state):
        bounds.append(moves.least_layers(state, evaluated=True))
        assert len(set(children)) == len(children)
        state = children[rng.integers(len(children))]
    assert max(bounds) <= len(moves.program(state))


def test_construction_reaches_every_program_of_skips_and_repeats() -> None:
    """What edits make of the identity in one step, construction spells layer by layer."""
    moves = make_moves(8, MctsConfig(moves="construction"))
    for edit in single_edits(Program.identity(8)):
        state = moves.root
        for layer in edit.layers:
            assert (*state, layer) in moves.children(state), f"{edit}: {layer} after {state}"
            state = (*state, layer)
        assert moves.program(state) == edit or (*state, 8) in moves.children(state)


def test_presets_are_what_the_papers_say() -> None:
    cola, drllm, repolar = PRESETS["cola"], PRESETS["drllm"], PRESETS["repolar"]
    assert (cola.simulations, cola.length_penalty, cola.random_child, cola.repeats) == (200, 5.0, 0.1, 4)
    assert (drllm.simulations, drllm.exploration, drllm.length_penalty, drllm.skip_block) == (50, 1.8, 3.0, 2)
    assert (repolar.simulations, repolar.length_penalty, repolar.widening) == (100, 5.0, 2.0)
    assert repolar.exploration == pytest.approx(2**0.5)


def test_the_quickstart_searches_deeper_than_single_edits(tiny_llm: FrozenLLM, prompt: Prompt) -> None:
    from polar_env.cli.quickstart import QuickstartConfig, preset

    config = QuickstartConfig.model_validate(preset()).mcts
    (trace,) = search(PlantedWorld(tiny_llm, prompt), planted_questions()[:1], config)
    single = {Program.identity(4), *single_edits(Program.identity(4))}
    assert sum(program not in single for program in trace.verdicts) >= 5


def test_a_recorded_world_keeps_a_search_to_what_it_holds(tiny_llm: FrozenLLM, tmp_path: Path) -> None:
    live = world_of(tiny_llm, Prompt(style="qa", max_new_tokens=3))
    questions = [Question.of(f"Say {n}", "a", split="train") for n in range(6)]
    edits = list(single_edits(live.identity))[::2]
    world = recorded_world(live, questions, [live.identity, *edits], tmp_path)
    config = MctsConfig(simulations=60, layer_cost=0.1)
    for trace in search(world, questions, config):
        assert set(trace.verdicts) <= {live.identity, *edits}
        assert len(trace.verdicts) > 5
    first = search(live, questions[:1], config)[0].verdicts
    assert not set(first) <= {live.identity, *edits}
