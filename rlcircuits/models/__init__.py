"""Hugging Face models: their files, how they load, and the modules that attribution needs."""
