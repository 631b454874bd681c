"""Loading weights by exact name and shape, with a table of everything that does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from metta_cli.errors import CheckpointError

MAX_ROWS = 12
CAUSES = (
    (r"(^|\.)network\.0\.weight", 1, "another number of observation channels", "feature_names"),
    (r"(^|\.)conv_stem\.0\.weight", 1, "another number of observation channels", "feature_names"),
    (r"(^|\.)(network\.[02]|conv_stem\.[02]|conv\d?)\.", 0, "other CNN channels", "cnn_channels"),
    (r"(^|\.)proj\.weight", 2, "other patches", "patch_size"),
    (r"(^|\.)layers\.\d+\.linear1\.", 0, "another width within the blocks", "mlp_ratio"),
    (r"(^|\.)self_encoder\.0\.weight|max_vec$", 1, "another number of observation channels", "feature_names"),
    (r"(^|\.)(actor\.\d|decoder|actor)\.", 0, "other actions", "action_names or verbs"),
    (r"(^|\.)(lstm|cell)\.weight_ih", 1, "another input of the LSTM", "input_size"),
    (r"", None, "another hidden size", "hidden_size"),
)
"""Pattern of names, the dimension that differs (None: any), the likely cause, the key to change."""


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load every tensor of a file into the tensor of the same name and shape.

    A prefix that all its names have, such as `policy.`, may be missing in the file: the reader takes it off.
    Weights that the module ties together, as PufferLib's `lstm` and `cell`, may be in the file once or more
    than once, but then with one content.

    Args:
        module: changed in place.
        tensors: name -> tensor.

    Raises:
        CheckpointError: if anything is missing, left over, or of another shape; nothing is loaded then.
    """
    expected: dict[str, Tensor] = module.state_dict()
    twins = _twins(expected)
    tensors = _under_one_module(tensors, expected)
    complete = dict(tensors)
    for name in expected:
        present = [twin for twin in twins[name] if twin in tensors]
        if name not in complete and present:
            complete[name] = tensors[present[0]]
    rows = _mismatches(expected, complete, twins)
    if rows:
        raise CheckpointError(
            "the weights do not fit the architecture:\n" + _table(rows),
            "change the keys of the last column in `pytorch` or in its parts, or name another `_target_`",
        )
    module.load_state_dict(complete, strict=True)


def _under_one_module(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors, with the prefix that every expected name has if that is what they lack."""
    parts = [name.split(".") for name in expected]
    depth = 0
    while all(len(part) > depth + 1 and part[: depth + 1] == parts[0][: depth + 1] for part in parts):
        depth += 1
        prefix = ".".join(parts[0][:depth]) + "."
        if any(prefix + name in expected for name in tensors):
            return {prefix + name: tensor for name, tensor in tensors.items()}
    return dict(tensors)


def _twins(expected: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return name -> names of the same storage, the name itself among them."""
    by_place: dict[tuple[int, torch.Size], list[str]] = {}
    for name, tensor in expected.items():
        by_place.setdefault((tensor.data_ptr() or id(tensor), tensor.shape), []).append(name)
    return {name: names for names in by_place.values() for name in names}


def _mismatches(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], twins: Mapping[str, list[str]]
) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for name, tensor in expected.items():
        shape = str(list(tensor.shape))
        if name not in tensors:
            rows.append((name, "-", shape, *_cause_of_absence(name)))
        elif tensors[name].shape != tensor.shape:
            cause = _cause(name, tensors[name].shape, tensor.shape)
            rows.append((name, str(list(tensors[name].shape)), shape, *cause))
        elif twins[name][0] != name and not torch.equal(tensors[name], tensors[twins[name][0]]):
            rows.append(
                (name, "other numbers", f"those of {twins[name][0]}", "weights that are not tied", "_target_")
            )
    for name in tensors:
        if name not in expected:
            rows.append((name, str(list(tensors[name].shape)), "-", *_cause_of_absence(name)))
    return rows


def _cause(name: str, found: torch.Size, expected: torch.Size) -> tuple[str, str]:
    if len(found) == len(expected):
        for pattern, dimension, cause, key in CAUSES:
            is_there = dimension is None or (
                dimension < len(found) and found[dimension] != expected[dimension]
            )
            if is_there and re.search(pattern, name):
                return cause, key
    return "another architecture", "_target_"


def _cause_of_absence(name: str) -> tuple[str, str]:
    if re.search(r"_l[1-9]\d*$", name):
        return "another number of LSTM layers", "num_layers"
    if re.search(r"\.layers\.\d+\.", name):
        return "another number of transformer blocks", "depth"
    return "another architecture", "_target_"


def _table(rows: list[tuple[str, str, str, str, str]]) -> str:
    header = ("tensor", "in the file", "expected", "likely cause", "key to change")
    shown = [header, *rows[:MAX_ROWS]]
    widths = [max(len(row[column]) for row in shown) for column in range(len(header))]
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]
    if len(rows) > MAX_ROWS:
        lines.append(f"  ... and {len(rows) - MAX_ROWS} more")
    return "\n".join(lines)
