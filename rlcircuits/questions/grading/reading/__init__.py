"""Read a text: find the piece that states the answer, and the values that the piece states.

`extract_answer.py` finds the piece: a box, what follows "answer is", a last sentence. `statement.stated_values` reads
that piece in four steps:

1. `tokens.py` cuts the sentence into values, words, operators and marks; `formulas.py` finds its formulas.
2. `values.py` joins tokens into one value: `2 2/3 cups`, `minus $5`, `9 * 2 = 18 eggs`.
3. `value_groups.py` joins values that are named together: `5 or 6`, `2 hours and 15 minutes`. `hedges.py` marks groups
   that the sentence denies or only bounds: `not 5`, `more than 5`.
4. `statement.py` selects the group that is the answer. `asides.py` recognizes what a sentence mentions besides it.

`reference_answer.py` takes the reference answer out of a data set's field: `#### 42` or a box.
"""
