"""Programs and agents in lm-evaluation-harness, as its model ``polar``.

    python -m eval.harness --model polar --model_args "pretrained=smollm2-135m,program=0-12 14-29" --tasks arc_easy

is lm-eval's own command line with one model more: tokenizing, batching, stop strings and scores are lm-eval's, and the
identity gives the numbers of its model ``hf``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from eval.choosers import program_or_agent
from polar_env.errors import ConfigError
from polar_env.llm import FrozenLLM, load_llm
from polar_env.program import Program
from polar_env.questions import Ask, Question
from polar_env.questions.prompts import RenderedPrompt
from polar_env.runner import generate
from polar_env.worlds import LiveWorld

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

__all__ = ["PolarLM", "right_in_harness"]


@register_model("polar")
class PolarLM(HFLM):  # type: ignore[misc]
    """A frozen LLM under a program, or under the program that an agent chooses for each document.

    Args:
        pretrained: a named model, a local folder, a hub id, or an LLM that is loaded.
        program: the program of all documents; empty is the identity.
        agent: the folder of a saved agent, or an agent's name; it decides on the question alone, the program then
            executes lm-eval's own context.
        ask_field: the field of a document that holds the question that the agent reads.
        program_field: the field of a document that holds its program; empty where documents have none.
        dtype: floating-point type of the LLM.
        device: device of the LLM.
        batch_size: rows that are executed together.
        max_length: most tokens of context and continuation; None is the model's.

    Raises:
        ConfigError, ProgramError, UnknownNameError, FingerprintError: see `eval.choosers.program_or_agent`.
    """

    def __init__(
        self,
        pretrained: str | FrozenLLM = "smollm2-135m",
        program: str = "",
        agent: str = "",
        ask_field: str = "question",
        program_field: str = "",
        dtype: str = "float32",
        device: str | None = "cpu",
        batch_size: int | str = 8,
        max_length: int | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        loaded = pretrained if isinstance(pretrained, FrozenLLM) else None
        self.frozen = loaded or load_llm(str(pretrained), dtype=dtype, device=device or "cpu")
        super().__init__(
            pretrained=self.frozen.model, tokenizer=self.frozen.tokenizer, backend="causal", batch_size=batch_size,
            max_length=max_length,
        )  # fmt: skip
        self.ask_field, self.program_field = ask_field, program_field
        self._program, self._agent = program_or_agent(self.frozen, program, agent)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of continuations; see lm-eval."""
        return self._by_program(requests, lambda some: super(PolarLM, self).loglikelihood(some, disable_tqdm))

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts; see lm-eval."""
        return self._by_program(requests, lambda some: super(PolarLM, self).loglikelihood_rolling(some, disable_tqdm))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continuations up to a stop string; see lm-eval."""
        return self._by_program(requests, lambda some: super(PolarLM, self).generate_until(some, disable_tqdm))

    def _by_program(self, requests: list[Instance], answer: Callable[[list[Instance]], list[Any]]) -> list[Any]:
        """Let lm-eval answer requests, those of one program together; in the requests' order."""
        programs = self._programs(requests)
        answers: dict[int, Any] = {}
        for program in dict.fromkeys(programs):
            rows = [i for i, each in enumerate(programs) if each == program]
            self._program = program
            answers |= zip(rows, answer([requests[i] for i in rows]), strict=True)
        return [answers[i] for i in range(len(requests))]

    def _programs(self, requests: Sequence[Instance]) -> list[Program]:
        """The program of each request."""
        if self.program_field:
            return [Program.parse(str(each.doc[self.program_field]), self.frozen.depth) for each in requests]
        if self._agent is None:
            return [self._program] * len(requests)
        for request in requests:
            if self.ask_field not in request.doc:
                raise ConfigError(
                    f"documents of {request.task_name} have no field '{self.ask_field}' for the agent; they have "
                    f"{', '.join(request.doc)}. Give ask_field=FIELD in --model_args."
                )
        asks = [Ask.typed(str(request.doc[self.ask_field]), str(request.task_name)) for request in requests]
        distinct = list(dict.fromkeys(asks))
        decisions = self._agent.decide(distinct)
        chosen = {ask: decision.program for ask, decision in zip(distinct, decisions, strict=True)}
        return [chosen[ask] for ask in asks]

    def _model_call(self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        return self.frozen.logits(inps, self._program)

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **generation: Any) -> Tensor:
        """The context and what is written behind it, padded on the right."""
        mask = generation.pop("attention_mask").bool()
        prompts = [row[real].tolist() for row, real in zip(context, mask, strict=True)]
        sampled = generation.get("do_sample") or generation.get("temperature", 0.0) > 0
        written = generate(
            self.frozen, prompts, self._program, stop=stop, max_new_tokens=max_length - context.shape[1],
            temperature=generation.get("temperature", 1.0) if sampled else 0.0, top_p=generation.get("top_p", 1.0),
        )  # fmt: skip
        rows = [torch.tensor(each.tokens) for each in written]
        new = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        return torch.cat([context.cpu(), new], dim=1)


def right_in_harness(world: LiveWorld, questions: Sequence[Question], programs: Sequence[Program]) -> list[bool]:
    """Whether lm-eval finds each program's answer right, under the world's prompts.

    Open questions are its ``generate_until`` with ``exact_match`` (case and punctuation ignored), multiple choice its
    ``acc_norm``: the likelihood of a choice per byte.
    """
    rendered = [world.prompts[q.task].render(world.llm.tokenizer, q.ask) for q in questions]
    groups: dict[_Form, list[int]] = {}
    for i, (question, each) in enumerate(zip(questions, rendered, strict=True)):
        form = _Form(bool(question.choices), each.lead, each.end, world.prompts[question.task].max_new_tokens)
        groups.setdefault(form, []).append(i)
    right: dict[int, bool] = {}
    for form, rows in groups.items():
        documents = [_document(questions[i], rendered[i], programs[i]) for i in rows]
        right |= dict(zip(rows, _run_task(world.llm, form, documents), strict=True))
    return [right[i] for i in range(len(questions))]


class _Form(NamedTuple):
    """What questions of one task of lm-eval have in common."""

    is_choice: bool
    lead: str
    end: str
    max_new_tokens: int


def _document(question: Question, rendered: RenderedPrompt, program: Program) -> dict[str, Any]:
    return {
        "prompt": rendered.prompt,
        "program": str(program),
        "answer": question.answer,
        "choices": list(question.choices),
        "gold": question.gold,
    }


def _run_task(llm: FrozenLLM, form: _Form, documents: Sequence[dict[str, Any]]) -> list[bool]:
    """Run questions of one form as a task of lm-eval from a local file."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    kind: dict[str, Any] = (
        {"output_type": "multiple_choice", "doc_to_target": "{{gold}}", "doc_to_choice": "{{choices}}",
         "metric_list": [{"metric": "acc_norm"}]}
        if form.is_choice
        else {"output_type": "generate_until", "doc_to_target": "{{answer}}",
              "generation_kwargs": {"until": [form.end] if form.end else [], "max_gen_toks": form.max_new_tokens,
                                    "do_sample": False},
              "metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True}],
              "filter_list": [{"name": "strip", "filter": [{"function": "remove_whitespace"},
                                                           {"function": "take_first"}]}]}
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.jsonl"
        path.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
        data = {"data_files": {"test": str(path)}, "cache_dir": folder}
        task = {"task": "polar", "dataset_path": "json", "dataset_kwargs": data, "test_split": "test",
                "doc_to_text": "{{prompt}}", "target_delimiter": form.lead} | kind  # fmt: skip
        model = PolarLM(llm, program_field="program")
        done = lm_eval.simple_evaluate(
            model=model, tasks=[task], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0,
            log_samples=True, verbosity="ERROR",
        )  # fmt: skip
    metric = "acc_norm" if form.is_choice else "exact_match"
    samples = sorted(done["samples"]["polar"], key=lambda sample: sample["doc_id"])
    return [bool(sample[metric]) for sample in samples]


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
