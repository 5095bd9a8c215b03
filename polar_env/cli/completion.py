"""Shell completion: one script for all commands, as tyro writes it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from polar_env.errors import UnknownNameError

__all__ = ["completion_script"]

_SHELLS = ("bash", "zsh")


def completion_script(shell: str, verbs: Iterable[str]) -> str:
    """The script that a shell reads to complete commands, their flags, and the values of those that have a few.

    Args:
        shell: bash or zsh.
        verbs: the commands.

    Raises:
        UnknownNameError: for another shell.
    """
    if shell not in _SHELLS:
        raise UnknownNameError("shell", shell, _SHELLS, "Write e.g. polar --completion bash.")
    from pydantic import create_model
    from tyro.conf import FlagCreatePairsOff
    from tyro.extras import subcommand_cli_from_dict

    switch = (FlagCreatePairsOff[bool], False)
    every: Any = {"config": (Path, Path()), "dry_run": switch, "quiet": switch}
    kinds = {verb: import_module(f"polar_env.cli.{verb}").CONFIG for verb in verbs}
    configs = {verb: create_model(kind.__name__, __base__=kind, **every) for verb, kind in kinds.items()}
    script = StringIO()
    with redirect_stdout(script), suppress(SystemExit):  # having printed it, tyro exits
        subcommand_cli_from_dict(configs, prog="polar", args=["--tyro-print-completion", shell])
    return script.getvalue()
