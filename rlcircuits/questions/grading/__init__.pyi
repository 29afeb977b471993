from .exact_grader import grade_exact
from .graders import grade_all, grade_answer, grader
from .math_grader import grade_math
from .subprocess_grader import Grade

__all__ = ["Grade", "grade_all", "grade_answer", "grade_exact", "grade_math", "grader"]
