"""Edge attribution: sequences in, one score for every edge of every sequence out."""
