"""``polar doctor``: what works on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field

from polar_env.cli.bars import console
from polar_env.config import Config

if TYPE_CHECKING:
    from polar_env.doctor import Library

__all__ = ["CONFIG", "EXAMPLES", "DoctorConfig", "run"]


class DoctorConfig(Config):
    """Say what works on this machine: libraries, devices and their speed, memory, the cache, the hub, wandb.

    The exit code is 1 where a library is missing that every command needs.
    """

    hub_seconds: Annotated[float, Field(gt=0)] = 3.0
    """The Hugging Face hub has so long to answer."""
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the result as one JSON object on standard output."""


CONFIG = DoctorConfig
EXAMPLES = ("polar doctor", "polar doctor --json")


def run(config: DoctorConfig) -> dict[str, Any]:
    """Look at everything, print it; ``failed`` says how many needed libraries are missing."""
    from polar_env import doctor

    libraries = doctor.libraries()
    missing = [library for library in libraries if not library.found and not library.extra]
    with console.status("looking at libraries, devices and the hub"):
        result = {
            "python": doctor.python(),
            "libraries": [asdict(library) for library in libraries],
            "devices": doctor.devices(),
            "memory": doctor.memory(),
            "cache": doctor.cache(),
            "hub": doctor.hub(config.hub_seconds),
            "wandb": doctor.wandb(),
            "failed": len(missing),
        }
    if not config.json_output:
        _print(result, libraries)
    for library in missing:
        console.print(f"missing: {library.name}, which every command needs; {library.mend}", markup=False)
    return result


def _print(result: dict[str, Any], libraries: list[Library]) -> None:
    """The table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"polar-env {result['python']['polar_env']}", show_header=False, show_lines=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, lines in (_needs(result, libraries) | _has(result)).items():
        table.add_row(name, "\n".join(lines))
    Console(highlight=False, markup=False).print(table)


def _needs(result: dict[str, Any], libraries: list[Library]) -> dict[str, list[str]]:
    """Rows about Python and libraries."""
    needed = [f"{each.name} {each.found or 'MISSING'}" for each in libraries if not each.extra]
    optional = [
        f"{each.name} {each.found}" if each.found else f"{each.name}: not installed; {each.mend}"
        for each in libraries
        if each.extra
    ]
    python = result["python"]
    return {"Python": [f"{python['version']}, {python['system']}"], "needs": [", ".join(needed)], "optional": optional}


def _has(result: dict[str, Any]) -> dict[str, list[str]]:
    """Rows about what this machine has."""
    memory, cache, hub, wandb = (result[key] for key in ("memory", "cache", "hub", "wandb"))
    rows = {f"device {device['name']}": [device["is"], _rates(device["gflops"])] for device in result["devices"]}
    threads = "" if memory["threads"] is None else f", torch takes {memory['threads']} threads"
    rows["cores"] = [f"{memory['cores']}{threads}"]
    rows["memory"] = [f"{memory['memory_gib']} GiB, {memory['free_gib']} free"]
    pulled = [
        name if there else f"{name}: not pulled; polar assets pull {name}" for name, there in cache["assets"].items()
    ]
    rows["cache"] = [f"{cache['folder']}, {cache['free_gib']} GiB free", *pulled]
    answer = "answers" if hub["answers"] else f"does not answer ({hub['why']}); named models need no hub"
    rows["hub"] = [f"{hub['address']} {answer}"]
    key = "a key is there" if wandb["key"] else "no key; `wandb login` stores one, offline needs none"
    rows["wandb"] = [f"{wandb['mode']}, {key}"]
    return rows


def _rates(gflops: dict[str, float | None]) -> str:
    """How fast matrix products are, and how the types compare."""
    rates = [f"{dtype} {'not possible' if rate is None else f'{rate} GFLOP/s'}" for dtype, rate in gflops.items()]
    single, half = gflops["float32"], gflops["bfloat16"]
    ratio = f"; bfloat16 is {half / single:.2g} times as fast" if single and half else ""
    return "matrix products: " + ", ".join(rates) + ratio
