"""One forward and one backward: what writers wrote, and the gradients of readers."""
