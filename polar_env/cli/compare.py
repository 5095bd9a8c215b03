"""``polar compare A B``: a method of one evaluation against a method of another, paired on the same questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from polar_env.config import Config
from polar_env.errors import ConfigError

__all__ = ["CONFIG", "EXAMPLES", "CompareConfig", "run"]


class CompareConfig(Config):
    """Compare two evaluations: A minus B, with interval, both discordant counts, and p-values."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Two folders: runs, or what `polar eval` wrote."""
    method: str = ""
    """The method of A; by default its last learned agent, else its last method."""
    other: str = ""
    """The method of B; by default that of --method, else B's last learned agent or method."""
    common: bool = False
    """Compare on the questions of both, where they asked different ones."""
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the results as one JSON object on standard output."""


CONFIG = CompareConfig
EXAMPLES = ("polar compare runs/skills runs/quickstart --common",)


def run(config: CompareConfig) -> dict[str, Any]:
    """Compare and print."""
    if len(config.folders) != 2:
        raise ConfigError(f"`polar compare` takes two folders, not {len(config.folders)}: polar compare A B.")
    from eval.pairs import as_json, compare_results
    from eval.results import Results
    from eval.summary_tables import comparison_table

    first, second = (Results.open(folder) for folder in config.folders)
    methods = (config.method or None, config.other or config.method or None)
    compared = compare_results(first, second, methods, common=config.common)
    result = as_json(compared)
    if not config.json_output:
        print(f"{result['finding']}\n\n{comparison_table({result['method']: compared}).markdown()}")
    return result
