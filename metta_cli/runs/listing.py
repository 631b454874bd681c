"""`metta list-runs`: the runs of every place as one list, each run once."""

from __future__ import annotations

import fnmatch
import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metta_cli.errors import AccessError, MettaError, UnknownNameError, UsageError
from metta_cli.runs.listing_sources import (
    LOCAL,
    OFFLINE,
    S3_SOURCE,
    WANDB,
    ListedRun,
    local_runs,
    s3_runs,
    wandb_runs,
    why_no_wandb,
)

ALL = "all"
SOURCES = (ALL, LOCAL, WANDB, S3_SOURCE)
SORT_KEYS = ("created", "score", "agent_steps", "name", "state")
FILTER_KEYS = (
    "name",
    "score",
    "created",
    "state",
    "source",
    "agent_steps",
    "environment",
    "tag",
    "sweep",
    "uri",
)
DEADLINE_SECONDS = 8.0
"""For W&B and for S3, which are asked at the same time."""
MAX_WANDB_RUNS = 500
"""How many runs of W&B are looked at where they are to be sorted or filtered here."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_FILTER = re.compile(r"(?P<key>\w+)\s*(?P<operator>!=|>=|<=|=|>|<)\s*(?P<value>.*)", re.DOTALL)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """Which runs to list.

    Attributes:
        data_dir: of the local runs.
        source: `all`, or one place.
        entity: on W&B; None is the one of its settings, or the default of the account.
        project: on W&B; None is the one of its settings.
        buckets: `s3://BUCKET/FOLDER`, as `metta push` writes to.
        state: only runs in this state.
        filters: `KEY=PATTERN`, `KEY!=PATTERN`, `KEY>VALUE`, `KEY>=VALUE`, `KEY<VALUE`, `KEY<=VALUE`.
        sort: one of `SORT_KEYS`, with `-` before it from the other end.
        limit: how many to return; 0 is all.
    """

    data_dir: Path
    source: str = ALL
    entity: str | None = None
    project: str | None = None
    buckets: Sequence[str] = ()
    state: str | None = None
    filters: Sequence[str] = ()
    sort: str = "created"
    limit: int = 20


@dataclass(frozen=True)
class RunList:
    """What was found.

    Attributes:
        runs: at most as many as were asked for.
        num_found: how many there are.
        remarks: what is missing and why, a line each.
    """

    runs: list[ListedRun]
    num_found: int
    remarks: list[str]


def list_runs(query: Query, ask_project: Callable[[], str]) -> RunList:
    """Return runs, the newest first unless asked otherwise.

    With the source `all`, a place that cannot be asked is left out with a remark; a place that was named is
    an error then.

    Args:
        query: which runs.
        ask_project: gives the project where W&B's settings name none.

    Raises:
        UsageError: a filter or a sort key makes no sense, or a bucket is missing.
        MettaError: the one place that was asked for cannot be.
    """
    order, conditions = _order(query.sort), [_condition(text) for text in query.filters]
    if query.source == S3_SOURCE and not query.buckets:
        raise UsageError(
            "there is no bucket to look into", "give --bucket s3://BUCKET/FOLDER, or METTA_BUCKET"
        )
    remarks: list[str] = []
    found: list[ListedRun] = []
    if query.source in (ALL, LOCAL):
        found += local_runs(query.data_dir)
    for runs, lines in _remote(query, ask_project):
        found += runs
        remarks += lines
    merged = merge(found)
    wanted = [
        run
        for run in merged
        if query.state in (None, run.state) and all(condition(run) for condition in conditions)
    ]
    order(wanted)
    return RunList(wanted[: query.limit or None], len(wanted), remarks)


def merge(runs: Sequence[ListedRun]) -> list[ListedRun]:
    """Return every run once, with all its places; what an earlier place says wins."""
    merged: dict[str, ListedRun] = {}
    for run in runs:
        known = merged.setdefault(run.name, run)
        if known is run:
            continue
        if any(known.uris.get(place) is not None for place in run.uris):  # two runs of one name in one place
            merged[f"{run.name} {run.uri}"] = run
            continue
        for place, uri in run.uris.items():
            known.uris[place] = uri
        times = [time for time in (known.created_at, run.created_at) if time is not None]
        known.created_at = min(times, default=None)
        for name in ("state", "score", "agent_steps", "environment", "sweep"):
            if getattr(known, name) is None:
                setattr(known, name, getattr(run, name))
        known.tags = known.tags or run.tags
    return list(merged.values())


def _remote(query: Query, ask_project: Callable[[], str]) -> list[tuple[list[ListedRun], list[str]]]:
    """Ask W&B and S3 at the same time; in the order W&B, S3."""
    questions: list[tuple[str, Callable[[], tuple[list[ListedRun], list[str]]]]] = []
    answers: list[tuple[list[ListedRun], list[str]]] = []
    if query.source in (ALL, WANDB):
        reason = why_no_wandb()
        if reason is None:
            questions.append(("W&B", lambda: (_ask_wandb(query, ask_project), [])))
        elif query.source == WANDB:
            raise AccessError(f"W&B cannot be asked: {reason}", "or list local runs: --source local")
        else:
            answers.append(([], [f"without W&B: {reason}"]))
    if query.buckets and query.source in (ALL, S3_SOURCE):
        questions.append(("S3", lambda: s3_runs(query.buckets, deadline_seconds=DEADLINE_SECONDS)))
    for (name, _), answer in zip(questions, _at_once([ask for _, ask in questions]), strict=True):
        if not isinstance(answer, BaseException):
            answers.append(answer)
        elif query.source == ALL and isinstance(answer, MettaError) and not isinstance(answer, UsageError):
            answers.append(([], [f"without {name}: {answer}"]))
        else:
            raise answer
    return answers


def _at_once(questions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call functions in threads, and return what each returned or raised."""
    answers: list[Any] = [None] * len(questions)

    def ask(index: int) -> None:
        try:
            answers[index] = questions[index]()
        except BaseException as error:  # an exception in a thread has nobody else to catch it
            answers[index] = error

    if len(questions) == 1:
        ask(0)  # so that Ctrl-C stops it, and a question can be asked on the terminal
        return answers
    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _ask_wandb(query: Query, ask_project: Callable[[], str]) -> list[ListedRun]:
    is_plain = not query.filters and query.sort == "created" and query.limit
    limit = query.limit + 1 if is_plain else MAX_WANDB_RUNS
    options: dict[str, Any] = {"limit": limit, "state": query.state, "deadline_seconds": DEADLINE_SECONDS}
    try:
        return wandb_runs(query.entity, query.project, **options)
    except UsageError as error:
        if query.project is not None or "no project is given" not in error.message:
            raise
        return wandb_runs(query.entity, ask_project(), **options)


def _order(sort: str) -> Callable[[list[ListedRun]], None]:
    """Return what puts runs in order: newest, best, longest trained first; names and states from A to Z."""
    key, is_reversed = sort.removeprefix("-"), sort.startswith("-")
    if key not in SORT_KEYS:
        raise UnknownNameError("sort key", key, SORT_KEYS)

    def put_in_order(runs: list[ListedRun]) -> None:
        runs.sort(key=lambda run: run.name)
        if key in ("name", "state"):
            runs.sort(key=lambda run: str(getattr(run, key) or ""), reverse=is_reversed)
        elif key == "created":
            runs.sort(key=lambda run: run.created_at or _LONG_AGO, reverse=not is_reversed)
        else:
            sign = 1 if is_reversed else -1
            runs.sort(key=lambda run: sign * (getattr(run, key) or 0.0))
            runs.sort(key=lambda run: getattr(run, key) is None)  # what has none comes last, both ways

    return put_in_order


def _condition(text: str) -> Callable[[ListedRun], bool]:
    """Return what tells whether a run fits a filter."""
    match = _FILTER.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no filter", "give KEY=PATTERN or KEY>VALUE, such as 'score>0.5'")
    key, operator, value = match["key"], match["operator"], match["value"].strip()
    if key not in FILTER_KEYS:
        raise UnknownNameError("filter key", key, FILTER_KEYS)
    if operator in ("=", "!="):
        wanted = operator == "="
        return lambda run: any(fnmatch.fnmatchcase(each, value) for each in _texts(run, key)) == wanted
    if key in ("score", "agent_steps"):
        try:
            limit = float(value)
        except ValueError:
            raise UsageError(
                f"{text!r}: {value!r} is no number", "give a number, such as 'score>0.5'"
            ) from None
        return lambda run: getattr(run, key) is not None and _compare(getattr(run, key), operator, limit)
    return lambda run: any(_compare(each, operator, value) for each in _texts(run, key))


def _texts(run: ListedRun, key: str) -> list[str]:
    """Return what a pattern is compared with."""
    if key == "source":
        return list(run.uris)
    if key == "tag":
        return run.tags
    if key == "created":
        return [] if run.created_at is None else [run.created_at.astimezone(UTC).isoformat()]
    value = run.uri if key == "uri" else getattr(run, key)
    return [] if value is None else [f"{value:g}" if isinstance(value, float) else str(value)]


def _compare(left: Any, operator: str, right: Any) -> bool:
    if operator.startswith(">"):
        return bool(left > right or (operator == ">=" and left == right))
    return bool(left < right or (operator == "<=" and left == right))


__all__ = ["ALL", "OFFLINE", "SORT_KEYS", "SOURCES", "ListedRun", "Query", "RunList", "list_runs", "merge"]
