"""Stored things: URIs, loaders, checkpoints."""
