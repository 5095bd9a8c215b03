"""Which of the rows that wait for a layer run as one batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from polar_env.runner.encoding import Text
from polar_env.runner.prefixes import Prefix
from polar_env.runner.profile import DeviceProfile

__all__ = ["Target", "batches"]

Target = tuple[Text, Prefix]
_UNEVEN = 1.5
"""Contexts of one batch are padded to the longest, at most to so many times their tokens."""


def batches(targets: Sequence[Target], profile: DeviceProfile) -> Iterator[list[Target]]:
    """Cut rows into batches.

    Rows that hold tokens of an answer have batches of their own, so that those of asks depend on no answer.

    Rows behind contexts of the same lengths read them without a copy, so they form batches of their own. Where there
    are too few of them to fill one, rows behind contexts of different lengths join: questions of many tasks, each with
    a prompt of its own, and answers behind asks of any length.
    """
    judged = [target for target in targets if target[0].role in ("answer", "whole")]
    yield from _batches([target for target in targets if target[0].role in ("prompt", "ask")], profile)
    yield from _batches(judged, profile)


def _batches(targets: Sequence[Target], profile: DeviceProfile) -> Iterator[list[Target]]:
    by_layout: dict[tuple[int, ...], list[Target]] = defaultdict(list)
    for target in targets:
        by_layout[target[0].layout].append(target)
    few: list[Target] = []
    for alike in by_layout.values():
        if len(by_layout) > 1 and sum(text.rows.numel() for text, _ in alike) < profile.merge_below:
            few += alike
        else:
            yield from _cut(alike, profile)
    yield from _cut(few, profile)


def _cut(targets: Sequence[Target], profile: DeviceProfile) -> Iterator[list[Target]]:
    """Rows of like length, at most `DeviceProfile.batch_tokens` tokens together, in batches with little padding."""
    batch: list[Target] = []
    rows = tokens = past = longest = 0
    for target in sorted(targets, key=lambda each: (each[0].length, each[0].past, each[0].layout)):
        text = target[0]
        rows, tokens = rows + len(text.rows), tokens + text.rows.numel()
        past += text.past * len(text.rows)
        padded = rows * text.length  # this one is the longest so far
        wasteful = padded > max(profile.small_tokens, (1 + profile.padding) * tokens)
        uneven = rows * max(longest, text.past) > _UNEVEN * past
        if batch and (padded > profile.batch_tokens or wasteful or uneven):
            yield batch
            batch, rows, tokens, past = [], len(text.rows), text.rows.numel(), text.past * len(text.rows)
            longest = 0
        batch.append(target)
        longest = max(longest, text.past)
    if batch:
        yield batch
