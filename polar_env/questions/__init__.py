"""Questions: where they come from, how they are asked, and when an answer is right."""

from polar_env.questions.prompts import Example, Prompt, make_prompt, read_prompt, write_prompt
from polar_env.questions.question import SPLITS, Question, Split, mixed_order, normalise, split_of
from polar_env.questions.sources import QuestionSpec, builtin_mixtures, load_questions, parse_spec
from polar_env.questions.verifiers import VERIFIERS, is_right

__all__ = [
    "SPLITS",
    "VERIFIERS",
    "Example",
    "Prompt",
    "Question",
    "QuestionSpec",
    "Split",
    "builtin_mixtures",
    "is_right",
    "load_questions",
    "make_prompt",
    "mixed_order",
    "normalise",
    "parse_spec",
    "read_prompt",
    "split_of",
    "write_prompt",
]
