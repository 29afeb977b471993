"""What tests share: tiny models and checkpoints, definitions to compare with, and ways to run things."""
