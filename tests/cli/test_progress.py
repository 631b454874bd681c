import io
import os
import pty
import re
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from metta_cli.cli import progress
from metta_cli.cli.progress import (
    NoProgress,
    PlainProgress,
    PlainSuiteProgress,
    RichProgress,
    RunView,
    create_progress,
    create_suite_progress,
    panel,
    sparkline,
)

TOTAL = 100_000


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def metrics_of(epoch: int, **changes: float) -> dict[str, float]:
    return {
        "agent_steps": 1000.0 * epoch,
        "epoch": epoch,
        "steps_per_second": 500.0,
        "losses/policy_loss": -0.01234,
        "losses/value_loss": 0.5,
        "losses/entropy": 2.0,
        "losses/approx_kl": 0.0042,
        "episode/count": 12.0,
        "episode/recent_return_mean": 0.25 * epoch,
        "time/rollout_seconds": 6.0,
        "time/environment_seconds": 2.0,
        "time/forward_seconds": 3.0,
        "time/update_seconds": 4.0,
    } | changes


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def screen(view: RunView, width: int, **options: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(panel(view, width, **options))
    return console.file.getvalue().splitlines()


def test_the_first_speed_is_the_epochs_own_and_later_ones_are_of_wall_time(clock: FakeClock) -> None:
    view = RunView(TOTAL, "walker", clock)
    assert (view.steps_per_second, view.time_left) == (None, None)
    view.update(metrics_of(1))
    assert view.steps_per_second == 500.0
    clock.now += 4.0  # the epoch took 2 s, saving and evaluating another 2 s
    view.update(metrics_of(2))
    assert view.steps_per_second == 250.0
    assert view.time_left == "6 min 32 s"  # 98,000 steps at 250 per second


def test_a_resumed_run_counts_its_speed_from_where_it_resumed(clock: FakeClock) -> None:
    view = RunView(TOTAL, "walker", clock)
    for epoch in (50, 51):
        view.update(metrics_of(epoch))
        clock.now += 2.0
    assert view.share_done == 0.51
    assert view.steps_per_second == 500.0


def test_the_shares_of_time_are_of_collecting_and_updating(clock: FakeClock) -> None:
    view = RunView(TOTAL, "walker", clock)
    assert view.time_shares() == {}
    view.update(metrics_of(1))
    assert view.time_shares() == {"environment": 20, "policy": 30, "update": 40, "other": 10}


def test_the_panel_shows_everything(clock: FakeClock) -> None:
    view = RunView(TOTAL, "walker", clock)
    for epoch in (1, 2):
        view.update(metrics_of(epoch))
        clock.now += 2.0
    text = "\n".join(screen(view, 80))
    for part in (
        "walker",
        "2%",
        r"agent steps +2,000 / 100,000 +score +0\.500 ",
        r"steps/s +500 +policy loss +-0\.0123",
        r"time left +3 min 16 s +value loss +0\.5000",
        r"epoch +2 +entropy +2\.000",
        r"episodes +12 +KL +0\.0042",
        r"score so far +\u2581\u2588 ",
        r"time goes to +environment 20% +policy 30% +update 40% +other 10%",
        "4 s",
    ):
        assert re.search(part, text), part


@pytest.mark.parametrize("width", [32, 40, 69, 70, 80, 200])
def test_the_panel_fits_the_terminal(clock: FakeClock, width: int) -> None:
    view = RunView(TOTAL, "a-run-with-quite-a-long-name.07-24-00-18", clock)
    for epoch in range(1, 100):
        view.update(metrics_of(epoch))
    lines = screen(view, width)
    assert {len(line) for line in lines} == {min(width - 4, 90)}  # 4 for an echoed ^C^C
    assert any("0.0042" in line for line in lines)


def test_the_panel_of_a_run_that_has_not_measured_anything_is_short(clock: FakeClock) -> None:
    lines = screen(RunView(TOTAL, "walker", clock), 80)
    assert len(lines) == 4
    assert "0 / 100,000" in lines[2]


def test_a_terminal_without_unicode_gets_no_bars(clock: FakeClock) -> None:
    view = RunView(TOTAL, "walker", clock)
    for epoch in (1, 2):
        view.update(metrics_of(epoch))
    assert not any("score so far" in line for line in screen(view, 80, is_ascii=True))


def test_a_diverged_run_is_shown_as_such(clock: FakeClock) -> None:
    view = RunView(TOTAL, "walker", clock)
    for epoch in (1, 2, 3):
        diverged = {"losses/value_loss": float("nan"), "episode/recent_return_mean": float("inf")}
        view.update(metrics_of(epoch, **diverged))
    assert any("nan" in line for line in screen(view, 80))


def test_plain_lines_come_at_first_then_every_ten_seconds_and_at_the_end(
    clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = PlainProgress(clock)
    display.start(TOTAL, "walker")
    for epoch in range(1, 25):
        display.update(metrics_of(epoch))
        clock.now += 1.0
    display.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [re.search(r"[\d,]+ / 100,000", line)[0] for line in lines] == [
        "1,000 / 100,000",
        "11,000 / 100,000",
        "21,000 / 100,000",
        "24,000 / 100,000",
    ]
    assert lines[0] == (
        "walker: 1,000 / 100,000 agent steps (1%), 500 steps/s, 3 min 18 s left, score 0.250, "
        "policy loss -0.0123, value loss 0.5000, entropy 2.000, KL 0.0042"
    )


def test_the_last_epoch_is_not_printed_twice(clock: FakeClock, capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainProgress(clock)
    display.start(TOTAL, "walker")
    display.update(metrics_of(1))
    display.close()
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("display", [PlainProgress(), NoProgress()])
def test_a_run_that_ends_before_its_first_epoch_prints_nothing(
    display: PlainProgress | NoProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    display.start(TOTAL, "walker")
    display.close()
    assert capsys.readouterr() == ("", "")


def test_none_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = create_progress("none")
    display.start(TOTAL, "walker")
    display.update(metrics_of(1))
    display.close()
    assert capsys.readouterr() == ("", "")
    assert create_suite_progress("none") is None


def test_auto_is_plain_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(create_progress("auto"), PlainProgress)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(create_progress("auto"), RichProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(create_progress("auto"), PlainProgress)


def test_the_live_display_redraws_seldom_enough_to_be_cheap(clock: FakeClock) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=40, color_system=None)
    display = RichProgress(console, clock)
    display.start(TOTAL, "walker")
    for epoch in range(1, 101):
        display.update(metrics_of(epoch))
        clock.now += 0.01
    display.close()
    text = console.file.getvalue()
    assert text.count("walker") == 12  # at the start, every 0.1 s, at the end
    assert "100,000 / 100,000" in text[text.rindex("walker") :]


DISPLAY = """
import sys
from metta_cli.cli.progress import create_progress
display = create_progress("auto")
display.start(2000, "walker")
try:
    display.update({"agent_steps": 1000, "epoch": 1, "losses/entropy": 1.5})
    print("a message", file=sys.stderr)
    print("data")
    display.update({"agent_steps": 2000, "epoch": 2, "losses/entropy": 1.25})
finally:
    display.close()
assert "torch" not in sys.modules
"""


def show_on_a_terminal(**environment: str) -> tuple[str, str]:
    """Return what the terminal got on stderr and what stdout got."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", DISPLAY],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40", **environment},
    )
    os.close(theirs)
    shown = b"".join(iter(lambda: read_some(mine), b""))
    os.close(mine)
    data, _ = process.communicate()
    assert process.returncode == 0, shown.decode()
    return shown.decode(), data.decode()


def read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux reports a hung-up terminal as an error
        return b""


def test_a_terminal_gets_a_live_display_on_stderr_and_its_cursor_back() -> None:
    shown, data = show_on_a_terminal()
    assert data == "data\n"
    assert "a message\r\n" in shown
    assert "2,000 / 2,000" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", shown), "there are colours"


def test_no_color_is_respected() -> None:
    shown, _ = show_on_a_terminal(NO_COLOR="1")
    assert "2,000 / 2,000" in shown
    assert not re.search(r"\x1b\[[0-9;]*[349][0-9]m", shown)


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 8, ""),
        ([1.0], 8, ""),
        ([1.0, 1.0], 8, "\u2581\u2581"),
        ([0.0, 7.0], 8, "\u2581\u2588"),
        ([0.0, 0.0, 7.0, 7.0], 2, "\u2581\u2588"),
        ([float("nan"), 0.0, float("inf"), 1.0], 8, "\u2581\u2588"),
    ],
)
def test_the_course_of_the_score_is_a_line_of_bars(values: list[float], width: int, line: str) -> None:
    assert sparkline(values, width) == line


def test_an_evaluation_prints_a_line_per_player_and_one_every_ten_seconds(
    clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = PlainSuiteProgress(clock)
    for episode in range(1, 16):
        clock.now += 1.0
        display("navigation/simple", "random", episode, 15)
    assert capsys.readouterr().err.splitlines() == [
        "navigation/simple: random has played 10 of 15 episodes",
        "navigation/simple: random has played 15 of 15 episodes",
    ]


def test_a_live_evaluation_leaves_its_line_empty(capsys: pytest.CaptureFixture[str]) -> None:
    display = create_suite_progress("rich")
    assert display is progress.show_episodes_live
    display("laser_tag", "policy", 1, 2)
    display("laser_tag", "policy", 2, 2)
    assert capsys.readouterr().err == "\r\x1b[Klaser_tag: policy has played 1 of 2 episodes\r\x1b[K"
