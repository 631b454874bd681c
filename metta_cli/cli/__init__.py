"""What a person types: commands, and the only layer that prints."""
