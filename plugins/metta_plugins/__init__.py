"""The built-in plugins; they enter through the same door as a stranger's."""
