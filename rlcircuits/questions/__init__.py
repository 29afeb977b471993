"""Question sets: what is asked, in which split, and how an answer is graded.

A set is found with `load_questions`, by its name or by a `QuestionSource`; `names` lists what there is. One module
makes each built-in set, `source.py` lists the published ones, and a JSON lines file can be one too. `grade_all` grades
answers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
