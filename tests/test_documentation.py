"""The documentation does what it says: its code runs, its commands parse, its links lead somewhere.

Code that loads an LLM gets a small random one of the same depth, width and fingerprint: nothing is downloaded.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import polar_env.errors
from agents.card import read_card
from agents.registry import find_agent
from polar_env.cli import VERBS, _read_config
from polar_env.llm import FrozenLLM
from tests.conftest import character_tokenizer

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [DOCS / name for name in ("index.md", "concepts.md", "footguns.md", "program-of-layers.md")]
PAGES += sorted((DOCS / "how-to").glob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
REFUSED = re.compile(r"\(refused with `(\w+)`\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


class _Stranger(FrozenLLM):
    """A random model that says it is SmolLM2, so that what was made for that one is not refused."""

    fingerprint = "not set"  # type: ignore[assignment]


@pytest.fixture(scope="session")
def stand_in() -> FrozenLLM:
    card = read_card(find_agent("skills"))  # type: ignore[arg-type]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=99, hidden_size=576, intermediate_size=32, num_hidden_layers=card.depth, num_attention_heads=4,
        num_key_value_heads=1, max_position_embeddings=4096, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    llm = _Stranger(LlamaForCausalLM(config), character_tokenizer(chat=True), "smollm2-135m")
    llm.fingerprint = card.fingerprint  # type: ignore[misc]
    return llm


def blocks(page: Path) -> Iterator[tuple[str, str, int]]:
    """The python of a page, each block with the paragraph before it and its line."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        if match[1] == "python":
            before = text[: match.start()].rstrip().rpartition("\n\n")[2]
            yield match[2], before, text.count("\n", 0, match.start()) + 2


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_runs(page: Path, stand_in: FrozenLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page, from top to bottom in one name space; wrong halves run, or are refused as the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for module in ("polar_env.llm.loading", "polar_env.llm"):
        monkeypatch.setattr(import_module(module), "load_llm", lambda *_, **__: stand_in)
    names: dict[str, Any] = {"__name__": "page"}
    for code, before, line in blocks(page):
        compiled = compile("\n" * (line - 1) + code, name_of(page), "exec")
        refused = REFUSED.search(before)
        if refused:
            with pytest.raises(getattr(polar_env.errors, refused[1])):
                exec(compiled, names)
        elif "(may do anything)" not in before:
            exec(compiled, names)


def commands(page: Path) -> Iterator[str]:
    """Lines of shell in fenced and indented blocks; a backslash joins the next one."""
    text = page.read_text(encoding="utf-8")
    shell = [match[2] for match in FENCE.finditer(text) if match[1] == "bash"]
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    shell.append("\n".join(line[4:] for line in outside.splitlines() if line.startswith("    ")))
    for line in "\n".join(shell).replace("\\\n", " ").splitlines():
        command = re.sub(r"^\s*(?:[A-Z_]+=\S+ )*", "", line)
        if re.match(r"(polar|make|pip|python) ", command):
            yield command


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every flag of every `polar` command parses to its configuration; nothing is run."""
    monkeypatch.chdir(ROOT)
    for command in commands(page):
        words = shlex.split(command, comments=True)
        words = words[: words.index(">")] if ">" in words else words
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
        elif words[0] == "polar":
            every = ("--dry-run", "--quiet")  # which every verb takes
            verb, *rest = (re.sub(r"^\$\w+$", "1", word) for word in words[1:] if word not in every)
            assert verb in VERBS, command
            module = import_module(f"polar_env.cli.{verb}")
            try:
                _read_config(module.CONFIG, verb, rest, getattr(module, "defaults", lambda _, given: given))
            except SystemExit:
                pytest.fail(f"{name_of(page)}: {command}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_extras_exist(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"polar-env\[(\w+)\]", page.read_text(encoding="utf-8"))
    assert set(named) <= set(extras)


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))],
    ids=name_of,
)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:|#", target)]
    missing = [target for target in targets if not (page.parent / target.partition("#")[0]).exists()]
    assert not missing, f"{name_of(page)} links {missing}"


def test_every_page_is_in_the_navigation() -> None:
    """`mkdocs build --strict` says so, too; this needs no mkdocs."""
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert [page for page in pages if f": {page}\n" not in nav] == []
