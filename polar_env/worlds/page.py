"""A recorded world's page on the Hugging Face hub: what its card and its table say, in words."""

from __future__ import annotations

from huggingface_hub import DatasetCardData

from polar_env.hub import base_model, known_licence
from polar_env.program import Program
from polar_env.questions import SPLITS
from polar_env.worlds.recorded import RecordedWorld

__all__ = ["world_page"]

_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K"}


def world_page(world: RecordedWorld, static: Program, repo: str) -> str:
    """The text of README.md: the hub's head, what the world holds, how much there is to learn, and how to load it.

    Args:
        world: the world.
        static: its best static program, chosen on train and validation questions.
        repo: ``OWNER/REPO`` of the page.
    """
    card, count, name = world.card, len(world.questions), repo.rpartition("/")[2]
    return f"""---
{_head(world).to_yaml()}
---

# {card.name}

What `{card.model}` made of {count:,} questions under each of {len(world.programs)} programs of its layers:
{count * len(world.programs):,} verdicts, and hidden states. A world of polar-env:
agents learn in it which layers to run for which question, and no LLM runs.

## Use

```bash
pip install polar-env
polar record pull {repo} --out {name}
polar record describe {name}
```

```python
from polar_env.envs.world_env import WorldEnv

env = WorldEnv(world="{name}")
```

## What there is to learn

Share of right answers. The best static program `{static}` was chosen on train and validation questions; the oracle
takes a right program wherever one is recorded.

| split | questions | identity (all layers) | best static program | oracle |
|---|---|---|---|---|
{_splits(world, static)}

## What it holds

{_holds(world)}

## Licence of the questions

{card.licence}
"""


def _head(world: RecordedWorld) -> DatasetCardData:
    """What the hub reads of the page."""
    card, count = world.card, len(world.questions)
    llm, (licence_id, licence_name) = base_model(card.model), known_licence(card.licence)
    return DatasetCardData(
        pretty_name=card.name,
        task_categories=["question-answering", "reinforcement-learning"],
        size_categories=next((size for most, size in _SIZES.items() if count < most), "100K<n<1M"),
        tags=["polar-env", "dynamic-depth", "layer-skipping", *([f"base_model:{llm}"] if llm else [])],
        configs=[{"config_name": "questions", "data_files": "questions.parquet"}],
        license=licence_id,
        license_name=licence_name,
    )


def _holds(world: RecordedWorld) -> str:
    """Tables of its files and of how it was recorded."""
    card = world.card
    depths = ", ".join(map(str, card.depths))
    return f"""| file | what |
|---|---|
| `world.json` | the card: programs, prompts, versions, and a sha256 of each file |
| `questions.parquet` | the questions, their splits{"" if card.texts else "; texts and gold answers are left out"} |
| `verdicts.safetensors` | verdicts, log-probabilities of the gold answers, confidences |
| `states.safetensors`, `reduction.safetensors` | components of hidden states after {depths} layers |
| `answers.parquet` | {len(world.written):,} answers that programs wrote token by token |

| | |
|---|---|
| LLM | `{card.model}`, {card.depth} layers, fingerprint `{card.fingerprint}` |
| recorded in | {card.verdicts_dtype} on {card.verdicts_device}; states in {card.dtype} on {card.device} |
| verdicts that are others in {card.dtype} | {_unstable(world)} |
| prompt | {card.prompts.name} |
| tasks | {", ".join(sorted(set(world.tasks.tolist())))} |
| sources | {", ".join(card.sources)} |
| made with | {", ".join(f"{library} {version}" for library, version in card.versions.items())} |"""


def _splits(world: RecordedWorld, static: Program) -> str:
    """A row of each split that has questions."""
    right = world.arrays["right"]  # [Q, P]
    column = world.programs.index(static)
    rows = []
    for split in SPLITS:
        of_split = right[world.rows(split)]
        if len(of_split):
            shares = (of_split[:, 0].mean(), of_split[:, column].mean(), of_split.any(1).mean())
            rows.append(f"| {split} | {len(of_split)} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |")
    return "\n".join(rows)


def _unstable(world: RecordedWorld) -> str:
    found = world.card.unstable
    return f"{found.changed} of {found.pairs} executed again" if found else "none: it is the type they were recorded in"
