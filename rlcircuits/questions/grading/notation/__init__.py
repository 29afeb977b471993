r"""Bring mathematics, as people and models write it, to one way of writing it.

`latex.tidy` is the entry. It calls `unicode_characters.py` (`2¾`, `x ≤ √2`), `environments.py` (`\begin{cases}`) and
`numerals.py` (`1,234`, `3e5`), in this order.

The other parts of grading use three more functions of this folder: `numerals.number` returns the value of a number,
`units.conversion_factor` converts units of measure, and `brackets.split_at` splits a formula outside of its brackets.
"""
