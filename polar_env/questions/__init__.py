"""Questions: what is asked, what the answer is, how it is asked, and when an answer is right."""

from polar_env.questions.ask import Ask
from polar_env.questions.prompts import (
    Example,
    Prompt,
    Prompts,
    make_prompt,
    make_prompts,
    read_prompts,
    without_examples,
    write_prompts,
)
from polar_env.questions.question import Question, mixed_order
from polar_env.questions.sources import QuestionPool, load_pool, load_questions
from polar_env.questions.spec import SOURCES, QuestionSpec, Records, builtin_mixtures, parse_spec
from polar_env.questions.twins import (
    SPLITS,
    Split,
    have_twins,
    near_hash,
    near_twins,
    normalise,
    split_of,
    twin_clusters,
    twin_hash,
    twin_key,
)
from polar_env.questions.verifiers import VERIFIERS, is_right, is_right_in_any_form

__all__ = [
    "SOURCES",
    "SPLITS",
    "VERIFIERS",
    "Ask",
    "Example",
    "Prompt",
    "Prompts",
    "Question",
    "QuestionPool",
    "QuestionSpec",
    "Records",
    "Split",
    "builtin_mixtures",
    "have_twins",
    "is_right",
    "is_right_in_any_form",
    "load_pool",
    "load_questions",
    "make_prompt",
    "make_prompts",
    "mixed_order",
    "near_hash",
    "near_twins",
    "normalise",
    "parse_spec",
    "read_prompts",
    "split_of",
    "twin_clusters",
    "twin_hash",
    "twin_key",
    "without_examples",
    "write_prompts",
]
