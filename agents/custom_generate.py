"""A saved agent as a ``custom_generate`` folder of transformers: ``model.generate(..., custom_generate=FOLDER)``."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from agents.card import CARD, library_versions, read_card
from polar_env.errors import ConfigError
from polar_env.tables import write_whole

__all__ = ["write_custom_generate"]

_CODE = '''"""Answers of the agent {name}, which chooses for each question the layers of the LLM that run.

    model.generate(questions=["What is 17 + 25?"], tokenizer=tokenizer, custom_generate=FOLDER, trust_remote_code=True)

Made by `polar export`. transformers copies this file alone out of its folder, so the agent stands in it.
"""

import base64
import json
import tempfile
import weakref
from pathlib import Path

import torch

_WORLDS = weakref.WeakKeyDictionary()


def generate(model, tokenizer=None, questions=(), task="", max_new_tokens=32, **_):
    """The answers' tokens, ``long [B, T]``, padded on the right; greedy, as `polar run` answers.

    Args:
        model: the LLM that the agent was trained on, in the same floating-point type.
        tokenizer: its tokenizer.
        questions: the questions' texts. The agent has its own prompt, so give no input ids.
        task: the questions' task, where the agent has a prompt for each.
        max_new_tokens: most tokens of an answer.
    """
    from polar_env.questions import Ask
    from polar_env.runner import Decoding

    if tokenizer is None or isinstance(questions, str) or not questions:
        raise ValueError('give tokenizer=... and questions=[...], a list of texts; the agent makes the prompt itself.')
    if model not in _WORLDS:
        _WORLDS[model] = _open(model, tokenizer)
    world, agent = _WORLDS[model]
    asks = [Ask.typed(text, task) for text in questions]
    programs = [decision.program for decision in agent.decide(asks)]
    written = world.generate(asks, programs, Decoding(max_new_tokens))
    rows = [torch.tensor(each.tokens, device=model.device) for each in written]
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)


def _open(model, tokenizer):
    from agents.card import read_card
    from agents.registry import load_agent
    from polar_env.llm import FrozenLLM
    from polar_env.runner import Runner
    from polar_env.worlds import LiveWorld

    with tempfile.TemporaryDirectory() as folder:
        for name, content in json.loads(_FILES).items():
            (Path(folder) / name).write_bytes(base64.b64decode(content))
        world = LiveWorld(Runner(FrozenLLM(model, tokenizer)), read_card(Path(folder)).prompts)
        return world, load_agent(folder, world)


_FILES = """{files}"""
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

It needs `pip install polar-env`, which executes the layers, and refuses a model with other weights than {fingerprint}.
"""


def write_custom_generate(agent: Path, folder: Path) -> None:
    """Write ``custom_generate/generate.py``, its requirements and a page.

    Args:
        agent: folder of the saved agent.
        folder: where to; new or empty.

    Raises:
        ConfigError: if there is something in the folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty; give a new folder, or delete it first.")
    card = read_card(agent)
    files = {path.name: base64.b64encode(path.read_bytes()).decode() for path in sorted(agent.iterdir())}
    assert CARD in files
    code = _CODE.replace("{name}", card.name).replace("{files}", json.dumps(files))
    write_whole(folder / "custom_generate" / "generate.py", code.encode())
    requirement = f"polar-env>={library_versions()['polar-env']}\n"
    write_whole(folder / "custom_generate" / "requirements.txt", requirement.encode())
    about = {"name": card.name, "model": card.model, "dtype": card.dtype, "fingerprint": card.fingerprint}
    write_whole(folder / "README.md", _PAGE.format(**about).encode())
