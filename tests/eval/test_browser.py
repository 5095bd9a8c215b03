"""The report in a real browser: no message on its console, every figure drawn, nothing wider than a narrow screen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from eval.report import write_report
from tests.eval.test_report import PROGRAMS, results_of

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEASURE = """<script>addEventListener("load", () => {
  const images = [...document.images];
  const wide = [...document.body.children].filter(e => e.scrollWidth > innerWidth && !e.matches(".scroll"));
  document.body.dataset.measured = JSON.stringify({
    images: images.length, drawn: images.filter(i => i.complete && i.naturalWidth > 0).length,
    width: document.documentElement.scrollWidth, screen: innerWidth, wide: wide.map(e => e.tagName),
    headings: [...document.querySelectorAll("h2")].map(e => e.textContent),
  });
});</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [420, 1400])
def test_the_page_in_a_browser(tmp_path: Path, width: int) -> None:
    page = write_report(tmp_path, results_of(tmp_path, *PROGRAMS))
    measured = tmp_path / "measured.html"
    measured.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    done = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         f"--window-size={width},900", "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom",
         measured.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    found = re.search(r'data-measured="([^"]*)"', done.stdout)
    assert found is not None
    values = json.loads(found[1].replace("&quot;", '"'))
    assert values["images"] == values["drawn"] >= 5
    assert values["width"] <= values["screen"], values["wide"]
    assert values["headings"][0] == "What it shows"
