"""The explorer's pictures as HTML; whatever a visitor typed or the LLM wrote is escaped here.

Letters: ``D`` the model's depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from agents.explaining import Step
from eval.explorer.explorer import Run, SearchState
from polar_env.drawing import COLOURS
from polar_env.program import Program
from polar_env.runner.lens import Lens

__all__ = ["CSS", "answers_html", "decision_html", "lane_html", "lens_html", "search_html", "toggled"]

CSS = f"""
.lane {{ display: flex; flex-wrap: wrap; gap: 4px; }}
.lane button {{ min-width: 38px; height: 44px; border: 2px solid transparent; border-radius: 6px; cursor: pointer;
  font: 600 13px system-ui, sans-serif; color: #fff; background: {COLOURS["once"]}; }}
.lane button.skipped {{ background: {COLOURS["skipped"]}; color: #495057; text-decoration: line-through; }}
.lane button.looped {{ background: #b5381b; }}
.lane button:focus-visible {{ outline: 3px solid #f2b134; outline-offset: 1px; }}
.answers {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 12px; }}
.answers > div {{ border: 1px solid #ced4da; border-radius: 8px; padding: 10px 12px; overflow-wrap: anywhere; }}
.answers .text {{ font-size: 20px; min-height: 30px; white-space: pre-wrap; }}
.quiet {{ color: #6c757d; font-size: 13px; }}
.right {{ color: #1b7f3b; font-weight: 600; }} .wrong {{ color: #b5381b; font-weight: 600; }}
.wide {{ overflow-x: auto; }}
.lens td, .lens th, .map td, .map th {{ padding: 2px 6px; font: 12px ui-monospace, monospace; white-space: pre; }}
.map td {{ padding: 0; }} .map td a {{ display: block; width: 16px; height: 16px; }}
.map th {{ text-align: left; }} .map .program {{ writing-mode: vertical-rl; transform: rotate(180deg); }}
.dark .lens td {{ color: #111; }}
"""
_SHADE = (76, 120, 168)
"""Of a probability of 1."""


def toggled(program: Program, layer: int) -> Program:
    """The program with one layer switched on to its next state: executed once, twice in a row, skipped, once again.

    Raises:
        ProgramError: if nothing were left.
    """
    layers, count = program.layers, program.layers.count(layer)
    if count > 1:
        return Program(tuple(each for each in layers if each != layer))
    at = layers.index(layer) if count else next((at for at, each in enumerate(layers) if each > layer), len(layers))
    return Program((*layers[:at], layer, *layers[at:]))


def lane_html(program: Program, depth: int) -> str:
    """One button for each layer; its class and label say whether it is skipped, executed once, or more often."""
    buttons = []
    for layer, count in enumerate(program.executions(depth)):
        kind = "skipped" if count == 0 else "once" if count == 1 else "looped"
        says = {0: "skipped", 1: "executed once"}.get(count, f"executed {count} times")
        label = f"{layer}" if count < 2 else f"{layer} ×{count}"
        buttons.append(
            f'<button type="button" class="{kind}" data-layer="{layer}" aria-label="layer {layer}, {says}" '
            f'title="layer {layer}: {says}">{label}</button>'
        )
    return f'<div class="lane" role="group" aria-label="layers">{"".join(buttons)}</div>'


def answers_html(runs: Sequence[Run], depth: int) -> str:
    """Answers side by side."""
    return f'<div class="answers" aria-live="polite">{"".join(_answer(run, depth) for run in runs)}</div>'


def _answer(run: Run, depth: int) -> str:
    about = "waits" if not run.text and run.answer is None else "writes"
    if run.answer is not None:
        verdict = "" if run.right is None else f' · <span class="{_class(run.right)}">{_class(run.right)}</span>'
        about = f"probability {run.answer.confidence:.0%} · {1000 * run.seconds:.0f} ms{verdict}"
    shown = escape(run.text) if run.text or run.answer is None else "<em>nothing</em>"
    return (
        f"<div><strong>{escape(run.name)}</strong>"
        f'<div class="text">{shown}</div>'
        f'<div class="quiet">{about}<br>{len(run.program)} of {depth} layers: {run.program}</div></div>'
    )


def _class(right: bool) -> str:
    return "right" if right else "wrong"


def lens_html(lens: Lens) -> str:
    """A row for each executed layer: the likeliest next tokens, the darker the likelier."""
    head = "".join(f"<th>{place}</th>" for place in ("layer", *(f"{i + 1}." for i in range(len(lens.tokens[0])))))
    rows = []
    for layer, tokens, probabilities in zip(lens.layers, lens.tokens, lens.probabilities, strict=True):
        cells = "".join(
            f'<td style="background: {_shade(float(p))}; color: {"#fff" if p > 0.6 else "#111"}" '
            f'title="{_percent(float(p))}">{escape(_visible(token))}</td>'
            for token, p in zip(tokens, probabilities, strict=True)
        )
        rows.append(f'<tr><th scope="row">{layer}</th>{cells}</tr>')
    caption = "Likeliest first tokens of the answer, had the LLM stopped after each layer; darker is likelier"
    return (
        f'<div class="wide"><table class="lens"><caption class="quiet">{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _visible(token: str) -> str:
    """A token whose blanks can be seen."""
    return token.replace("\n", "⏎").replace(" ", "␣") or "∅"


def _percent(probability: float) -> str:
    return "no numbers" if np.isnan(probability) else f"{probability:.1%}"


def _shade(probability: float) -> str:
    share = 0.0 if np.isnan(probability) else probability
    return "rgb({}, {}, {})".format(*(round(255 - share * (255 - part)) for part in _SHADE))


def decision_html(steps: Sequence[Step]) -> str:
    """What the agent saw and weighed at each decision."""
    if not steps:
        return '<p class="quiet">This agent does not say what it weighed.</p>'
    parts = []
    for number, step in enumerate(steps, 1):
        rows = "".join(
            f"<tr><td>{escape(option.name)}</td><td>{option.probability:.0%}</td>"
            f"<td>{'' if option.layers is None else option.layers}</td></tr>"
            for option in step.options
        )
        title = f"Decision {number}" if len(steps) > 1 else "The decision"
        parts.append(
            f'<p><strong>{title}</strong> <span class="quiet">{escape(step.saw)}</span></p><div class="wide"><table>'
            f"<thead><tr><th>option</th><th>probability</th><th>layers</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    return "".join(parts)


def search_html(state: SearchState, depth: int) -> str:
    """A progress bar, and the shortest right programs so far."""
    shown = state.right[:5]
    items = "".join(f"<li><code>{program}</code>, {len(program)} of {depth} layers</li>" for program in shown)
    listed = f"<p>{len(state.right)} right programs; the shortest:</p><ol>{items}</ol>" if shown else ""
    if state.over and not shown:
        listed = "<p>None of them is right.</p>"
    over = "stopped" if state.stopped else "done" if state.over else "searching"
    return (
        f'<div aria-live="polite"><progress max="{state.total}" value="{state.done}"></progress> '
        f'<span class="quiet">{over}: {state.done} of {state.total} programs tried</span>{listed}</div>'
    )
