"""``polar assets list|pull NAME|path NAME``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import tyro

from polar_env.assets import ASSETS, asset_path, cache_folder, is_pulled, pull, source_of
from polar_env.config import Config
from polar_env.errors import ConfigError

__all__ = ["CONFIG", "EXAMPLES", "run"]


class AssetsConfig(Config):
    """Named models in the cache."""

    action: Annotated[Literal["list", "pull", "path"], tyro.conf.Positional] = "list"
    """list: what there is; pull NAME: fetch and check it; path NAME: print its folder, fetching it if need be."""
    name: Annotated[str, tyro.conf.Positional] = ""
    """Name of the asset."""
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the result as one JSON object on standard output."""


CONFIG = AssetsConfig
EXAMPLES = ("polar assets list", "polar assets pull smollm2-135m")


def run(config: AssetsConfig) -> dict[str, Any]:
    """List, pull or locate assets."""
    if config.action == "list":
        result = {
            name: {"pulled": is_pulled(name), "source": source_of(name), "licence": a.licence, "hub": a.hub_id}
            for name, a in ASSETS.items()
        }
        if not config.json_output:
            for name, entry in result.items():
                state = f"in the cache, from {entry['source']}" if entry["pulled"] else "not pulled"
                print(f"{name:<16} {state:<34} {entry['licence']:<12} {entry['hub']}")
            print(f"cache: {cache_folder()}")
        return result
    if not config.name:
        raise ConfigError(f"`polar assets {config.action}` needs a name; there is: {', '.join(ASSETS)}.")
    path = pull(config.name) if config.action == "pull" else asset_path(config.name)
    if not config.json_output:
        print(path)
    return {"name": config.name, "path": str(path)}
