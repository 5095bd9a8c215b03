from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polar_env.actions import LayersLanguage
from polar_env.errors import TraceError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import LiveWorld
from tests.polar_env.traces.test_traces import collected
from train.targets import action_targets

DEPTH = 4


def test_targets_are_what_the_programs_behind_an_action_were_worth(
    tmp_path: Path, world: LiveWorld, questions: list[Question]
) -> None:
    traces = collected(tmp_path, world, questions[:3])
    found = action_targets(traces, layer_cost=0.2)
    assert set(found.question_ids) == {question.id for question in questions[:3]}
    for number, question_id in enumerate(found.question_ids):
        prefix = tuple(int(layer) for layer in found.layers[number] if layer >= 0)
        rows = [row for row in list(traces.verdict_rows()) if row.question_id == question_id]
        behind: dict[int, list[float]] = {}
        for row in rows:
            layers = Program.parse(row.program).layers
            if layers[: len(prefix)] == prefix:
                action = layers[len(prefix)] if len(layers) > len(prefix) else DEPTH + 1
                behind.setdefault(action, []).append(row.right - 0.2 * row.cost)
        for action, rewards in behind.items():
            assert found.visits[number, action] == len(rewards)
            assert found.values[number, action] == pytest.approx(sum(rewards) / len(rewards))
        assert (found.visits[number] > 0).sum() == len(behind) >= 2
    assert found.masks[found.visits > 0].all()
    np.testing.assert_allclose(found.priors.sum(1), 1.0)
    assert found.masks.shape[1] == LayersLanguage(DEPTH).n_actions
    assert found.unspoken == 0


def test_what_a_language_cannot_spell_is_counted(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> None:
    traces = collected(tmp_path, world, questions[:3])
    spoken = action_targets(traces, language="segments")
    assert spoken.masks.shape[1] == 12
    assert 0 <= spoken.unspoken < len(list(traces.verdict_rows()))
    with pytest.raises(TraceError, match="tried 99 actions"):
        action_targets(traces, least_actions=99)
