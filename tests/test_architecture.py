"""The arrows between the packages and rooms stay true, and files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from polar_env.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "polar_env": {"polar_env"},
    "agents": {"agents", "polar_env"},
    "train": {"train", "agents", "polar_env"},
    "eval": {"eval", "agents", "polar_env"},
}
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
ROOMS = ["questions", "llm", "runner", "worlds", "envs", "traces", "cli"]
"""Of `polar_env`, from the bottom up; what stands in no room is below all of them."""


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported_modules(path: Path, *, with_types: bool = True) -> set[str]:
    """The modules of this project that a file imports; those only for type checkers on request."""
    names = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not with_types and id(node) in only_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name in MODULES or (name.split(".")[0] in MAY_IMPORT and name in MODULES)}


def room_of(module: str) -> int:
    parts = module.split(".")
    return ROOMS.index(parts[1]) if len(parts) > 1 and parts[1] in ROOMS else -1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    if path.is_relative_to(ROOT / "polar_env" / "cli"):
        return  # only the command line reaches up
    assert {module.split(".")[0] for module in imported_modules(path)} <= MAY_IMPORT[package]


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.is_relative_to(ROOT / "polar_env")], ids=lambda p: str(p.relative_to(ROOT))
)
def test_rooms_import_downwards(path: Path) -> None:
    module = module_of(path)
    if module == "polar_env":
        return  # names the rooms' public objects, and imports none of them before they are used
    above = {
        other for other in imported_modules(path) if other.startswith("polar_env.") and room_of(other) > room_of(module)
    }
    assert not above


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {name: imported_modules(path, with_types=False) - {name} for name, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)  # raises CycleError, naming the circle


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 500


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_needs_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, polar_env.cli\n"
        f"try: polar_env.cli.main({arguments})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'stable_baselines3', 'wandb', 'ray', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path: Path) -> None:
    """At most 50 lines, without the docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert (node.end_lineno or 0) - first.lineno < 50, f"{node.name} is too long; cut it at its seams."
