"""Programs and agents in inspect-ai, as its model provider ``polar``.

    inspect eval arc.py --model polar/smollm2-135m -M program="0-12 14-29"

inspect-ai finds this module by its entry point. Chat messages, sampling and limits are inspect-ai's, the program ours.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import anyio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from eval.choosers import program_or_agent
from polar_env.errors import ConfigError
from polar_env.llm import load_llm
from polar_env.program import Program
from polar_env.questions import Ask
from polar_env.runner import Generation, generate
from polar_env.runner.generation import Prompted

__all__ = ["PolarAPI"]


@modelapi(name="polar")
class PolarAPI(ModelAPI):  # type: ignore[misc]
    """A frozen LLM under a program, or under the program that an agent chooses for each user message.

    Args:
        model_name: a named model, a local folder, or a hub id.
        base_url: not used.
        api_key: not used.
        config: inspect-ai's settings of generation.
        program: the program of all samples; empty is the identity.
        agent: the folder of a saved agent, or an agent's name.
        dtype: floating-point type of the LLM.
        device: device of the LLM.
        max_new_tokens: most tokens of an answer where inspect-ai sets no limit.

    Raises:
        ConfigError, ProgramError, UnknownNameError, FingerprintError: see `eval.choosers.program_or_agent`.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - inspect-ai's own signature
        program: str = "",
        agent: str = "",
        dtype: str = "float32",
        device: str = "cpu",
        max_new_tokens: int = 256,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.llm = load_llm(model_name, dtype=dtype, device=device)
        self.program, self.agent = program_or_agent(self.llm, str(program), agent)
        self.max_new_tokens, self._one_at_a_time = max_new_tokens, Lock()

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One answer; see inspect-ai. Tools are refused: a frozen LLM is asked here, not an assistant."""
        if tools:
            raise ConfigError("the provider 'polar' has no tools; give a task without them.")
        program, written = await anyio.to_thread.run_sync(self._write, input, config)
        reason: StopReason = "stop" if written.ended_by != "length" else "max_tokens"
        message = ChatMessageAssistant(content=written.text.strip(), model=self.model_name, source="generate")
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason=reason)],
            usage=ModelUsage(output_tokens=len(written.tokens)),
            time=written.prefill_seconds + written.decode_seconds,
            metadata={"program": str(program), "layers": len(program)},
        )

    def _write(self, messages: list[ChatMessage], config: GenerateConfig) -> tuple[Program, Generation]:
        """Choose a program and write under it."""
        with self._one_at_a_time:
            program = self.program
            if self.agent is not None:
                asked = next(message.text for message in reversed(messages) if message.role == "user")
                program = self.agent.decide([Ask.typed(asked)])[0].program
            sampling: dict[str, Any] = {"top_p": config.top_p, "seed": config.seed}
            written = generate(
                self.llm, [self._prompt(messages)], program,
                stop=config.stop_seqs or [], max_new_tokens=config.max_tokens or self.max_new_tokens,
                temperature=config.temperature or 0.0, **{k: v for k, v in sampling.items() if v is not None},
            )  # fmt: skip
        return program, written[0]

    def _prompt(self, messages: list[ChatMessage]) -> Prompted:
        """Messages for the LLM's chat template, or one under the other where it has none."""
        if self.llm.tokenizer.chat_template:
            return [{"role": message.role, "content": message.text} for message in messages]
        return "\n".join(message.text for message in messages)

    def max_connections(self) -> int:
        """Samples are answered one by one."""
        return 1
