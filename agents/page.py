"""An agent's page on the Hugging Face hub: what its card says, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from agents.card import AgentCard
from agents.listing import describe
from polar_env.hub import base_model, known_licence

__all__ = ["agent_page"]

_ROWS = {"this agent": "", "best static program": "static_", "identity (all layers)": "identity_"}
_HOW = {"out_of_fold": "out of fold, by cross-validation", "validation": "on validation questions"}


def agent_page(card: AgentCard, repo: str, licence: str = "") -> str:
    """The text of README.md: the hub's head, results, training, limits, and how to use it.

    Args:
        card: the agent's.
        repo: ``OWNER/REPO`` of the page.
        licence: of its weights, in words; empty for none.
    """
    said = describe(card)
    judged = said["judged"] or {}
    name = repo.rpartition("/")[2]
    return f"""---
{_head(card, judged, licence).to_yaml()}
---

# {card.name}

An agent of polar-env: for each question it chooses which layers of the frozen LLM
`{card.model}` run, in which order and how often. It holds no LLM.

## Use

```bash
pip install polar-env
polar agents pull {repo} --out {name}
polar run "What is 29 + 39?" --agent {name}
```

## Results

{_results(judged)}

## Training

| | |
|---|---|
| kind | {card.kind} |
| LLM | `{card.model}`, {card.depth} layers, {card.dtype}, fingerprint `{card.fingerprint}` |
| prompt | {card.prompts.name} |
| questions | {", ".join(card.questions)}: {said["trained_on"]} to train, {said["chosen_on"]} to choose among versions |
| tasks | {", ".join(card.tasks)} |
| seed | {card.seed} |
| best static program | `{said["best_static"] or "not measured"}` |
| made with | {", ".join(f"{library} {version}" for library, version in card.versions.items())} |

## Limits

- It was made for this LLM, type and prompt; polar-env refuses others.
- Nothing is known of its worth on tasks that are not in the table above.
- The card `agent.json` names its training questions by hash, so that an evaluation can leave them out.
- Files are JSON and safetensors: loading runs no code of this repository.
"""


def _head(card: AgentCard, judged: Mapping[str, Any], licence: str) -> ModelCardData:
    """What the hub reads of the page."""
    licence_id, licence_name = known_licence(licence)
    return ModelCardData(
        base_model=base_model(card.model),
        library_name="polar-env",
        model_name=card.name,
        tags=["polar-env", "dynamic-depth", "layer-skipping", card.kind],
        eval_results=_eval_results(card, judged),
        license=licence_id,
        license_name=licence_name,
    )


def _results(judged: Mapping[str, Any]) -> str:
    """A table of scores on questions that it was not fitted on."""
    if not judged:
        return "Its training measured it on no questions of their own; `polar eval` does."
    asked = f", {judged['questions']} questions" if "questions" in judged else ""
    rows = [
        f"| {row} | {100 * judged[f'{prefix}pass_at_1']:.1f} % |"
        for row, prefix in _ROWS.items()
        if f"{prefix}pass_at_1" in judged
    ]
    cost = f"\n\nExecuted layers / D: {judged['cost']:.3f}." if "cost" in judged else ""
    table = "\n".join([f"| {_HOW[judged['how']]}{asked} | pass@1 |", "|---|---|", *rows])
    return f"{table}{cost}\n\nNo test question was looked at for these; `polar eval` measures on those."


def _eval_results(card: AgentCard, judged: Mapping[str, Any]) -> list[EvalResult] | None:
    """The same for the hub's tables; None where nothing was measured."""
    if not judged:
        return None
    names = {"pass_at_1": ("accuracy", "pass@1"), "cost": ("cost", "executed layers / D")}
    questions = ", ".join(card.questions)
    return [
        EvalResult(
            task_type="question-answering",
            dataset_type=questions,
            dataset_name=questions,
            dataset_split=_HOW[judged["how"]],
            metric_type=kind,
            metric_name=name,
            metric_value=round(float(judged[key]), 4),
        )
        for key, (kind, name) in names.items()
        if key in judged
    ]
