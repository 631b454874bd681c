"""Policy architectures."""
