from .answer_file import Answers
from .generate import answer_questions
from .prompting import Prompting
from .recorded import recorded_answers
from .types import Answer, Sampling

__all__ = ["Answer", "Answers", "Prompting", "Sampling", "answer_questions", "recorded_answers"]
