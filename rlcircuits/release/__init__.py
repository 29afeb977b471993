"""A release: which pairs to measure, how, and the run that measures them."""
