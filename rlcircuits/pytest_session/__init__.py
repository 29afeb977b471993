"""One pytest session: its options, its pairs, what pytest-xdist's workers share, and what it reports."""
