from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.mcts import MctsConfig, best_programs, search
from polar_env.executor import Executor
from polar_env.llm import FrozenLLM
from polar_env.program import Program, single_edits
from polar_env.questions import Prompt, Question
from tests.planted import PlantedExecutor, best_program, planted_questions

CONFIG = MctsConfig(simulations=30)
GOLDEN = Path(__file__).with_name("golden_tree.json")


@pytest.mark.parametrize("shared_edits", [True, False])
def test_search_finds_the_planted_programs(tiny_llm: FrozenLLM, prompt: Prompt, shared_edits: bool) -> None:
    questions = planted_questions()
    config = MctsConfig(simulations=60, widening=4, shared_edits=shared_edits)
    trees = search(PlantedExecutor(tiny_llm, prompt), questions, config)
    hits = sum(best_programs(tree)[0] == best_program(tree.question) for tree in trees)
    assert hits >= 0.9 * len(questions)


def test_trees_do_not_depend_on_what_is_searched_beside_them(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    together = search(Executor(tiny_llm, prompt), questions, CONFIG, seed=3)
    for tree in together[::5]:
        alone = search(Executor(tiny_llm, prompt), [tree.question], CONFIG, seed=3)[0]
        assert list(alone.verdicts) == list(tree.verdicts)
        assert [alone.visits(p) for p in alone.verdicts] == [tree.visits(p) for p in tree.verdicts]


def test_every_simulation_evaluates_a_new_program(executor: Executor, questions: list[Question]) -> None:
    counts: list[int] = []
    trees = search(executor, questions[:4], CONFIG, on_round=counts.append)
    assert counts == [4] * (CONFIG.simulations + 1)
    for tree in trees:
        assert len(tree.verdicts) == CONFIG.simulations + 1
        assert next(iter(tree.verdicts)) == Program.identity(4)
        assert max(max(program.executions(4)) for program in tree.verdicts) <= CONFIG.max_visits


def test_few_questions_fill_a_batch_with_different_programs(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    config = CONFIG.model_copy(update={"rows": 8})
    counts: list[int] = []
    executor = Executor(tiny_llm, prompt)
    trees = search(executor, questions[:2], config, on_round=counts.append)
    assert counts[:2] == [2, 8]  # the identities, then four programs of each tree
    assert sum(counts) == 2 * (CONFIG.simulations + 1)
    for tree in trees:
        assert len(tree.verdicts) == CONFIG.simulations + 1
        edges = [edge for node in tree.nodes.values() for edge in node.edges]
        assert sum(edge.visits for edge in tree.nodes[tree.identity].edges) == tree.visits(tree.identity) - 1
        assert all(edge.total <= edge.visits for edge in edges)
        lowest = -config.layer_cost * 2  # a wrong program of twice the depth: no virtual loss is left behind
        assert all(edge.total >= lowest * edge.visits for edge in edges)


def test_with_questions_enough_rows_change_nothing(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    step_by_step = search(Executor(tiny_llm, prompt), questions, CONFIG)
    full = search(Executor(tiny_llm, prompt), questions, CONFIG.model_copy(update={"rows": len(questions)}))
    assert [list(tree.verdicts) for tree in full] == [list(tree.verdicts) for tree in step_by_step]


def test_a_space_that_runs_out_ends_the_search(tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]) -> None:
    config = MctsConfig(simulations=400, max_visits=1)  # only skips: 15 programs of 4 layers
    tree = search(Executor(tiny_llm, prompt), questions[:1], config)[0]
    assert len(tree.verdicts) <= 15


def test_the_quickstart_searches_deeper_than_single_edits(tiny_llm: FrozenLLM, prompt: Prompt) -> None:
    from polar_env.cli.quickstart import QuickstartConfig, preset

    config = QuickstartConfig.model_validate(preset()).mcts
    tree = search(PlantedExecutor(tiny_llm, prompt), planted_questions()[:1], config)[0]
    single = {Program.identity(4), *single_edits(Program.identity(4))}
    assert sum(program not in single for program in tree.verdicts) >= 5


def test_golden_tree(tiny_llm: FrozenLLM, prompt: Prompt) -> None:
    """The statistics of one search, recorded; a change of the search shows here."""
    question = planted_questions()[0]
    tree = search(PlantedExecutor(tiny_llm, prompt), [question], MctsConfig(simulations=24), seed=1)[0]
    found = {str(program): [tree.visits(program), verdict.right] for program, verdict in tree.verdicts.items()}
    assert found == json.loads(GOLDEN.read_text())
