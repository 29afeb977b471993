"""What is shown of comparisons: a terminal table, a plot, and JSON."""
