"""One session of the pytest plugin: its options, its pairs, what it reports."""
