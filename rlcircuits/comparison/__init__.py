"""Two checkpoints' answers and scores: paired, compared and judged."""
