"""Composition roots: the only place that builds things from a configuration."""
