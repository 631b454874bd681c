"""The training loop and its parts; they receive finished objects."""
