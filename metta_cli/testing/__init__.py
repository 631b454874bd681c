"""Contracts that a plugin author inherits from to test a plugin."""
