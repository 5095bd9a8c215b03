"""The explorer's page, in Gradio: it wires what visitors do to what the `Explorer` executes, and holds no logic.

A link holds the question, its choices, the program and the model: ``?question=..&program=..&model=..``.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from threading import Event
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from eval.explorer.atlas import ORDERS, atlas_html
from eval.explorer.drawing import CSS, answers_html, decision_html, lane_html, lens_html, search_html, toggled
from eval.explorer.explorer import Explorer
from polar_env.errors import ConfigError, FingerprintError, PolarError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import RecordedWorld

__all__ = ["launch", "make_page"]

_CLICKED_LAYER = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-layer]');
  if (button) { trigger('select', {layer: Number(button.dataset.layer)}); }
});
"""
_MAP_ROWS, _MAP_COLUMNS = 60, 30


@contextmanager
def _told() -> Iterator[None]:
    """What went wrong is told to the visitor, in the words of the error."""
    try:
        yield
    except PolarError as error:
        raise gr.Error(escape(str(error)), duration=None, print_exception=False) from error  # Gradio shows it as HTML


def link_to(model: str, question: str, program: Program | str, choices: Sequence[str] = ()) -> str:
    """The part of an address that opens a question under a program."""
    parts = {"question": question, "program": str(program), "model": model, "choice": list(choices)}
    return "?" + urlencode(parts, doseq=True)


def make_page(explorer: Explorer, record: RecordedWorld | None = None) -> gr.Blocks:
    """The page.

    Args:
        explorer: executes.
        record: a recorded world to show where programs help; None leaves that tab out.
    """
    model = explorer.world.llm.name
    with gr.Blocks(title="polar explorer", analytics_enabled=False) as page:
        gr.Markdown(
            f"# Programs of layers\n{model}, {explorer.world.depth} layers. Ask, look at programs, change them."
        )
        with gr.Tab("Ask"):
            tab = _AskTab(explorer)
        tab.wire(page)
        if record is not None:
            with gr.Tab("Where does it help"):
                _map_tab(record, model)
    return page


class _AskTab:
    """The tab where questions are asked: its fields, what fills them, and what happens when."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.depth, self.model = explorer, explorer.world.depth, explorer.world.llm.name
        self.identity = explorer.world.identity
        self.stops: dict[str, Event] = {}  # of searches, by visitor
        with gr.Row():
            self.text = gr.Textbox(label="Question", placeholder="What is 17 + 25?", scale=4, elem_id="question")
            listed = [(question.text, at) for at, question in enumerate(explorer.questions)]
            self.listed = gr.Dropdown(listed, value=None, label="or one of these", scale=2, elem_id="listed")
        with gr.Row():
            self.choices = gr.Textbox(label="Choices, one a line (optional)", elem_id="choices")
            self.gold = gr.Textbox(label="Right answer (optional; a search needs it)", elem_id="gold")
        self.ask = gr.Button("Ask", variant="primary", elem_id="ask")
        self.answers = gr.HTML(elem_id="answers")
        with gr.Accordion("What the agent saw and weighed", open=False):
            self.decision = gr.HTML(elem_id="decision")
        gr.Markdown("## Your program\nClick a layer: executed once, twice, skipped, once again. Or type a program.")
        self.lane = gr.HTML(lane_html(self.identity, self.depth), js_on_load=_CLICKED_LAYER, elem_id="lane")
        self.program = gr.Textbox(str(self.identity), label="Program", elem_id="program")
        self.yours = gr.HTML(elem_id="yours")
        self.link = gr.Textbox(label="Link to this question and program", interactive=False, elem_id="link")
        with gr.Row():
            self.search = gr.Button("Search right programs", elem_id="search")
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop")
        self.searched = gr.HTML(elem_id="searched")
        with gr.Accordion("Layer by layer (logit lens)", open=True):
            self.lens = gr.HTML(elem_id="lens")

    def wire(self, page: gr.Blocks) -> None:
        """What happens when a visitor does something; whatever runs the LLM takes its turn."""
        quiet = {"show_progress": "hidden"}
        turn = quiet | {"concurrency_id": "llm", "concurrency_limit": 1}
        asked, shown = [self.text, self.choices, self.gold], [self.yours, self.lane, self.link, self.lens]
        look = (self.show, [*asked, self.program], shown)
        answered = [self.answers, self.decision, self.program, self.lane]
        gr.on([self.ask.click, self.text.submit], self.answer, asked, answered, **turn).success(*look, **turn)
        self.listed.input(self.choose, self.listed, asked, **quiet)
        self.program.submit(*look, **turn)
        self.lane.select(self.toggle, self.program, self.program, **quiet).success(*look, **turn)
        self.search.click(self.begin, queue=False, **quiet).then(
            self.find, asked, self.searched, concurrency_limit=4, **quiet
        )
        self.stop.click(self.end, queue=False, **quiet)
        page.unload(self.end)
        page.load(self.open_link, None, [self.text, self.choices, self.program], **quiet).success(*look, **turn)

    def answer(self, text: str, choices: str, gold: str) -> Iterator[Any]:
        """Three answers as they are written, then the agent's program and what it weighed."""
        with _told():
            ask = self.explorer.ask(text, choices.splitlines())
            for runs, steps in self.explorer.compare(ask, self.explorer.question(ask, gold)):
                yield answers_html(runs, self.depth), decision_html(steps) if steps else "", gr.skip(), gr.skip()
            chosen = runs[-1].program
            yield gr.skip(), decision_html(steps), str(chosen), lane_html(chosen, self.depth)

    def show(self, text: str, choices: str, gold: str, program: str) -> Iterator[Any]:
        """The lane of a program, its answer as it is written, its link, and its logit lens."""
        with _told():
            used = Program.parse(program, self.depth)
            yield gr.skip(), lane_html(used, self.depth), gr.skip(), gr.skip()
            if not text.strip():
                return
            ask = self.explorer.ask(text, choices.splitlines())
            link = link_to(self.model, ask.text, used, ask.choices)
            for run in self.explorer.run(ask, used, self.explorer.question(ask, gold)):
                yield answers_html([run], self.depth), gr.skip(), link, gr.skip()
            yield gr.skip(), gr.skip(), gr.skip(), lens_html(self.explorer.lens(ask, used, run.tokens))

    def toggle(self, program: str, event: gr.EventData) -> str:
        """The program with the layer that was clicked switched on."""
        with _told():
            return str(toggled(Program.parse(program, self.depth), int(event.layer)))

    def choose(self, index: int | None) -> Any:
        """The fields of a question of the list."""
        if index is None:
            return gr.skip(), gr.skip(), gr.skip()
        question = self.explorer.questions[index]
        return question.text, "\n".join(question.choices), question.answer

    def begin(self, request: gr.Request) -> None:
        """Make a search that can be stopped, also while it waits for its turn."""
        self.end(request)
        self.stops[str(request.session_hash)] = Event()

    def find(self, text: str, choices: str, gold: str, request: gr.Request) -> Iterator[str]:
        """A search, round by round, until it is over, stopped, or its page is closed."""
        stop = self.stops.get(str(request.session_hash))
        if stop is None:  # stopped while it waited for its turn
            return
        with _told():
            ask = self.explorer.ask(text, choices.splitlines())
            question = self.explorer.question(ask, gold)
            if question is None:
                raise ConfigError("nobody said which answer is right; type it into the field 'Right answer'.")
            for state in self.explorer.search(question, stop):
                yield search_html(state, self.depth)

    def end(self, request: gr.Request) -> None:
        """Stop the visitor's search."""
        if stop := self.stops.pop(str(request.session_hash), None):
            stop.set()

    def open_link(self, request: gr.Request) -> Any:
        """What the address of the page says."""
        with _told():
            given = request.query_params
            named = given.get("model", self.model)
            if named != self.model:
                raise FingerprintError(
                    f"this link is of the model '{named}'; this explorer runs '{self.model}'. Start `polar explore` "
                    "with that model."
                )
            used = str(Program.parse(given["program"], self.depth)) if "program" in given else gr.skip()
            choices = "\n".join(given.getlist("choice")) or gr.skip()
            return given.get("question", gr.skip()), choices, used


def _map_tab(record: RecordedWorld, model: str) -> None:
    """Where programs help, from a recorded world."""

    def link(question: Question, program: Program) -> str:
        return link_to(model, question.text, program, question.choices)

    def draw(task: str, order: str) -> str:
        with _told():
            return atlas_html(record, link, None if task == "all" else task, order, _MAP_ROWS, _MAP_COLUMNS)

    gr.Markdown(f"Recorded verdicts of `{record.card.name}`. A cell opens its question under its program.")
    with gr.Row():
        task = gr.Dropdown(["all", *sorted(set(record.tasks.tolist()))], value="all", label="Task", elem_id="task")
        order = gr.Dropdown(list(ORDERS), value=ORDERS[0], label="Sort questions by", elem_id="order")
    atlas = gr.HTML(draw("all", ORDERS[0]), elem_id="map")
    gr.on([task.change, order.change], draw, [task, order], atlas, show_progress="hidden")


def launch(page: gr.Blocks, host: str, port: int) -> str:
    """Serve the page in the background.

    Args:
        page: the page.
        host: the address that it listens on.
        port: its port.

    Returns:
        Its address.

    Raises:
        ConfigError: if it cannot listen there.
    """
    _require_free(host, port)
    try:
        _, address, _ = page.queue(max_size=100).launch(
            server_name=host, server_port=port, css=CSS, theme=gr.themes.Default(font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"]), quiet=True, share=False, prevent_thread_lock=True,
            footer_links=[],
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}, port {port}: {error}.") from error
    return str(address)


def _require_free(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is in use; give another one with --port.") from error
        raise ConfigError(f"cannot listen on {host}, port {port}: {error}. Give an address of this machine.") from error
