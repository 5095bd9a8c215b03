"""A frozen LLM that executes any program of its layers, exactly.

Semantics: embed; apply the program's layers in order to the whole sequence, with causal attention inside each step;
final norm; head. Every step owns a KV cache slot, so a layer that runs twice never reads its other visit's keys.

Axis letters: ``B`` rows, ``T`` tokens, ``H`` width, ``V`` vocabulary, ``D`` layers, ``K`` steps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polar_env.errors import QuestionTooLongError
from polar_env.llm.shell import LayerInputs, Shell, find_layers
from polar_env.llm.slots import Slot
from polar_env.program import Program

__all__ = ["FrozenLLM"]

_NOT_THE_MODEL = ("_name_or_path", "transformers_version", "architectures", "dtype")
"""Keys of a configuration that say where a model came from, not what it computes."""


class FrozenLLM:
    """A decoder-only Hugging Face model, layer by layer.

    Args:
        model: the language model; put into eval mode, its gradients switched off.
        tokenizer: its tokenizer.
        name: how the user called it; only for messages and metadata.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str = "model") -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.layers = find_layers(model)[2]
        self.depth = len(self.layers)
        self.width: int = model.config.get_text_config().hidden_size
        self.device, self.dtype = model.device, model.dtype
        self.shell = Shell(model)
        self._shape_inputs = lru_cache(maxsize=256)(self._compute_shape_inputs)

    @property
    def context_length(self) -> int:
        """The most tokens that prompt and answer may have together."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 1 << 30))

    @property
    def identity(self) -> Program:
        """The program of the normal pass."""
        return Program.identity(self.depth)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over configuration, tokenizer and weights: equal only for the same model in the same dtype."""
        config = {k: v for k, v in self.model.config.to_dict().items() if k not in _NOT_THE_MODEL}
        tokenizer = [self.tokenizer.chat_template, sorted(self.tokenizer.get_vocab().items())]
        digest = hashlib.sha256(json.dumps([config, tokenizer], sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    def embed(self, ids: Tensor) -> Tensor:
        """Hidden states before any layer for token ids ``[B, T]``; returns ``[B, T, H]``."""
        return self.shell.layer_inputs(ids.to(self.device)).hidden

    def shape_inputs(self, past: int, length: int) -> LayerInputs:
        """Layer inputs for ``length`` tokens after ``past`` others, without padding; they broadcast over rows.

        Rows padded on the right need no mask of their own: causal attention never looks right.
        """
        return self._shape_inputs(past, length)

    @torch.inference_mode()
    def _compute_shape_inputs(self, past: int, length: int) -> LayerInputs:
        return self.shell.layer_inputs(torch.zeros(1, length, dtype=torch.long, device=self.device), past)

    @torch.inference_mode()
    def apply(self, layer: int, hidden: Tensor, inputs: LayerInputs, slot: Slot) -> Tensor:
        """Apply one layer as one step.

        Args:
            layer: which layer.
            hidden: ``[B, T, H]``.
            inputs: what the model's forward hands to its layers for this shape.
            slot: the step's own KV cache slot; extended by these tokens.

        Returns:
            Hidden states after the layer, ``[B, T, H]``.
        """
        kwargs = {k: slot if v is inputs.cache else v for k, v in inputs.kwargs[layer].items()}
        output = self.layers[layer](hidden, **kwargs)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result

    @torch.inference_mode()
    def read_out(self, hidden: Tensor) -> Tensor:
        """Final norm and head: hidden states ``[N, H]`` to logits ``[N, V]``."""
        return self.shell.logits(hidden)

    @torch.inference_mode()
    def run(
        self,
        ids: Tensor,
        program: Program,
        slots: Sequence[Slot] | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Execute a program on a batch of token sequences.

        Args:
            ids: token ids, ``long [B, T]``; with slots, only the new tokens.
            program: the layers to execute, ``K`` steps.
            slots: ``K`` slots, one for each step, that hold the earlier tokens and are extended; None starts afresh.
            attention_mask: ``[B, past + T]``, 1 = token, 0 = padding on either side; None = no padding.

        Returns:
            Hidden states after the last step, ``[B, T, H]``.

        Raises:
            ProgramError: if the program does not fit the model.
        """
        program.check(self.depth)
        slots = [Slot() for _ in program.layers] if slots is None else slots
        positions = None
        if attention_mask is not None:
            positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]  # [B, T]
        inputs = self.shell.layer_inputs(ids.to(self.device), slots[0].length, attention_mask, positions)
        hidden = inputs.hidden
        for layer, slot in zip(program.layers, slots, strict=True):
            hidden = self.apply(layer, hidden, inputs, slot)  # [B, T, H]
        return hidden

    def logits(self, ids: Tensor, program: Program, attention_mask: Tensor | None = None) -> Tensor:
        """Logits at every position under a program, ``[B, T, V]``; see `run` for the arguments."""
        hidden = self.run(ids, program, attention_mask=attention_mask)
        logits: Tensor = self.read_out(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])
        return logits

    def generate(
        self,
        prompt: Sequence[int],
        program: Program,
        max_new_tokens: int = 32,
        stop: Callable[[list[int]], bool] | None = None,
        on_token: Callable[[int], None] | None = None,
    ) -> list[int]:
        """Greedy continuation of one prompt under a program, with a KV cache slot per step.

        Args:
            prompt: token ids.
            program: the program for prefill and for every token.
            max_new_tokens: most tokens to make.
            stop: told the tokens so far, says whether to stop; they are returned whole.
            on_token: called with each token as it is made.

        Returns:
            The new token ids; ends with the end-of-text token where the model made one.

        Raises:
            QuestionTooLongError: if prompt and answer do not fit the model's context.
        """
        if len(prompt) + max_new_tokens > self.context_length:
            raise QuestionTooLongError(
                f"a prompt of {len(prompt)} tokens and {max_new_tokens} new ones exceed the model's context of "
                f"{self.context_length} tokens; shorten the question or use fewer examples."
            )
        slots = [Slot() for _ in program.layers]
        made: list[int] = []
        step = torch.tensor([list(prompt)])  # [1, T]
        while len(made) < max_new_tokens:
            hidden = self.run(step, program, slots)
            token = int(self.read_out(hidden[:, -1]).argmax(-1))
            made.append(token)
            if on_token is not None:
                on_token(token)
            if token in self.end_tokens or (stop is not None and stop(made)):
                break
            step = torch.tensor([[token]])
        return made

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a text, as the model's generation configuration says."""
        ends = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return frozenset([ends] if isinstance(ends, int) else ends or [])
