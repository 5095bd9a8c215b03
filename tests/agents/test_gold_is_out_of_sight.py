"""What chooses a program never holds a gold answer, and no gold answer changes what it chooses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents.base import Agent, Decision, Responder, Response
from agents.policy.agent import PolicyAgent
from agents.policy.network import new_policy
from agents.registry import load_agent
from eval.evaluate import evaluate
from eval.methods import Method, method_of
from eval.results import Results
from polar_env.envs import EnvConfig, Observer, ProgramVectorEnv
from polar_env.envs.observer import Observation
from polar_env.llm import FrozenLLM
from polar_env.questions import Ask, Prompt, Prompts, Question
from polar_env.runner.batches import Target
from polar_env.runner.encoding import EncodedAsk
from polar_env.runner.schedule import Execution
from polar_env.worlds import LiveWorld
from tests.worlds import world_of

NAMES = (
    "identity",
    "random",
    "static:0-1 3",
    "policy",
    "early-exit:0.2",
    "majority:2",
    "ensemble:0-3|0-1 3",
    "selector:2|static:0-1 3",
)
QUESTIONS = [
    Question.of(f"What is {n} + {n + 1}?", f"gold{n}", equation=f"{n} + {n + 1} =", choices=choices)
    for n in range(50)
    for choices in ((), (f"gold{n}", f"silver{n}"))
]


class RecordingPolicy(PolicyAgent):
    """Keeps the logits that it chose by."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.record: list[NDArray[np.float64]] = []

    def logits(self, observation: Observation, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        self.record.append(super().logits(observation, masks))
        return self.record[-1]


def chosen(agent: Agent | Responder, asks: Sequence[Ask]) -> Sequence[Decision | Response]:
    """What a method makes of asks."""
    return agent.respond(asks) if isinstance(agent, Responder) else agent.decide(asks)


def agent_of(name: str, world: LiveWorld) -> Agent | Responder:
    if name != "policy":
        return load_agent(name, world, seed=3)
    observer = Observer(world.asks, EnvConfig())
    torch.manual_seed(0)
    policy = new_policy(observer)
    policy.action_net.weight.data *= 100  # so that what it chooses hangs on what it sees
    return RecordingPolicy(policy, observer)


def parts_of(value: Any, met: dict[int, Any]) -> Iterator[Any]:
    """A value and all that it holds, all that a runner remembers of asks among it; the LLM itself aside."""
    if id(value) in met:
        return
    met[id(value)] = value  # kept, so that its id stays its own
    yield value
    if isinstance(value, FrozenLLM | Prompt | Prompts):  # worked examples have answers, and are shown
        return
    if isinstance(value, dict):
        children: list[Any] = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        children = list(value)
    elif is_dataclass(value) and not isinstance(value, type):
        children = [getattr(value, field.name) for field in fields(value)]
    elif type(value).__module__.split(".")[0] in ("agents", "polar_env", "tests"):
        children = list(vars(value).values()) if hasattr(value, "__dict__") else []
    else:
        return
    for child in children:
        yield from parts_of(child, met)


class Spy:
    """Passes asks on to an agent and keeps them."""

    def __init__(self, agent: Agent | Responder) -> None:
        self.agent, self.name, self.inputs = agent, agent.name, list[Any]()

    def __getattr__(self, name: str) -> Any:
        """``decide`` or ``respond``, whichever the agent has."""
        call = getattr(self.agent, name)

        def kept(asks: Sequence[Ask]) -> Any:
            self.inputs.append(asks)
            return call(asks)

        return kept


@pytest.mark.parametrize("name", NAMES)
def test_no_agent_is_handed_or_holds_an_answer(world: LiveWorld, tmp_path: Path, name: str) -> None:
    opened = [question for question in QUESTIONS if not question.choices]
    spy: Any = Spy(agent_of(name, world))
    method = Method("spy", name, spy)
    results = Results(tmp_path)
    results.begin(world, opened, [method], {})
    evaluate(world, [method], opened, results)
    assert sum(map(len, spy.inputs)) == len(opened)
    gold = {question.answer for question in opened}
    seen = list(parts_of([spy.inputs, spy.agent], {}))
    assert name != "policy" or any(isinstance(part, EncodedAsk) for part in seen)
    assert any(isinstance(part, Ask) for part in seen)
    for part in seen:
        assert not isinstance(part, Question)
        assert not (isinstance(part, str) and any(answer in part for answer in gold))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("style", ["qa", "restate"])
def test_other_answers_change_no_decision(tiny_llm: FrozenLLM, name: str, style: Any) -> None:
    """As an evaluation does it, verdicts between decisions; even the bits that an agent sees stay the same."""

    def decisions(questions: Sequence[Question]) -> tuple[list[Any], list[NDArray[np.float64]]]:
        world = world_of(tiny_llm, Prompt(style=style, max_new_tokens=4))
        agent, made = agent_of(name, world), list[Any]()
        for start in range(0, len(questions), 16):
            batch = questions[start : start + 16]
            made += chosen(agent, [question.ask for question in batch])
            programs = [each.programs[0] for each in made[start:]]
            world.verdicts(list(zip(batch, programs, strict=True)))
        return made, getattr(agent, "record", [])

    answers = [question.answer for question in QUESTIONS if not question.choices]
    permuted = iter([*answers[7:], *(answer * 9 for answer in answers[:7])])
    others = [
        replace(q, answer=q.choices[1 - q.gold]) if q.choices else replace(q, answer=next(permuted)) for q in QUESTIONS
    ]
    (first, seen), (second, seen_again) = decisions(QUESTIONS), decisions(others)
    assert first == second
    for logits, again in zip(seen, seen_again, strict=True):
        np.testing.assert_array_equal(logits, again)


@pytest.mark.parametrize("language", ["layers", "segments"])
def test_verdicts_before_observations_change_no_bit(
    tiny_llm: FrozenLLM, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shaping judges every prefix before it is observed; whatever the answers, asks run in the same batches."""
    batches: list[list[tuple[bytes, bytes]]] = []
    execute = Execution._execute

    def recorded(self: Execution, layer: int, batch: list[Target]) -> None:
        if {text.role for text, _ in batch} & {"prompt", "ask"}:
            batches.append([(text.id, prefix) for text, prefix in batch])
        execute(self, layer, batch)

    monkeypatch.setattr(Execution, "_execute", recorded)

    def observed(questions: Sequence[Question]) -> tuple[list[NDArray[np.float32]], list[list[tuple[bytes, bytes]]]]:
        batches.clear()
        env = ProgramVectorEnv(
            8, world_of(tiny_llm, Prompt(style="restate")), questions, language=language, shaping=0.1
        )
        observation, _ = env.reset(seed=0)
        rng, seen = np.random.default_rng(0), [observation["hidden"]]
        for _ in range(12):
            actions = [rng.choice(np.flatnonzero(mask)) for mask in env.action_masks()]
            seen.append(env.step(np.array(actions))[0]["hidden"])
        return seen, list(batches)

    opened = [question for question in QUESTIONS if not question.choices]
    others = [replace(question, answer=question.answer * (1 + i % 5)) for i, question in enumerate(opened)]
    (first, first_batches), (second, second_batches) = observed(opened), observed(others)
    assert first_batches == second_batches
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_one_ask_typed_is_decided_as_in_an_evaluation(tiny_llm: FrozenLLM, tmp_path: Path, name: str) -> None:
    """`polar run` decides on one typed ask, `polar eval` on batches of questions: the same program, 100 times."""
    questions = [Question.of(f"What is {n} + 9?", "1", task="sums", equation=f"{n} + 9 =") for n in range(100)]
    prompt = Prompt(style="restate", max_new_tokens=4)
    world = world_of(tiny_llm, prompt)
    method = method_of(agent_of(name, world))
    results = Results(tmp_path)
    results.begin(world, questions, [method], {})
    evaluate(world, [method], questions, results)
    rows = results.rows().set_index("question_id")
    alone = agent_of(name, world_of(tiny_llm, prompt))
    for question in questions:
        ask = Ask.typed(question.text)
        assert ask.id == question.id
        (made,) = chosen(alone, [ask])
        answering = made.answered_by if isinstance(made, Response) else made.program
        assert str(answering) == rows["program"][question.id]
        if isinstance(made, Response):
            assert made.answer.text == rows["answer"][question.id]
    if name in ("random", "policy", "early-exit:0.2"):
        assert rows["program"].nunique() > 1
