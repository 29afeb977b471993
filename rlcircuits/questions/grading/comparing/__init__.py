"""Compare what an answer states with what the reference answer states.

`statements.py` (values, lists and their units) → `formulas.py` (the readings that a notation allows) → `real_sets.py`
(intervals, inequalities) or `symbolic.py` (SymPy and math-verify) for what is no plain number.
"""
