"""Measure the pairs of a release: which pairs, with which settings, and the run itself."""
