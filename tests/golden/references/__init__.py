"""Slow references, written from the papers with plain loops and floats; they never see the shipped code."""
