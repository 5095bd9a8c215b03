"""A saved agent as a ``custom_generate`` folder of transformers: ``model.generate(..., custom_generate=FOLDER)``."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from agents.card import CARD, library_versions, read_card
from agents.registry import LOADERS
from polar_env.tables import writing_folder

__all__ = ["write_custom_generate"]

_CODE = '''"""Answers of an agent, which chooses for each question the layers of the LLM that run.

    model.generate(questions=["What is 17 + 25?"], tokenizer=tokenizer, custom_generate=FOLDER, trust_remote_code=True)

Made by `polar export`. transformers copies this file alone out of its folder, so the agent stands in it.
"""

import base64
import json
import tempfile
from pathlib import Path

import torch


def generate(model, tokenizer=None, questions=(), task="", max_new_tokens=32, **others):
    """The answers' tokens, ``long [B, T]``, padded on the right; greedy, as `polar run` answers.

    Args:
        model: the LLM that the agent was trained on, in the same floating-point type. It is frozen from now on.
        tokenizer: its tokenizer.
        questions: the questions' texts. The agent has its own prompt, so give no input ids.
        task: the questions' task, where the agent has a prompt for each.
        max_new_tokens: most tokens of an answer.
    """
    from polar_env.questions import Ask
    from polar_env.runner import Decoding

    if tokenizer is None or isinstance(questions, str) or not questions:
        raise ValueError('give tokenizer=... and questions=[...], a list of texts; the agent makes the prompt itself.')
    given = [name for name, value in others.items() if value is not None and value is not False]
    if given:
        raise ValueError(f'the agent answers greedily and makes the prompt itself; leave out {", ".join(given)}.')
    world, agent = _open(model, tokenizer)
    asks = [Ask.typed(text, task) for text in questions]
    programs = [decision.program for decision in agent.decide(asks)]
    written = world.generate(asks, programs, Decoding(max_new_tokens))
    rows = [torch.tensor(each.tokens, device=model.device) for each in written]
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)


def _open(model, tokenizer):
    """The agent over the model, kept as an attribute of the model, so that it goes when the model goes."""
    from agents.card import read_card
    from agents.registry import load_agent
    from polar_env.llm import FrozenLLM
    from polar_env.runner import Runner
    from polar_env.worlds import LiveWorld

    opened, agent = model.__dict__.setdefault("_polar_agents", {}), (_FILES, _PRICE)
    if opened.get(agent, (None,))[0] is not tokenizer:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in json.loads(_FILES).items():
                (Path(folder) / name).write_bytes(base64.b64decode(content))
            world = LiveWorld(Runner(FrozenLLM(model, tokenizer)), read_card(Path(folder)).prompts)
            opened[agent] = tokenizer, world, load_agent(folder + _PRICE, world)
    return opened[agent][1:]


_FILES = {files}
_PRICE = {price}
'''
_PAGE = """# {name}

An agent that chooses, for each question, which layers of {model} run. Made by polar-env.

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("MODEL", dtype=torch.{dtype})  # {model}
tokenizer = AutoTokenizer.from_pretrained("MODEL")
tokens = model.generate(
    questions=["What is 17 + 25?"], tokenizer=tokenizer, custom_generate="THIS FOLDER", trust_remote_code=True
)
print(tokenizer.batch_decode(tokens, skip_special_tokens=True))
```

It needs the package polar-env, which executes the layers, and refuses a model with other weights than {fingerprint}.
"""


def write_custom_generate(agent: Path, folder: Path, price: str = "") -> None:
    """Write ``custom_generate/generate.py``, its requirements and a page.

    Args:
        agent: folder of the saved agent.
        folder: where to; new or empty.
        price: of D layers, for an agent that weighs them; empty for the agent's own.

    Raises:
        ConfigError: if there is something in the folder, or the agent is damaged.
        UnknownNameError: for an agent of a kind that no installed package has.
    """
    card = read_card(agent)
    LOADERS.get(card.kind)  # refuses a kind that no installed package has
    files = {name: base64.b64encode((agent / name).read_bytes()).decode() for name in (CARD, *card.weights)}
    about = {"name": card.name, "model": card.model, "dtype": card.dtype, "fingerprint": card.fingerprint}
    with writing_folder(folder) as fresh:
        inner = fresh / "custom_generate"
        inner.mkdir()
        code = _CODE.replace("{price}", repr(price and f"@{price}")).replace("{files}", repr(json.dumps(files)))
        (inner / "generate.py").write_text(code, encoding="utf-8")
        (inner / "requirements.txt").write_text(f"polar-env>={library_versions()['polar-env']}\n", encoding="utf-8")
        (fresh / "README.md").write_text(_PAGE.format(**about), encoding="utf-8")
