"""The ``polar`` command: one verb, one module, one function. Only this package reaches up to agents, train and eval."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from polar_env.cli.completion import completion_script
from polar_env.errors import ConfigError, PolarError, UnknownNameError

if TYPE_CHECKING:
    from polar_env.config import Config

__all__ = ["main"]

VERBS = {
    "quickstart": "the main job end to end on a small mixture: search, train, evaluate, report",
    "assets": "list, pull or locate the named models",
    "prompt": "choose the identity program's best prompt on train questions",
    "search": "search programs for questions and collect traces",
    "traces": "look after trace sets: info, check, merge, export, import",
    "record": "record worlds for learners that need no LLM: run, check, describe, push, pull, ..",
    "analyse": "what a trace set shows, with intervals and chance levels",
    "train": "an agent from traces (imitation, PPO) or from a recorded world",
    "eval": "measure agents on held-out questions and write a report",
    "compare": "one evaluation against another, paired on the same questions",
    "agents": "the saved agents: list, show, push, pull",
    "card": "one page about a program or an agent, from an evaluation",
    "run": "answer one question with a trained agent",
    "explore": "look at programs in the browser: ask, switch layers, search",
    "verify": "check that your model's programs, or an export, are executed exactly",
    "bench": "measure speed and memory beside a reference in the same run",
    "export": "a program or an agent for other engines: transformers, GGUF",
    "doctor": "what works on this machine: libraries, devices, speed, cache, hub",
}
Defaults = Callable[[list[str], dict[str, Any]], dict[str, Any]]
"""A command's own: flags and what a file says in, and what the configuration starts from out."""
_DISAGREES, _BAD_INPUT, _INTERRUPTED = 1, 2, 130


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 a check failed, 2 bad input, 130 interrupted."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    verb, *rest = arguments
    try:
        if verb == "--completion":
            print(completion_script(rest[0] if rest else "", VERBS))
            return 0
        if verb not in VERBS:
            raise UnknownNameError("command", verb, VERBS, "See `polar --help`.")
        module = import_module(f"polar_env.cli.{verb}")
        asked = {"--dry-run", "--quiet"} & set(rest)
        rest = [argument for argument in rest if argument not in asked]
        if "--quiet" in asked:
            from polar_env.cli.bars import console

            console.quiet = True
        try:
            config = _read_config(module.CONFIG, verb, rest, getattr(module, "defaults", lambda _, given: given))
        except SystemExit:
            if {"-h", "--help"} & set(rest):
                print("\n  ".join(["examples:", *module.EXAMPLES]))
            raise
        if "--dry-run" in asked:
            print(_as_yaml(config), end="")
            _print_estimate(module, config)
            return 0
        result = module.run(config)
    except PolarError as error:
        print(f"error: {error}", file=sys.stderr)
        return _BAD_INPUT
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return _BAD_INPUT
    except KeyboardInterrupt as stop:
        how = str(stop) or "The same command goes on from what was done."
        print(f"\ninterrupted. {how}", file=sys.stderr)
        return _INTERRUPTED
    if getattr(config, "json_output", False):
        print(json.dumps(result))
    return _DISAGREES if result.get("failed") else 0


def _help() -> str:
    lines = [f"  {verb:<11} {text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: polar COMMAND [options]",
            "",
            "Let an agent choose, for each question, which layers of a frozen LLM to run.",
            "",
            *lines,
            "",
            "`polar COMMAND --help` explains a command. Every command takes",
            "  --config FILE   settings from a YAML file, or a preset's name, such as skills; flags win over it",
            "  --dry-run       print all settings, as such a file, and about what time and memory they take",
            "  --quiet         show results and errors alone",
            "`polar --completion bash|zsh` prints a script that completes commands and flags.",
            "",
            "example: polar quickstart",
        ]
    )


def _read_config(kind: type[Config], verb: str, arguments: list[str], defaults: Defaults) -> Config:
    """The configuration: defaults, then ``--config FILE.yaml`` or a preset, then flags.

    Raises:
        ConfigError: for a file that is missing or holds a wrong value; UnknownNameError for a wrong key or preset.
    """
    import tyro

    path, arguments = _take_config_flag(arguments)
    values = defaults(arguments, _read_yaml(path) if path else {})
    default = kind.of(values, path or f"polar {verb}")
    # A flag that may be repeated replaces what the file says, it does not add to it.
    flags = {argument.split("=")[0].replace("_", "-") for argument in arguments}
    repeated = [name for name, value in default if isinstance(value, tuple) and f"--{name.replace('_', '-')}" in flags]
    default = default.model_copy(update=dict.fromkeys(repeated, ()))
    return tyro.cli(kind, default=default, args=arguments, prog=f"polar {verb}")


def _as_yaml(config: Config) -> str:
    """A configuration as a file that ``--config`` reads."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _print_estimate(module: ModuleType, config: Any) -> None:
    """How long it would take, and how much memory, for a verb that counts its work; nothing is written.

    Raises:
        PolarError: for what the command would refuse, too.
    """
    if not hasattr(module, "work"):
        return
    from polar_env.cli.bars import console
    from polar_env.cli.estimate import estimate

    work = module.work(config.model_copy(update={"verdicts": "none"}))
    if work:
        console.print(estimate(work), markup=False)


def _take_config_flag(arguments: list[str]) -> tuple[str | None, list[str]]:
    for i, argument in enumerate(arguments):
        if argument == "--config":
            if i + 1 == len(arguments):
                raise ConfigError("--config lacks its file; write --config FILE.yaml.")
            return arguments[i + 1], arguments[:i] + arguments[i + 2 :]
        if argument.startswith("--config="):
            return argument.removeprefix("--config="), arguments[:i] + arguments[i + 1 :]
    return None, arguments


def _read_yaml(path: str) -> dict[str, Any]:
    """A file, or a preset by its name, such as ``skills`` or ``peers/polar``."""
    from pathlib import Path

    import yaml

    from polar_env.cli.presets import preset_text

    file = Path(path)
    is_preset = not file.suffix and (file.is_dir() or not file.exists())
    try:
        text = preset_text(path) if is_preset else file.read_text(encoding="utf-8")
        values = yaml.safe_load(text) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no mapping; write 'key: value' lines.")
    return _as_fields(values)


def _as_fields(values: dict[Any, Any]) -> dict[str, Any]:
    """The keys as fields are called; a file may write them as flags: ``layer-cost``, ``mcts.simulations``, ``json``."""
    from polar_env.config import merged

    fields: dict[str, Any] = {}
    for key, value in values.items():
        field: Any = _as_fields(value) if isinstance(value, dict) else value
        for name in reversed(("json_output" if key == "json" else str(key).replace("-", "_")).split(".")):
            field = {name: field}
        fields = merged(fields, field)
    return fields
