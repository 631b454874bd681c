"""MettaGrid: builders, guard, the vectorized environment, scripted baselines."""
