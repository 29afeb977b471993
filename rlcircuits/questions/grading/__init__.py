"""Grade answers: `grade(answer_text, reference_answer) -> bool`.

`graders.py` is the entry: `grader(name)` returns the grader that a question set asks for by name, and `grade_all`
grades every answer of a set with it.

- `exact` (`exact_grader.py`): the same letters.
- `math` (`math_grader.py`): the same mathematics. A text passes through three folders: `notation/` brings it to one way
  of writing, `reading/` finds what it states, `comparing/` compares that with the reference answer.
- `module:function`: the user's own function.

`math` and the user's own graders run in a process with limits of time and memory: `subprocess_grader.py` starts it,
`subprocess_worker.py` is what runs in it.

To add a rule to `math`, change the module in the folder above that does that step. Add one example that must be right
and one that must be wrong to `tests/questions/test_notation.py`, and run `python -m rlcircuits.questions.audit FILE`,
which measures the grader on a whole data set. If any grade changes, raise `MATH_VERSION` in `subprocess_grader.py`: it
is part of the key of cached answers, which hold their grades.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
