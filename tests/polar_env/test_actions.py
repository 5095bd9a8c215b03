from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polar_env.actions import ActionLanguage, Draft, LayersLanguage, SegmentsLanguage, make_language
from polar_env.errors import ConfigError, ForbiddenActionError, ProgramError, UnknownNameError
from polar_env.program import Program, single_edits

languages = st.one_of(
    st.builds(LayersLanguage, st.integers(1, 8), st.integers(1, 12), st.one_of(st.none(), st.integers(0, 3))),
    st.builds(SegmentsLanguage, st.integers(1, 8), st.integers(1, 12)),
)


@given(languages, st.randoms(use_true_random=False))
def test_masks_are_never_empty_and_every_allowed_action_works(language: ActionLanguage, random: object) -> None:
    draft = Draft()
    for _ in range(60):
        mask = language.mask(draft)
        assert mask.any()
        for action in np.flatnonzero(~mask):
            with pytest.raises(ForbiddenActionError):
                language.apply(draft, int(action))
        draft = language.apply(draft, random.choice(np.flatnonzero(mask).tolist()))  # type: ignore[attr-defined]
        assert len(draft.layers) <= language.max_layers
        if draft.finished:
            Program(draft.layers)  # a finished program is never empty
            return


@given(languages, st.randoms(use_true_random=False))
def test_what_is_encoded_can_be_played(language: LayersLanguage | SegmentsLanguage, random: object) -> None:
    edits = [Program.identity(language.depth), *single_edits(Program.identity(language.depth))]
    program = random.choice([*edits, *single_edits(random.choice(edits))])  # type: ignore[attr-defined]
    draft = Draft()
    try:
        actions = language.encode(program)
    except ProgramError:
        return
    for action in actions:
        draft = language.apply(draft, action)
    assert draft.finished
    assert draft.layers == program.layers


@pytest.mark.parametrize("name", ["layers", "segments"])
def test_encoding_a_program_spells_it(name: str) -> None:
    language = make_language(name, depth=6)
    for program in [Program.identity(6), *single_edits(Program.identity(6), max_block=3)]:
        draft = Draft()
        for action in language.encode(program):
            assert not draft.finished
            draft = language.apply(draft, action)
        assert draft.finished
        assert draft.layers == program.layers


def test_repeat_repeats_the_run_since_the_last_jump() -> None:
    language = LayersLanguage(8)
    draft = Draft()
    for action in (0, 1, 5, 6):
        draft = language.apply(draft, action)
    draft = language.apply(draft, language.repeat)
    assert draft.layers == (0, 1, 5, 6, 5, 6)
    draft = language.apply(draft, language.repeat)
    assert draft.layers == (0, 1, 5, 6, 5, 6, 5, 6)
    draft = language.apply(language.apply(draft, 7), language.repeat)
    assert draft.layers == (0, 1, 5, 6, 5, 6, 5, 6, 7, 7)


def test_repeat_takes_at_most_four_layers() -> None:
    language = LayersLanguage(8)
    draft = Draft()
    for action in (*range(6), language.repeat):
        draft = language.apply(draft, action)
    assert draft.layers == (0, 1, 2, 3, 4, 5, 2, 3, 4, 5)


def test_step_cap_leaves_only_the_stop() -> None:
    language = LayersLanguage(4, max_layers=2)
    draft = language.apply(language.apply(Draft(), 0), 1)
    assert np.flatnonzero(language.mask(draft)).tolist() == [language.stop]


def test_window_bounds_jumps() -> None:
    mask = LayersLanguage(10, window=2).mask(Draft((0, 1, 2, 3), cursor=4, module=(0, 1, 2, 3)))
    assert np.flatnonzero(mask).tolist() == [2, 3, 4, 5, 6, 10, 11]


def test_segments_refuses_what_it_cannot_spell() -> None:
    language = SegmentsLanguage(6)
    with pytest.raises(ProgramError, match="moves right only"):
        language.encode(Program((3, 0)))
    with pytest.raises(ProgramError, match="repeats 1 to 4 layers once"):
        language.encode(Program.parse("0x3 1-5"))


def test_unknown_language_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'segments'"):
        make_language("segment", 4)
    with pytest.raises(ConfigError, match="max_layers is 0"):
        make_language("layers", 4, max_layers=0)
