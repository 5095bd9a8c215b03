"""Qwen2-MoE and its heirs: which layers are sparse follows from a layer's index, not from a list."""

from __future__ import annotations

from typing import Any

from polar_env.program import Program


def restack(before: Any, after: Any, program: Program) -> None:
    """Name the dense positions one by one.

    In the original a layer is sparse unless ``mlp_only_layers`` names it or ``decoder_sparse_step`` passes it over
    (``Qwen2MoeDecoderLayer.__init__``).
    """

    def is_dense(layer: int) -> bool:
        return layer in before.mlp_only_layers or (layer + 1) % before.decoder_sparse_step != 0

    after.mlp_only_layers = [i for i, layer in enumerate(program.layers) if is_dense(layer)]
    after.decoder_sparse_step = 1
