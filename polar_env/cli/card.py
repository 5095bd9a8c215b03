"""``polar card PROGRAM|AGENT``: one page about a program or an agent, from the files of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from polar_env.cli.bars import console
from polar_env.config import Config
from polar_env.errors import ConfigError

__all__ = ["CONFIG", "EXAMPLES", "CardConfig", "run"]


class CardConfig(Config):
    """Write the card of what an evaluation has measured: what it is, gains, losses, costs, what it was chosen on."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """A method's name in the evaluation, a static program such as "0-12 14-29", or the folder of a saved agent."""
    results: Path = Path("runs/default")
    """The evaluation: a run, or what `polar eval` wrote."""
    out: Path | None = None
    """Folder of card.md and card.json; by default cards/NAME beside the results."""
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print card.json on standard output, too."""


CONFIG = CardConfig
EXAMPLES = ("polar card best-static --results runs/quickstart", 'polar card "0-12 14-29" --results runs/skills')


def run(config: CardConfig) -> dict[str, Any]:
    """Write the card."""
    if not config.name:
        raise ConfigError("there is no name; write e.g. polar card best-static --results runs/quickstart.")
    from eval.program_card import write_card
    from eval.results import Results

    results = Results.open(config.results)
    folder = config.out or results.folder.parent / "cards" / Path(config.name).name.replace(" ", "-")
    page, values = write_card(results, config.name, folder)
    console.print(f"card: {page}", markup=False)
    return values
