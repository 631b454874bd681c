"""How a run is doing, on stderr: a live display on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from metta_cli.cli.output import note
from metta_cli.cli.train import duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from metta_cli.evaluation.suite import SuiteProgress
    from metta_cli.runs.session import Progress

Clock = Callable[[], float]

LINE_INTERVAL_SECONDS = 10.0
RECENT_EPOCHS = 20
REDRAW_INTERVAL_SECONDS = 0.1
NARROW_COLUMNS = 66
WIDEST_COLUMNS = 90
LABEL_COLUMNS = 12
ECHO_COLUMNS = 4
SPARKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
SHARES = {
    "environment": "time/environment_seconds",
    "policy": "time/forward_seconds",
    "update": "time/update_seconds",
}


def create_progress(form: str) -> Progress:
    """Return the display of a training run.

    Args:
        form: `rich`, `plain`, `none`, or `auto`: rich if stderr is a terminal, else plain.
    """
    form = _form(form)
    if form == "rich":
        return RichProgress()
    return PlainProgress() if form == "plain" else NoProgress()


def create_suite_progress(form: str) -> SuiteProgress | None:
    """Return the display of an evaluation; see `create_progress`."""
    form = _form(form)
    if form == "rich":
        return show_episodes_live
    return PlainSuiteProgress() if form == "plain" else None


def _form(form: str) -> str:
    if form != "auto":
        return form
    return "rich" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "plain"


class RunView:
    """What is known of a run, as the texts that a person reads.

    Args:
        total_agent_steps: where training ends.
        run: name of the run.
        clock: seconds, from any origin.
    """

    def __init__(self, total_agent_steps: int, run: str, clock: Clock) -> None:
        self.total_agent_steps, self.run, self.clock = total_agent_steps, run, clock
        self.started = clock()
        self.metrics: Mapping[str, float] = {}
        self.scores: list[float] = []
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT_EPOCHS)

    def update(self, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of an epoch."""
        self.metrics = metrics
        self._recent.append((self.clock(), metrics["agent_steps"]))
        score = self._score()
        if score is not None:
            self.scores.append(score)

    @property
    def agent_steps(self) -> float:
        """Agent steps so far, over all sessions of the run."""
        return self.metrics.get("agent_steps", 0)

    @property
    def share_done(self) -> float:
        """Between 0 and 1."""
        return min(1.0, self.agent_steps / max(1, self.total_agent_steps))

    @property
    def steps_per_second(self) -> float | None:
        """Agent steps per second of wall time, saving and evaluating included, over the last epochs."""
        if len(self._recent) < 2:
            return self.metrics.get("steps_per_second")
        (first_time, first_steps), (last_time, last_steps) = self._recent[0], self._recent[-1]
        return (last_steps - first_steps) / max(last_time - first_time, 1e-9)

    @property
    def time_left(self) -> str | None:
        """How long it will take at this speed."""
        speed = self.steps_per_second
        if not speed:
            return None
        return duration(max(0.0, self.total_agent_steps - self.agent_steps) / speed)

    def time_shares(self) -> dict[str, int]:
        """Return where the time of the last epoch went, in percent."""
        total = self.metrics.get("time/rollout_seconds", 0.0) + self.metrics.get("time/update_seconds", 0.0)
        if total <= 0:
            return {}
        shares = {name: round(100 * self.metrics.get(key, 0.0) / total) for name, key in SHARES.items()}
        return shares | {"other": max(0, 100 - sum(shares.values()))}

    def numbers(self) -> dict[str, str]:
        """Return label -> text of what was measured; what is not known yet is left out."""
        found = {
            "score": _text(self._score(), ".3f"),
            "policy loss": _text(self.metrics.get("losses/policy_loss"), ".4f"),
            "value loss": _text(self.metrics.get("losses/value_loss"), ".4f"),
            "entropy": _text(self.metrics.get("losses/entropy"), ".3f"),
            "KL": _text(self.metrics.get("losses/approx_kl"), ".4f"),
        }
        return {label: text for label, text in found.items() if text is not None}

    def counts(self) -> dict[str, str]:
        """Return label -> text of how far the run is; what is not known yet is left out."""
        found = {
            "agent steps": f"{self.agent_steps:,.0f} / {self.total_agent_steps:,}",
            "steps/s": _text(self.steps_per_second, ",.0f"),
            "time left": self.time_left,
            "epoch": _text(self.metrics.get("epoch"), ",.0f"),
            "episodes": _text(self.metrics.get("episode/count"), ",.0f"),
            "cost": _text(self.metrics.get("cost/total"), ",.2f"),
        }
        return {label: text for label, text in found.items() if text is not None}

    def _score(self) -> float | None:
        return self.metrics.get("episode/recent_return_mean", self.metrics.get("episode/return_mean"))


def _text(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)


class NoProgress:
    """Shows nothing."""

    def start(self, total_agent_steps: int, run: str) -> None:
        """Begin to show the run."""

    def update(self, metrics: Mapping[str, float]) -> None:
        """Show the metrics of an epoch."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainProgress:
    """Prints a line for the first epoch, then one every ten seconds, and one for the last epoch.

    Args:
        clock: seconds, from any origin.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._view: RunView | None = None
        self._printed_at: float | None = None
        self._is_printed = True

    def start(self, total_agent_steps: int, run: str) -> None:
        """Begin to show the run."""
        self._view = RunView(total_agent_steps, run, self._clock)

    def update(self, metrics: Mapping[str, float]) -> None:
        """Show the metrics of an epoch, if it is time for a line."""
        if self._view is None:
            raise RuntimeError("start() comes first")
        self._view.update(metrics)
        self._is_printed = False
        if self._printed_at is None or self._clock() - self._printed_at >= LINE_INTERVAL_SECONDS:
            self._print(self._view)

    def close(self) -> None:
        """Show the last epoch."""
        if self._view is not None and not self._is_printed:
            self._print(self._view)

    def _print(self, view: RunView) -> None:
        self._printed_at, self._is_printed = self._clock(), True
        counts = view.counts()
        parts = [f"{counts['agent steps']} agent steps ({view.share_done:.0%})"]
        parts += [f"{counts['steps/s']} steps/s"] if "steps/s" in counts else []
        parts += [f"{counts['time left']} left"] if "time left" in counts else []
        parts += [f"{label} {text}" for label, text in view.numbers().items()]
        note(f"{view.run}: " + ", ".join(parts))


class RichProgress:
    """Keeps a panel with the state of the run at the bottom of the terminal; messages scroll above it.

    It is redrawn with every epoch and by no thread: one would draw into messages now and then, and would
    make forking unsafe.

    Args:
        console: where to; by default stderr.
        clock: seconds, from any origin.
    """

    def __init__(self, console: Console | None = None, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._view: RunView | None = None
        self._live: Live | None = None
        self._drawn_at = -REDRAW_INTERVAL_SECONDS

    def start(self, total_agent_steps: int, run: str) -> None:
        """Begin to show the run."""
        from rich.console import Console
        from rich.live import Live

        view = self._view = RunView(total_agent_steps, run, self._clock)
        console = self._console or Console(stderr=True)
        self._live = Live(
            console=console,
            get_renderable=lambda: panel(view, console.width, is_ascii=console.options.ascii_only),
            auto_refresh=False,
            redirect_stdout=False,  # stdout is data
        )
        self._live.start(refresh=True)

    def update(self, metrics: Mapping[str, float]) -> None:
        """Show the metrics of an epoch, if the last redraw is not too recent to be seen."""
        if self._view is None or self._live is None:
            raise RuntimeError("start() comes first")
        self._view.update(metrics)
        if self._clock() - self._drawn_at >= REDRAW_INTERVAL_SECONDS:
            self._drawn_at = self._clock()
            self._live.refresh()

    def close(self) -> None:
        """Draw the last state, which stays on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def panel(view: RunView, num_columns: int, *, is_ascii: bool = False) -> RenderableType:
    """Return the state of a run as a Rich panel.

    Args:
        view: what to show.
        num_columns: width of the terminal.
        is_ascii: leave out what a terminal without Unicode could not show.
    """
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    # The terminal echoes `^C` behind the panel; if that wraps, every later redraw is a line too low.
    num_columns = min(num_columns - ECHO_COLUMNS, WIDEST_COLUMNS)
    is_narrow = num_columns < NARROW_COLUMNS
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(ratio=1)
    bar.add_row(ProgressBar(total=1.0, completed=view.share_done), f"{view.share_done:.0%}")
    counts, numbers = list(view.counts().items()), list(view.numbers().items())
    sides = [counts + numbers] if is_narrow else [counts, numbers]
    table = Table.grid(padding=(0, 2))
    for _ in sides:
        table.add_column(style="dim", no_wrap=True, min_width=LABEL_COLUMNS)
        table.add_column(no_wrap=True, min_width=0 if is_narrow else num_columns // 3)
    for row in range(max(map(len, sides))):
        table.add_row(*(cell for side in sides for cell in (side[row] if row < len(side) else ("", ""))))
    details = Table.grid(padding=(0, 2))
    details.add_column(style="dim", no_wrap=True, min_width=LABEL_COLUMNS)
    details.add_column()
    trend = "" if is_ascii else sparkline(view.scores, max(1, num_columns - LABEL_COLUMNS - 8))
    if trend:
        details.add_row("score so far", Text(trend, style="green"))
    if shares := view.time_shares():
        details.add_row("time goes to", "  ".join(f"{name} {share}%" for name, share in shares.items()))
    title = Text(view.run, style="bold")
    title.truncate(max(1, num_columns - 6), overflow="ellipsis")  # a panel grows with its title
    return Panel(
        Group(bar, table, details),
        title=title,
        title_align="left",
        subtitle=duration(view.clock() - view.started),
        width=num_columns,
    )


def sparkline(values: list[float], width: int) -> str:
    """Return the course of a number as a line of at most `width` bars; empty before there are two."""
    finite = [value for value in values if abs(value) < float("inf")]
    if len(finite) < 2:
        return ""
    width = min(width, len(finite))
    edges = [len(finite) * i // width for i in range(width + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARKS[round((mean - low) * scale)] for mean in means)


class PlainSuiteProgress:
    """Prints a line whenever a player has finished a simulation, and every ten seconds in between.

    Args:
        clock: seconds, from any origin.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._printed_at = clock()

    def __call__(self, simulation: str, player: str, num_finished: int, num_episodes: int) -> None:
        """Show that an episode has ended, if it is time for a line."""
        is_due = self._clock() - self._printed_at >= LINE_INTERVAL_SECONDS
        if is_due or num_finished == num_episodes:
            self._printed_at = self._clock()
            note(_episodes_text(simulation, player, num_finished, num_episodes))


def show_episodes_live(simulation: str, player: str, num_finished: int, num_episodes: int) -> None:
    """Show on the last line of the terminal how many episodes have ended; the line is removed at the end."""
    text = _episodes_text(simulation, player, num_finished, num_episodes)
    columns = os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else 80
    shown = "" if num_finished == num_episodes else text[: columns - 1]
    print(f"\r\033[K{shown}", end="", file=sys.stderr, flush=True)


def _episodes_text(simulation: str, player: str, num_finished: int, num_episodes: int) -> str:
    return f"{simulation}: {player} has played {num_finished} of {num_episodes} episodes"
