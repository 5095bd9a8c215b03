"""A frozen LLM that executes any program of its layers, exactly.

Semantics: embed; apply the program's layers in order to the whole sequence, each with causal attention; final norm;
head. Every position owns a KV cache slot, so a layer that runs twice never reads its other visit's keys.

Axis letters: ``B`` rows, ``T`` tokens, ``H`` width, ``V`` vocabulary, ``D`` layers, ``K`` positions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polar_env.errors import CacheError, ModelError, NonFiniteError, PolarError
from polar_env.llm.admission import admit
from polar_env.llm.attention import layers_for_device
from polar_env.llm.cache import ProgramCache, Visit
from polar_env.llm.flops import FlopCounts
from polar_env.llm.shell import LayerInputs, Shell
from polar_env.llm.slots import PastLength
from polar_env.llm.structure import find_layers, windows_of
from polar_env.program import Program, one_each

__all__ = ["FrozenLLM"]

_NOT_THE_MODEL = ("_name_or_path", "transformers_version", "architectures", "dtype")
"""Keys of a configuration that say where a model came from, not what it computes."""


class FrozenLLM:
    """A decoder-only Hugging Face model, layer by layer.

    Args:
        model: the language model; put into eval mode, its gradients switched off.
        tokenizer: its tokenizer.
        name: how the user called it; only for messages and metadata.

    Raises:
        ModelError: if the model cannot be executed layer by layer; names what is in the way.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str = "model") -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.layers = list(find_layers(model))
        self.depth = len(self.layers)
        self.width: int = model.config.get_text_config().hidden_size
        self.device, self.dtype = model.device, model.dtype
        self._shape_inputs = lru_cache(maxsize=256)(self._compute_shape_inputs)
        self._ragged_inputs = lru_cache(maxsize=64)(self._compute_ragged_inputs)
        try:
            self._grouped_layers = layers_for_device(model, self.layers)
            self.windows = windows_of(model)
            self.shell = Shell(model)
            admit(self)
        except PolarError:
            raise
        except Exception as error:  # whatever a forward may raise that was written by others
            raise ModelError(
                f"{type(model).__name__} cannot be executed layer by layer: {type(error).__name__}: {error}. Its "
                "layers or its forward want something that a list of layers with a cache slot for each position does "
                "not give."
            ) from error

    @property
    def context_length(self) -> int:
        """The most tokens that prompt and answer may have together."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 1 << 30))

    @property
    def vocabulary_size(self) -> int:
        """Token ids go from 0 to this, exclusive."""
        return int(self.model.get_input_embeddings().num_embeddings)

    @property
    def dtype_name(self) -> str:
        """The floating-point type's name, without the library's."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def attention(self) -> str:
        """Transformers' name of the attention implementation."""
        return str(self.model.config.get_text_config()._attn_implementation)

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

    @cached_property
    def flops(self) -> FlopCounts:
        """What layers and read-out cost in floating-point operations."""
        return FlopCounts(self)

    @cached_property
    def allows_gaps(self) -> bool:
        """Whether padding may stand between tokens: where layers know positions from rotary tables alone.

        A sliding window, or a bias by distance, counts columns and would count the padding, too.
        """
        by_rotary = all("position_embeddings" in arguments for arguments in self.shape_inputs(0, 1).arguments)
        return by_rotary and not any(self.windows)

    def new_cache(self, programs: Sequence[Program]) -> ProgramCache:
        """An empty KV cache for a batch, a program for each row.

        Raises:
            ProgramError: if a program does not fit the model.
        """
        return ProgramCache([program.check(self.depth) for program in programs], self.windows)

    @torch.inference_mode()
    def embed(self, ids: Tensor, past: int = 0) -> Tensor:
        """Hidden states before any layer for token ids ``[B, T]`` after ``past`` others; returns ``[B, T, H]``."""
        return self.shell.layer_inputs(ids.to(self.device), self._past(past)).hidden

    def shape_inputs(self, past: int, length: int) -> LayerInputs:
        """Layer inputs for ``length`` tokens after ``past`` others, without padding; they broadcast over rows.

        Rows padded on the right need no mask of their own: causal attention never looks right.
        """
        return self._shape_inputs(past, length)

    def context_inputs(self, pasts: Sequence[int], length: int) -> LayerInputs:
        """Layer inputs for rows of ``length`` tokens, each after its own number of others, aligned at their ends.

        Args:
            pasts: tokens before each row; contexts that are shorter than the longest are padded on the left.
            length: tokens of a row.
        """
        if len(set(pasts)) == 1:
            return self.shape_inputs(pasts[0], length)
        return self._ragged_inputs(tuple(pasts), length)

    @torch.inference_mode()
    def _compute_ragged_inputs(self, pasts: tuple[int, ...], length: int) -> LayerInputs:
        longest, past = max(pasts), torch.tensor(pasts, device=self.device)[:, None]  # [B, 1]
        columns = torch.arange(longest + length, device=self.device)  # [P + T]
        mask = (columns >= longest - past).long()  # [B, P + T]
        positions = past + torch.arange(length, device=self.device)  # [B, T]
        return self.shell.layer_inputs(torch.zeros_like(positions), self._past(longest), mask, positions)

    @torch.inference_mode()
    def _compute_shape_inputs(self, past: int, length: int) -> LayerInputs:
        return self.shell.layer_inputs(torch.zeros(1, length, dtype=torch.long, device=self.device), self._past(past))

    def _past(self, length: int) -> PastLength:
        """A past of which every layer keeps all; a window is then the mask's business alone."""
        return PastLength(length, [None] * self.depth)

    @torch.inference_mode()
    def apply(
        self,
        layer: int,
        hidden: Tensor,
        inputs: LayerInputs,
        slot: Any,
        rows: Tensor | None = None,
        grouped: bool = False,
    ) -> Tensor:
        """Apply one layer at one position of a program.

        Args:
            layer: which layer.
            hidden: ``[B, T, H]``.
            inputs: what the model's forward hands to its layers for this shape.
            slot: the KV cache slots of these rows' positions (`Slot` or `ProgramCache.slot`); extended by these tokens.
            rows: which rows of ``inputs`` these are, ``long [B]``; None for all.
            grouped: read grouped KV heads without a copy for each query head, where the device can: faster behind long
                contexts, and rounded in another order than transformers does.

        Returns:
            Hidden states after the layer, ``[B, T, H]``.
        """
        if rows is None and len(hidden) > len(inputs.hidden) == 1:
            rows = torch.zeros(len(hidden), dtype=torch.long, device=self.device)  # all like the one that there is
        positional, named = inputs.call(layer, slot, rows)
        layers = self._grouped_layers if grouped else self.layers
        output = layers[layer](hidden, *positional, **named)
        result: Tensor = output[0] if isinstance(output, tuple | list) else output
        return result

    @torch.inference_mode()
    def read_out(self, hidden: Tensor) -> Tensor:
        """Final norm and head: hidden states ``[N, H]`` to logits ``[N, V]``."""
        return self.shell.logits(hidden)

    @torch.inference_mode()
    def run(
        self,
        ids: Tensor,
        programs: Program | Sequence[Program],
        cache: ProgramCache | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Execute programs on a batch of token sequences; rows that want the same layer next run it together.

        Args:
            ids: token ids, ``long [B, T]``; with a cache, only the new tokens.
            programs: the layers to execute: one program for all rows, or one for each.
            cache: holds the earlier tokens and is extended; made by `new_cache` for the same programs. None starts
                afresh.
            attention_mask: ``[B, past + T]``, 1 = token, 0 = padding on either side; None = no padding.

        Returns:
            Hidden states after each row's last position, ``[B, T, H]``.

        Raises:
            ProgramError: if a program does not fit the model, or there are not as many programs as rows.
            CacheError: if the cache was made for other programs.
            NonFiniteError: if a layer makes NaN or infinite values of a token; names the position and the layer.
            ModelError: if padding stands between tokens and the model cannot do that; see `allows_gaps`.
        """
        programs = one_each(programs, len(ids))
        cache = self.new_cache(programs) if cache is None else cache
        if list(cache.programs) != programs:
            raise CacheError("the cache was made for other programs; make one with new_cache(programs).")
        ids = ids.to(self.device)
        mask = None if attention_mask is None else attention_mask.to(self.device)
        positions = None
        if mask is not None:
            counted = mask.long().cumsum(-1)  # [B, past + T]
            positions = (counted - 1).clamp(min=0)[:, -ids.shape[1] :]  # [B, T]
            if not self.allows_gaps and ((mask == 0) & (counted > 0) & (counted < counted[:, -1:])).any():
                raise ModelError(
                    f"padding stands between tokens, but {type(self.model).__name__} counts distances by column "
                    "(sliding windows, or positions that are no rotary tables). Pad on the left."
                )
        inputs = self.shell.layer_inputs(ids, cache.past, mask, positions)
        hidden = self._execute(inputs, cache)
        real = hidden if mask is None else hidden[mask[:, -ids.shape[1] :].bool()]
        if not real.isfinite().all():
            self._execute(inputs, cache, mask, find_non_finite=True)
            raise NonFiniteError(f"programs {', '.join(map(str, programs))} make NaN or infinite hidden states.")
        cache.length += ids.shape[1]
        return hidden

    def _execute(
        self, inputs: LayerInputs, cache: ProgramCache, mask: Tensor | None = None, find_non_finite: bool = False
    ) -> Tensor:
        """All positions of all rows; may look after each whether it made NaN or infinite values."""
        hidden = inputs.hidden
        if find_non_finite and not hidden.isfinite().all():
            raise NonFiniteError("the embedded tokens are NaN or infinite before any layer: the weights are damaged.")
        for visit in cache.order:
            if len(visit.rows) == len(hidden):
                part = hidden = self.apply(visit.layer, hidden, inputs, cache.slot(visit))
            else:
                rows = cache.indices.tensor(visit.rows, self.device)
                part = self.apply(visit.layer, hidden[rows], inputs, cache.slot(visit), rows)
                hidden = hidden.index_copy(0, rows, part)
            if find_non_finite:
                self._refuse_non_finite(visit, part, mask)
        return hidden

    def _refuse_non_finite(self, visit: Visit, part: Tensor, mask: Tensor | None) -> None:
        """Raise NonFiniteError for the first row of a visit whose tokens are not finite any more; ``[B, T, H]``."""
        for row, position, states in zip(visit.rows, visit.positions, part, strict=True):
            real = states if mask is None else states[mask[row, -len(states) :].bool()]
            if not real.isfinite().all():
                raise NonFiniteError(
                    f"position {position} (layer {visit.layer}) of row {row} makes NaN or infinite hidden states in "
                    f"{self.dtype_name}. Leave this program out, or run the model in a dtype "
                    "that reaches further (float32 further than float16)."
                )

    def logits(
        self,
        ids: Tensor,
        programs: Program | Sequence[Program],
        attention_mask: Tensor | None = None,
        cache: ProgramCache | None = None,
    ) -> Tensor:
        """Logits at every position, ``[B, T, V]``; see `run` for the arguments and the errors."""
        hidden = self.run(ids, programs, cache, attention_mask)
        logits: Tensor = self.read_out(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])
        return logits

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a text, as the model's generation configuration says."""
        ends = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return frozenset([ends] if isinstance(ends, int) else ends or [])
