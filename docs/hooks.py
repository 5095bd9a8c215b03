"""For the site alone: pages that lie beside docs/ join it, so that every link between them resolves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: Any) -> Files:
    """Add the notebook, the data card of the example traces, and the pages that it links."""
    for path in [
        ROOT / "examples" / "README.md",
        ROOT / "examples" / "notebook.ipynb",
        *sorted((ROOT / "examples").glob("*/analysis/*")),
    ]:
        if path.suffix in (".md", ".png", ".svg", ".json", ".ipynb"):
            name = path.relative_to(ROOT).as_posix()
            file = File.generated(config, name, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV)
            files.append(file)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links out of docs/ become links within the site."""
    if page.file.src_uri.startswith("examples/"):
        return re.sub(r"\]\(\.\./docs/", "](../", markdown)
    return re.sub(r"\]\(\.\./examples/", "](examples/", markdown)
