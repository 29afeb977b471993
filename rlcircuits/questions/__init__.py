"""Load question sets, and grade the answers to them.

`load_questions` (`loading.py`) is the entry. It takes a set's name or a `QuestionSource`:

- `source.py`: where a set is (file or hub dataset), which fields its records have, and which grader it uses. The table
  `PUBLISHED` lists the published sets that are known by name. To add one, add a line there.
- `records.py`: reads and checks the records of a file or hub dataset.
- `arithmetic.py`, `equations.py`: the built-in sets, whose questions are generated. To add one, write such a module and
  name it in `BUILT_IN` of `source.py` and in `loading.py`.
- `question_set.py`: the result, a `QuestionSet` of `Question`s with their grader.
- `grading/`: the graders; its docstring says how to add a rule.
- `audit/`: measures the `math` grader on a data set.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
