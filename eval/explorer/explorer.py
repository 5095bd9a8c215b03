"""What the explorer's page shows, without the page: answers under programs, the logit lens, decisions, a live search.

One LLM serves all visitors: whatever executes it holds a lock, and a search gives it back between rounds.

Letters: ``D`` the model's depth.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from agents.base import Agent
from agents.explaining import Explains, Option, Step
from agents.search.config import PRESETS
from agents.search.lockstep import search
from polar_env.errors import QuestionError
from polar_env.program import Program
from polar_env.questions import Ask, Question, is_right
from polar_env.runner import Answer, Decoding, Verdict
from polar_env.runner.answers import of_generation
from polar_env.runner.lens import Lens, logit_lens
from polar_env.worlds import LiveWorld

__all__ = ["Explorer", "Run", "SearchState"]

_ROWS = 8
"""Programs of a search that are executed together: a full batch; between batches others have their turn."""


@dataclass(frozen=True)
class Run:
    """An answer under a program, whole or still being written.

    Attributes:
        name: who chose the program.
        program: the program.
        text: the answer so far.
        answer: the whole answer; None while it is written.
        seconds: time of the LLM, from the first layer to the last token; 0 while it runs.
        right: whether the answer is right; None where nobody said what is.
        tokens: the tokens of a written answer.
    """

    name: str
    program: Program
    text: str = ""
    answer: Answer | None = None
    seconds: float = 0.0
    right: bool | None = None
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class SearchState:
    """How far a search is.

    Attributes:
        done: programs that were tried.
        total: programs that it may try.
        right: right programs so far, the shortest first.
        over: whether it has ended.
        stopped: whether it was stopped before its end.
    """

    done: int
    total: int
    right: tuple[Program, ...]
    over: bool = False
    stopped: bool = False


class _Stopped(Exception):
    """Ends a search whose page was closed, or whose visitor pressed stop."""


class _Searched(LiveWorld):
    """The same world; a search's verdicts are kept, and the LLM is given back between rounds."""

    def __init__(self, world: LiveWorld, lock: threading.Lock) -> None:
        super().__init__(world.runner, world.prompts)
        self.lock, self.right = lock, set[Program]()

    def verdicts(self, pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        with self.lock:
            verdicts = super().verdicts(pairs)
        self.right |= {program for (_, program), verdict in zip(pairs, verdicts, strict=True) if verdict.right}
        return verdicts


class Explorer:
    """Executes what a visitor asks for.

    Args:
        world: executes.
        agent: chooses a program for each ask.
        static: the best static program.
        questions: questions to choose from; their answers are known.
        known: further questions whose answers are known, such as those of a recorded world.
    """

    def __init__(
        self,
        world: LiveWorld,
        agent: Agent,
        static: Program,
        questions: Sequence[Question],
        known: Sequence[Question] = (),
    ) -> None:
        self.world, self.agent, self.static = world, agent, static
        self.questions = list(questions)
        self._known = {_typed(question.ask): question for question in (*known, *questions)}
        self._lock = threading.Lock()

    def ask(self, text: str, choices: Sequence[str] = ()) -> Ask:
        """What a visitor typed; a known question keeps its task, and with that its prompt.

        Raises:
            QuestionError: if there is no text.
        """
        text, choices = text.strip(), tuple(choice.strip() for choice in choices if choice.strip())
        if not text:
            raise QuestionError("there is no question; type one, or choose one of the list.")
        ask = Ask.typed(text, choices=choices)
        known = self._known.get(_typed(ask))
        return known.ask if known else ask

    def question(self, ask: Ask, gold: str) -> Question | None:
        """An ask with its gold answer: the one that was typed, else the known one; None where there is neither.

        Raises:
            QuestionError: for a gold answer that is none of the choices.
        """
        known, gold = self._known.get(_typed(ask)), gold.strip()
        if known is not None and gold in ("", known.answer.strip()):
            return known
        return Question(ask, gold, split="test") if gold else None

    def decide(self, ask: Ask) -> tuple[Program, list[Step]]:
        """The agent's program, and what it weighed."""
        with self._lock:
            decision = self.agent.decide([ask])[0]
            if isinstance(self.agent, Explains):
                return decision.program, self.agent.explain(ask)
        options = [
            Option(str(program), confidence, len(program))
            for program, confidence in zip(decision.programs, decision.confidences, strict=True)
            if confidence is not None
        ]
        return decision.program, [Step("", tuple(options))] if options else []

    def compare(self, ask: Ask, gold: Question | None = None) -> Iterator[tuple[list[Run], list[Step]]]:
        """Answers of identity, best static program and agent, as they are written, one after another; and what the
        agent weighed, as soon as it has decided.
        """
        done: list[Run] = []
        for name, program in (("identity", self.world.identity), ("best static", self.static)):
            for run in self.run(ask, program, gold, name):
                yield [*done, run], []
            done.append(run)
        program, steps = self.decide(ask)
        for run in self.run(ask, program, gold, self.agent.name):
            yield [*done, run], steps

    def run(self, ask: Ask, program: Program, gold: Question | None = None, name: str = "yours") -> Iterator[Run]:
        """An answer under a program, as it is written; of multiple choice at once."""
        run = Run(name, program.check(self.world.depth))
        yield run
        if ask.choices:
            with self._lock:
                before = self.world.stats.seconds
                answer = self.world.answers([ask], program)[0]
                seconds = self.world.stats.seconds - before
            yield _answered(run, answer, seconds, gold)
            return
        decoding = Decoding(self.world.prompts[ask.task].max_new_tokens)

        def write(send: Callable[[str], None]) -> Run:
            with self._lock:
                written = self.world.generate([ask], program, decoding, lambda _, piece: send(piece))[0]
            seconds = written.prefill_seconds + written.decode_seconds
            return replace(_answered(run, of_generation(written), seconds, gold), tokens=tuple(written.tokens))

        for piece in _streamed(write):
            run = piece if isinstance(piece, Run) else replace(run, text=run.text + piece)
            yield run

    def lens(self, ask: Ask, program: Program, tokens: Sequence[int] = (), top: int = 5) -> Lens:
        """The likeliest first tokens of an answer after each layer; see `logit_lens`.

        Args:
            ask: the ask.
            program: the program.
            tokens: the answer that it wrote; blanks that begin it are taken as written, since they say nothing.
            top: tokens shown of each position.
        """
        decode = self.world.llm.tokenizer.decode
        blanks = tuple(takewhile(lambda token: not str(decode([token])).strip(), tokens))
        blanks = () if blanks == tuple(tokens) else blanks  # nothing else was written
        with self._lock:
            return logit_lens(self.world.asks.runner, ask, self.world.prompts[ask.task], program, top, blanks)

    def search(self, question: Question, stop: threading.Event, programs: int = 150) -> Iterator[SearchState]:
        """Search right programs; those found are listed with the shortest first.

        Args:
            question: the question and its gold answer.
            stop: ends the search after the round that runs; so does whoever stops iterating.
            programs: how many to try beside the identity.
        """
        watched = _Searched(self.world, self._lock)
        config = PRESETS["fast"].model_copy(update={"simulations": programs, "rows": _ROWS})

        def work(send: Callable[[int], None]) -> None:
            def on_round(count: int) -> None:
                if stop.is_set():
                    raise _Stopped
                send(count)

            try:
                search(watched, [question], config, on_round=on_round)
            except _Stopped:
                return

        done = 0
        try:
            for count in _streamed(work):
                done += count or 0
                yield SearchState(done, programs + 1, _shortest_first(watched.right))
            yield SearchState(done, programs + 1, _shortest_first(watched.right), True, stop.is_set())
        finally:
            stop.set()


def _answered(run: Run, answer: Answer, seconds: float, gold: Question | None) -> Run:
    """A run with its whole answer, judged where somebody said what is right."""
    right = None if gold is None else is_right(answer.text, gold)
    return replace(run, text=answer.text, answer=answer, seconds=seconds, right=right)


def _shortest_first(programs: set[Program]) -> tuple[Program, ...]:
    return tuple(sorted(programs, key=lambda program: (len(program), str(program))))


def _typed(ask: Ask) -> tuple[str, tuple[str, ...]]:
    """What of an ask a visitor can type."""
    return ask.text.strip(), tuple(choice.strip() for choice in ask.choices)


def _streamed(work: Callable[[Callable[[Any], None]], Any]) -> Iterator[Any]:
    """What work sends while it runs in a thread, then what it returns; its error is raised here."""
    sent: queue.Queue[tuple[str, Any]] = queue.Queue()

    def run() -> None:
        try:
            sent.put(("returned", work(lambda item: sent.put(("sent", item)))))
        except BaseException as error:  # raised in the thread that waits for it
            sent.put(("raised", error))

    threading.Thread(target=run, daemon=True).start()
    while True:
        kind, item = sent.get()
        if kind == "raised":
            raise item
        yield item
        if kind == "returned":
            return
