"""What a Hugging Face model is made of: its files, its parts, its norms, its hooks."""
