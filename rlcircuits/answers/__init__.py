"""What checkpoints answer: prompts, engines, the cache of answers, recorded answers."""
