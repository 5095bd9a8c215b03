"""A newcomer's way, the short one: what the documentation shows works as it is written there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from polar_env.llm import FrozenLLM

SCRIPT = Path(__file__).parents[1] / "scripts" / "newcomer.py"


@pytest.mark.smollm2
def test_the_short_way_is_walked(smollm2: FrozenLLM) -> None:
    pytest.importorskip("gradio", reason="needs Gradio: pip install 'polar-env[explore]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"WANDB_MODE": "disabled"}
    command = [sys.executable, SCRIPT, "--short", "--port", port]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    assert [name for name, *_ in rows] == ["ask", "explore", "my questions", "my model's folder"]
    assert all(float(seconds) > 0 for _, seconds, _ in rows)


def test_a_command_that_the_documentation_lost_is_named() -> None:
    code = f"import runpy; runpy.run_path(r'{SCRIPT}')['shown']('index.md', 'polar walk')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "docs/index.md shows no command that starts with 'polar walk'; mend the page or" in done.stderr
