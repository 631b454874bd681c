"""MettaGrid: builders, guard, the vectorized environment, scripted baselines."""

from __future__ import annotations

import logging


def _import_mettagrid() -> None:
    """Import mettagrid without what it does to logging.

    It gives the root logger a handler and lowers its level to INFO, also over the level that a program chose.
    """
    level, handlers = logging.root.level, list(logging.root.handlers)
    import mettagrid  # noqa: F401

    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers


_import_mettagrid()
