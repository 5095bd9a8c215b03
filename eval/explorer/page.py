"""The explorer's page, in Gradio: it wires what visitors do to what the `Explorer` executes, and holds no logic.

A link holds the question, its choices, the program and the model: ``?question=..&program=..&model=..``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
        raise gr.Error(str(error), duration=None, print_exception=False) from error


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
    depth, model = explorer.world.depth, explorer.world.llm.name
    identity = explorer.world.identity
    with gr.Blocks(title="polar explorer", analytics_enabled=False) as page:
        gr.Markdown(f"# Programs of layers\n{model}, {depth} layers. Ask, look at the programs, change them.")
        with gr.Tab("Ask"):
            with gr.Row():
                text = gr.Textbox(label="Question", placeholder="What is 17 + 25?", scale=4, elem_id="question")
                listed = gr.Dropdown(
                    [(q.text, i) for i, q in enumerate(explorer.questions)], value=None, label="or one of these",
                    scale=2, elem_id="listed",
                )  # fmt: skip
            with gr.Row():
                choices = gr.Textbox(label="Choices, one a line (optional)", lines=1, elem_id="choices")
                gold = gr.Textbox(label="Right answer (optional; a search needs it)", elem_id="gold")
            ask = gr.Button("Ask", variant="primary", elem_id="ask")
            answers = gr.HTML(elem_id="answers")
            with gr.Accordion("What the agent saw and weighed", open=False):
                decision = gr.HTML(elem_id="decision")
            gr.Markdown("## Your program\nClick a layer: executed once, twice, skipped, once again. Or type a program.")
            lane = gr.HTML(lane_html(identity, depth), js_on_load=_CLICKED_LAYER, elem_id="lane")
            program = gr.Textbox(str(identity), label="Program", elem_id="program")
            yours = gr.HTML(elem_id="yours")
            address = gr.Textbox(label="Link to this question and program", interactive=False, elem_id="link")
            with gr.Row():
                search = gr.Button("Search a shorter right program", elem_id="search")
                stop = gr.Button("Stop", variant="stop", elem_id="stop")
            searched = gr.HTML(elem_id="searched")
            with gr.Accordion("Layer by layer (logit lens)", open=True):
                lens = gr.HTML(elem_id="lens")

        asked = [text, choices, gold]

        def answer(text: str, choices: str, gold: str) -> Iterator[Any]:
            with _told():
                ask = explorer.ask(text, choices.splitlines())
                for runs in explorer.compare(ask, explorer.question(ask, gold)):
                    yield answers_html(runs, depth), gr.skip(), gr.skip(), gr.skip()
                chosen, steps = explorer.decide(ask)
                yield gr.skip(), decision_html(steps), str(chosen), lane_html(chosen, depth)

        def look(text: str, choices: str, gold: str, program: str) -> Iterator[Any]:
            with _told():
                used = Program.parse(program, depth)
                yield gr.skip(), lane_html(used, depth), gr.skip(), gr.skip()
                if not text.strip():
                    return
                ask = explorer.ask(text, choices.splitlines())
                address = link_to(model, ask.text, used, ask.choices)
                for run in explorer.run(ask, used, explorer.question(ask, gold)):
                    yield answers_html([run], depth), gr.skip(), address, gr.skip()
                yield gr.skip(), gr.skip(), gr.skip(), lens_html(explorer.lens(ask, used))

        def toggle(program: str, event: gr.EventData) -> str:
            with _told():
                return str(toggled(Program.parse(program, depth), int(event.layer)))

        def choose(index: int | None) -> Any:
            if index is None:
                return gr.skip(), gr.skip(), gr.skip()
            question = explorer.questions[index]
            return question.text, "\n".join(question.choices), question.answer

        def find(text: str, choices: str, gold: str) -> Iterator[str]:
            with _told():
                ask = explorer.ask(text, choices.splitlines())
                question = explorer.question(ask, gold)
                if question is None:
                    raise ConfigError("nobody said which answer is right; type it into the field 'Right answer'.")
                for state in explorer.search(question):
                    yield search_html(state, depth)

        def opened(request: gr.Request) -> Any:
            with _told():
                given = request.query_params
                named = given.get("model", model)
                if named != model:
                    raise FingerprintError(
                        f"this link is of the model '{named}'; this explorer runs '{model}'. Start `polar explore` "
                        "with that model."
                    )
                used = Program.parse(given["program"], depth) if "program" in given else identity
                return given.get("question", ""), "\n".join(given.getlist("choice")), str(used)

        shown = [yours, lane, address, lens]
        told = {"show_progress": "hidden", "concurrency_id": "llm", "concurrency_limit": 1}
        gr.on(
            [ask.click, text.submit], answer, asked, [answers, decision, program, lane], **told
        ).success(look, [*asked, program], shown, **told)  # fmt: skip
        listed.input(choose, listed, asked, show_progress="hidden")
        program.submit(look, [*asked, program], shown, **told)
        lane.select(toggle, program, program, show_progress="hidden").success(look, [*asked, program], shown, **told)
        searching = search.click(find, asked, searched, show_progress="hidden", concurrency_limit=4)
        # Whoever is cancelled says nothing more, so the page says that it stopped.
        stop.click(
            lambda shown: (shown or "").replace("searching:", "stopped:"), searched, searched, cancels=[searching],
            show_progress="hidden",
        )  # fmt: skip
        page.load(opened, None, [text, choices, program], show_progress="hidden").success(
            look, [*asked, program], shown, **told
        )
        if record is not None:
            _map_tab(record, model)
    return page


def _map_tab(record: RecordedWorld, model: str) -> None:
    """Where programs help, from a recorded world."""

    def link(question: Question, program: Program) -> str:
        return link_to(model, question.text, program, question.choices)

    def draw(task: str, order: str) -> str:
        with _told():
            return atlas_html(record, link, None if task == "all" else task, order, _MAP_ROWS, _MAP_COLUMNS)

    with gr.Tab("Where does it help"):
        gr.Markdown(f"Recorded verdicts of `{record.card.name}`. A cell opens its question under its program.")
        with gr.Row():
            task = gr.Dropdown(["all", *sorted(set(record.tasks.tolist()))], value="all", label="Task", elem_id="task")
            order = gr.Dropdown(list(ORDERS), value=ORDERS[0], label="Sort questions by", elem_id="order")
        atlas = gr.HTML(draw("all", ORDERS[0]), elem_id="map")
        gr.on([task.change, order.change], draw, [task, order], atlas, show_progress="hidden")


def launch(page: gr.Blocks, host: str, port: int, *, wait: bool = True) -> str:
    """Serve the page.

    Args:
        page: the page.
        host: the address that it listens on.
        port: its port.
        wait: whether to return only when it is stopped.

    Returns:
        Its address.

    Raises:
        ConfigError: if the port is taken.
    """
    try:
        _, address, _ = page.queue(max_size=100).launch(
            server_name=host, server_port=port, css=CSS, theme=gr.themes.Default(font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"]), quiet=True, share=False, prevent_thread_lock=not wait,
            footer_links=[],
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(
            f"port {port} of {host} is in use; give another one with --port, or stop what has it."
        ) from error
    return str(address)
