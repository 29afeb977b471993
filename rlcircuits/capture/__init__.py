"""One forward and one backward that record writers' outputs and readers' gradients."""
