from .grading.graders import grade_all
from .grading.subprocess_grader import Grade
from .loading import load_questions
from .question_set import Question, QuestionSet
from .source import QuestionSource, names

__all__ = ["Grade", "Question", "QuestionSet", "QuestionSource", "grade_all", "load_questions", "names"]
