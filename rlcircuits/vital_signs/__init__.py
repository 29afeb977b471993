"""Vital signs: what ten studies of post-training measure, on one pair of checkpoints, one file a sign."""
