"""``polar explore``: programs in the browser; ask, watch layers, switch them, search right programs."""

from __future__ import annotations

import threading
from typing import Annotated, Any

from pydantic import Field

from polar_env.cli.bars import console
from polar_env.cli.flags import QuestionsConfig, with_model
from polar_env.cli.opening import open_prompts, open_questions, open_world
from polar_env.errors import ConfigError, FingerprintError
from polar_env.program import Program

__all__ = ["CONFIG", "EXAMPLES", "ExploreConfig", "run"]

_LISTED = 200
"""Questions to choose from."""


class ExploreConfig(QuestionsConfig):
    """Look at programs in the browser."""

    agent: str = "skills"
    """The agent whose programs are shown: a trained one's name or folder."""
    world: str = "skills-smollm2-135m-v0"
    """A recorded world to show where programs help; 'none' leaves it out."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 lets other machines in."""
    port: Annotated[int, Field(ge=1, le=65535)] = 7860
    """The port to listen on."""


CONFIG = ExploreConfig
EXAMPLES = ("polar explore --agent skills --world skills-smollm2-135m-v0",)


def run(config: ExploreConfig) -> dict[str, Any]:
    """Serve until interrupted."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "the explorer needs Gradio, which is not installed: pip install 'polar-env[explore]'."
        ) from error
    from agents.base import Responder
    from agents.listing import find_card
    from agents.registry import load_agent
    from eval.explorer.explorer import Explorer
    from eval.explorer.page import launch, make_page
    from polar_env.worlds import open_world as open_recorded

    card = find_card(config.agent)
    if "best-static" not in card.results:
        raise ConfigError(
            f"the card of '{config.agent}' names no best static program to compare with; train the agent again."
        )
    prompts = open_prompts(config) if config.prompt else card.prompts
    world = open_world(with_model(config, card.model, card.dtype), prompts)
    agent = load_agent(config.agent, world, config.seed)
    if isinstance(agent, Responder):
        raise ConfigError(f"'{config.agent}' runs several programs for a question; the explorer shows agents of one.")
    record = None if config.world == "none" else open_recorded(config.world)
    try:
        if record is not None:
            record.require(world)
    except (ConfigError, FingerprintError) as error:
        console.print(f"no map of where programs help: {error}", markup=False)
        record = None
    static = Program.parse(card.results["best-static"], world.depth)
    questions = open_questions(config.model_copy(update={"limit": config.limit or _LISTED}), "test", prompts)
    explorer = Explorer(world, agent, static, questions, () if record is None else record.questions)
    address = launch(make_page(explorer, record), config.host, config.port)
    console.print(f"open {address} in a browser; Ctrl-C stops", markup=False)
    threading.Event().wait()
    return {"address": address}
