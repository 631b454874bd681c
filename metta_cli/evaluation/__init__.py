"""Playing episodes and summing them up."""
