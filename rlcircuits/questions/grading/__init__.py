"""Graders: whether an answer is right, and how well that is known."""
