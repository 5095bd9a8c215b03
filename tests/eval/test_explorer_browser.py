"""The explorer in a real browser: by mouse and by keyboard, on a desk and on a phone, alone and ten at once."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html import escape
from typing import Any
from urllib.parse import urlencode

import pytest

from agents.fixed import StaticAgent
from agents.search.lockstep import search
from polar_env.errors import ConfigError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt, Question
from polar_env.runner import Decoding
from polar_env.worlds import LiveWorld
from tests.eval.test_explorer import EVIL
from tests.recording import made_world
from tests.worlds import world_of

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
gradio = pytest.importorskip("gradio", reason="needs Gradio: pip install 'polar-env[explore]'")
playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

QUESTIONS = [Question.of("Say a", "a"), Question.of(f"Say {EVIL}", "b")]
SHORT = Program((0, 2, 3))
EVIL_LINK = "<a/href=https://example.org>log-in</a>"
CUT = ("BodyStreamBuffer was aborted", "Connection errored out")
"""What Chromium and Gradio say of a stream that was cut because its page was left."""
WRITTEN = "id => document.querySelector(id)?.innerText.includes('probability')"


@pytest.fixture(scope="module")
def world(tiny_llm: FrozenLLM) -> LiveWorld:
    return world_of(tiny_llm, Prompt(style="qa", max_new_tokens=4))


@pytest.fixture(scope="module")
def address(world: LiveWorld) -> Iterator[str]:
    import numpy as np

    from eval.explorer.explorer import Explorer
    from eval.explorer.page import launch, make_page

    record = made_world(QUESTIONS, [world.identity, SHORT], np.array([[0, 1], [1, 0]], bool), np.zeros((2, 1, 2)))
    page = make_page(Explorer(world, StaticAgent(SHORT, "short"), Program((0, 1, 1, 2, 3)), QUESTIONS), record)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield launch(page, "127.0.0.1", port)
    with pytest.raises(ConfigError, match="in use"):
        launch(make_page(Explorer(world, StaticAgent(SHORT, "short"), SHORT, [])), "127.0.0.1", port)
    page.close()


@contextmanager
def opened(address: str, width: int = 1300) -> Iterator[Any]:
    """The page; nothing may be said on its console, but that a stream was cut when the page was left."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#lane button")
        yield page
        browser.close()
        assert [text for text in said if not any(cut in text for cut in CUT)] == []


def ask(page: Any, text: str) -> None:
    page.fill("#question textarea", text)
    page.click("#ask")
    page.wait_for_function("document.querySelectorAll('#answers .quiet').length == 3")
    page.wait_for_function(
        "[...document.querySelectorAll('#answers .quiet')].every(e => /probability/.test(e.innerText))"
    )
    page.wait_for_function("document.querySelectorAll('#lens tbody tr').length == 3")


def test_ask_toggle_search_and_link(address: str, world: LiveWorld) -> None:
    with opened(address) as page:
        ask(page, "Say a")
        texts = page.locator("#answers .text").all_inner_texts()
        for text, program in zip(texts, (world.identity, Program((0, 1, 1, 2, 3)), SHORT), strict=True):
            written = world.generate([Ask("Say a")], program, Decoding(4))[0].text.strip()
            assert text.split() == (written.split() or ["nothing"])
        assert page.input_value("#program textarea") == str(SHORT)
        page.click("#lane button[data-layer='1']")
        page.wait_for_function("document.querySelectorAll('#lens tbody tr').length == 4")
        assert page.input_value("#program textarea") == "0-3"
        link = page.input_value("#link textarea")
        page.fill("#gold textarea", "never said")
        page.click("#search")
        page.wait_for_selector("#searched progress")
        page.wait_for_function("/done/.test(document.querySelector('#searched').innerText)", timeout=60_000)
        assert "None of them is right" in page.inner_text("#searched")
        page.goto(address + link)
        page.wait_for_function(WRITTEN, arg="#yours")
        assert page.input_value("#question textarea") == "Say a"
        page.get_by_role("tab", name="Where does it help").click()
        page.locator("#map a").first.click()
        page.wait_for_function(WRITTEN, arg="#yours")


def test_by_keyboard(address: str) -> None:
    with opened(address) as page:
        page.focus("#question textarea")
        page.keyboard.type("Say a")
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelectorAll('#lens tbody tr').length == 3")
        page.focus("#lane button[data-layer='0']")
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelector('#program textarea').value == '0x2 2-3'")


def test_a_phone_scrolls_down_only(address: str) -> None:
    with opened(address, width=390) as page:
        ask(page, "Say a")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The programs of each round of a search that is slowed down to some twenty seconds."""
    done: list[int] = []

    def slowed(*given: Any, on_round: Callable[[int], None]) -> Any:
        def wait(count: int) -> None:
            time.sleep(1)
            done.append(count)
            on_round(count)

        return search(*given, on_round=wait)

    monkeypatch.setattr("eval.explorer.explorer.search", slowed)
    return done


def stands_still(rounds: list[int]) -> bool:
    """Whether a search that was ended has gone on for no more than the round that ran, well before its end."""
    before = -1
    while len(rounds) != before and sum(rounds) < 140:  # of 151 programs
        before = len(rounds)
        time.sleep(3)
    return sum(rounds) < 140


def test_stop_ends_the_search(address: str, rounds: list[int]) -> None:
    with opened(address) as page:
        page.fill("#question textarea", "Say a")
        page.fill("#gold textarea", "never said")
        page.click("#search")
        page.wait_for_selector("#searched progress")
        page.click("#stop")
        page.wait_for_function("/stopped/.test(document.querySelector('#searched').innerText)")
        before = page.inner_text("#searched")
        assert stands_still(rounds)
        assert page.inner_text("#searched") == before


def test_leaving_ends_the_search(address: str, rounds: list[int]) -> None:
    with opened(address) as page:
        page.fill("#question textarea", "Say a")
        page.fill("#gold textarea", "never said")
        page.click("#search")
        page.wait_for_selector("#searched progress")
    assert stands_still(rounds)


def test_bad_input_is_told(address: str) -> None:
    with opened(address) as page:
        page.click("#search")
        page.get_by_text("there is no question").wait_for()
        page.fill("#question textarea", f"Say {EVIL}")
        page.fill("#program textarea", "0-9")
        page.press("#program textarea", "Enter")
        page.get_by_text("out of range").wait_for()
        page.fill("#program textarea", "0-3")
        ask(page, f"Say {EVIL}")  # a script in a question would have said something on the console
        for part in ("model", "program"):  # whatever a link holds is text
            page.goto(f"{address}?{urlencode({part: EVIL_LINK})}")
            page.get_by_text(EVIL_LINK).first.wait_for()
            assert page.locator("a", has_text="log-in").count() == 0


def test_ten_users_get_their_own_answers(address: str, world: LiveWorld) -> None:
    from gradio_client import Client

    def used(number: int) -> list[str]:
        client = Client(address, verbose=False)
        names = [each["api_name"] for each in client.config["dependencies"]]
        job = client.submit(f"Say {number}", "", "", str(SHORT), fn_index=names.index("show"))
        job.result(timeout=120)
        return [part for output in job.outputs() for part in output if isinstance(part, str)]

    with ThreadPoolExecutor(10) as users:
        answers = list(users.map(used, range(10)))  # all of them first: outside the explorer nothing locks the world
    for number, parts in enumerate(answers):
        written = world.generate([Ask(f"Say {number}")], SHORT, Decoding(4))[0].text.strip()
        shown = [match for part in parts for match in re.findall('<div class="text">(.*?)</div>', part, re.S)]
        assert shown[-1] == (escape(written) or "<em>nothing</em>")
        assert any(f"question=Say+{number}&" in part for part in parts)
