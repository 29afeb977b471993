"""The contraction of writer outputs with reader gradients: the core's one reduction, in three backends."""
