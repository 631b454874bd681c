"""Formulas: pure functions of tensors."""
