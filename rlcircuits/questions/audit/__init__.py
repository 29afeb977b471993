"""Measure how often the `math` grader is right, on the reference answers of a data set.

    python -m rlcircuits.questions.audit FILE...

`disguises.py` and `notations.py` write each reference answer in many ways that are right and in many that are wrong,
`grader_audit.py` grades all of them and counts, and `__main__.py` prints the rates and every wrong grade.
"""
