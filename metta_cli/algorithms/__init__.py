"""Formulas as pure functions of tensors: no configuration objects, no devices of their own, no logging."""
