"""Walk a newcomer's way, with the commands that the documentation shows, and print how many seconds each one takes.

python scripts/newcomer.py            # in a fresh clone of this repository, everything installed anew
python scripts/newcomer.py --short    # with the environment that runs it, a few questions, without the quickstart
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[1]
FEW = " --limit 8 --oracle-questions 0 --agreement-questions 0 --timing-questions 0"
"""Flags of an evaluation that shall be short."""


def shown(page: str, start: str) -> str:
    """The first command of a page of the documentation that starts so, without its comment."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in map(str.strip, text.splitlines()):
        if line.startswith(start):
            return re.sub(r"\s+#.*", "", line)
    raise SystemExit(f"docs/{page} shows no command that starts with '{start}'; mend the page or scripts/newcomer.py.")


def code_shown(page: str, holding: str) -> str:
    """The first Python block of a page of the documentation that holds a text."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.M | re.S)
    for block in blocks:
        if holding in block:
            return str(block)
    raise SystemExit(f"docs/{page} has no Python with '{holding}'; mend the page or scripts/newcomer.py.")


class Newcomer:
    """Runs commands in a folder, with the programs of an environment.

    Args:
        folder: where commands run.
        programs: the environment's folder of programs.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs

    def words(self, command: str) -> list[str]:
        """A command as it is started: `polar`, `pip` and `python` are those of the environment."""
        first, *rest = shlex.split(command)
        return [str(self.programs / first) if first in ("polar", "pip", "python") else first, *rest]

    def do(self, command: str) -> str:
        """Run a command to its end, and return what it printed."""
        done = subprocess.run(self.words(command), cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{command}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        if warnings := [line for line in done.stderr.splitlines() if "Warning" in line]:
            raise SystemExit(f"{command}: it warned: {warnings[0]}")
        return done.stdout

    def explore(self, command: str) -> None:
        """Open the explorer, ask one question over its HTTP API, and close it."""
        words, pipe = self.words(command), subprocess.PIPE
        server = subprocess.Popen(words, cwd=self.folder, text=True, stdout=pipe, stderr=subprocess.STDOUT)
        try:
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            address = next((match[0] for line in lines if (match := re.search(r"http://\S+", line))), None)
            if address is None:
                raise SystemExit(f"{command}: it ended with exit code {server.wait()} before it opened a page.")
            if "68" not in _answer(f"{address.rstrip('/')}/gradio_api/call/answer", "What is 29 + 39?"):
                raise SystemExit(f"{command}: the answer to 'What is 29 + 39?' holds no 68.")
        finally:
            server.terminate()
            server.wait()


def _answer(api: str, question: str) -> str:
    """Everything that the explorer sends until its first answer is complete."""
    body = json.dumps({"data": [question, "", ""]}).encode()
    with urlopen(Request(api, body, {"Content-Type": "application/json"}), timeout=120) as reply:
        event = json.load(reply)["event_id"]
    with urlopen(f"{api}/{event}", timeout=120) as stream:
        return str(stream.read().decode())


Step = tuple[str, str, Callable[[], object]]
"""What a newcomer wants, the command, and what runs it."""


def steps(newcomer: Newcomer, *, short: bool, port: int) -> Iterator[Step]:
    """The way, step by step."""
    if not short:
        yield "install", "make .venv/installed", lambda: newcomer.do("make .venv/installed")
        yield "quickstart", "make quickstart", lambda: newcomer.do(shown("index.md", "make quickstart"))
        extra = shown("explorer.md", "pip install")
        yield "install the explorer", extra, lambda: newcomer.do(extra)
    ask = shown("index.md", "polar run")
    yield "ask", ask, lambda: newcomer.do(ask)
    explore = f"{shown('explorer.md', 'polar explore')} --port {port}"
    yield "explore", explore, lambda: newcomer.explore(explore)
    newcomer.do(shlex.join(["python", "-c", code_shown("how-to/your-task.md", '"mine.jsonl"')]))
    own = shown("how-to/your-task.md", "polar eval --questions jsonl:mine.jsonl") + (FEW if short else "")
    yield "my questions", own, lambda: newcomer.do(own)
    model = newcomer.do("polar assets path smollm2-135m").strip()
    run = shown("how-to/your-model.md", "polar run").replace("YOUR/MODEL", model)
    yield "my model's folder", run, lambda: newcomer.do(run)


def main() -> None:
    """Walk the way, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few questions, with the environment that runs this")
    parser.add_argument("--port", type=int, default=7879, help="port that the explorer listens on")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "polar-env"
        if given.short:
            clone.mkdir()
        else:
            subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        newcomer = Newcomer(clone, Path(sys.executable).parent if given.short else clone / ".venv" / "bin")
        print("| step | seconds | command |\n|---|---|---|")
        for name, command, run in steps(newcomer, short=given.short, port=given.port):
            started = time.perf_counter()
            run()
            print(f"| {name} | {time.perf_counter() - started:.1f} | `{command}` |", flush=True)


if __name__ == "__main__":
    main()
