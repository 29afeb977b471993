"""Engines: what writes answers. Token ids in, token ids out."""
