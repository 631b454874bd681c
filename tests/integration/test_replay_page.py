"""The page of a replay, in a headless Chromium: played, paused, moved through, and read."""

import io

import pytest
from PIL import Image

from metta_cli.config.simulation import SingleEnvSimulationConfig
from metta_cli.evaluation.episodes import Recording, environment_of, play_simulation
from metta_cli.evaluation.replay import replay_data, replay_page
from metta_cli.populations.players import BUILTIN_PLAYERS
from tests.integration.browser import EXECUTABLE, Browser

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="there is no Chromium on this machine")

SIMULATION = SingleEnvSimulationConfig(env="laser_tag", num_episodes=1, env_overrides={"max_steps": 120})
TEAM_COLOURS = ("#d1495b", "#2f6fde")
OWN_CLOCK = """
{
  let now = 0, waiting = [];
  performance.now = () => now;
  window.requestAnimationFrame = (draw) => waiting.push(draw);
  window.passMilliseconds = (duration) => {
    now += duration;
    const due = waiting;
    waiting = [];
    due.forEach((draw) => draw(now));
  };
}
"""


@pytest.fixture(scope="module")
def data():
    recording = Recording()
    play_simulation(SIMULATION, BUILTIN_PLAYERS["scripted"], seed=4, recording=recording)
    found = replay_data(environment_of(SIMULATION), recording, 4)
    return found | {"simulation": "laser_tag/<b>", "policy": "scripted"}


@pytest.fixture(scope="module")
def browser(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / "an episode.html"
    path.write_text(replay_page(data), encoding="utf-8")
    with Browser(folder / "profile", OWN_CLOCK) as opened:
        opened.open(path.as_uri())
        yield opened


@pytest.fixture
def page(browser):
    browser.run("setPlaying(false); step = 0; followed = null; show()")
    browser.run("document.getElementById('speed').value = 8; document.activeElement.blur()")
    return browser


def text(page, selector):
    return page.run(f"document.querySelector({selector!r}).textContent")


def step_of(page):
    return int(text(page, "#clock").split()[1])


def at(entries, step):
    return [entry for entry in entries if entry[0] <= step][-1]


def expected_row(data, thing, step):
    """What the panel should say of an agent, worked out from the recorded episode."""
    _, _, _, vibe, inventory = at(thing["frames"], step)
    action = data["action_names"][data["actions"][step - 1][thing["agent"]]] if step else "start"
    parts = [action.replace("_", " ")]
    if vibe:
        parts.append(f"vibe {data['vibe_names'][vibe]}")
    parts += [f"{data['resource_names'][int(name)]} {amount}" for name, amount in inventory.items()]
    return f"{at(data['returns'][thing['agent']], step)[1]:.2f}", " \u00b7 ".join(parts)


def test_it_plays_pauses_and_ends(page):
    assert (text(page, "#play"), step_of(page)) == ("Play", 0)
    page.click("#play")
    assert text(page, "#play") == "Pause"
    page.run("passMilliseconds(1000)")
    assert step_of(page) == 8
    page.click("#play")
    assert text(page, "#play") == "Play"
    page.run("passMilliseconds(1000)")
    assert step_of(page) == 8
    page.press(" ")
    page.run("passMilliseconds(500)")
    page.run("passMilliseconds(60000)")
    assert (text(page, "#clock"), text(page, "#play")) == ("step 120 / 120", "Play")
    page.click("#play")
    assert (step_of(page), text(page, "#play")) == (120, "Pause")
    page.run("passMilliseconds(250)")
    assert step_of(page) == 2


@pytest.mark.parametrize("speed", [2, 8, 30, 120])
def test_every_speed_is_what_it_says(page, speed):
    page.run(f"document.getElementById('speed').value = {speed}")
    page.click("#play")
    for _ in range(8):
        page.run("passMilliseconds(62.5)")
    assert step_of(page) == speed // 2


def test_the_slider_and_the_arrow_keys_move_through_the_episode(page):
    page.click("#slider")
    assert step_of(page) == 60
    page.press("ArrowRight")
    assert step_of(page) == 61
    page.run("document.activeElement.blur()")
    page.press("ArrowLeft")
    assert step_of(page) == 60
    assert page.run("document.getElementById('slider').value") == "60"
    page.click("#play")
    page.click("#slider", across=0.25)
    assert text(page, "#play") == "Play"
    assert abs(step_of(page) - 30) <= 2


def test_the_panel_has_inventory_and_reward_of_every_agent(page, data):
    agents = [thing for thing in data["things"] if thing["agent"] >= 0]
    seen = ""
    for step in (0, 1, 57, 120):
        page.run(f"step = {step}; show()")
        rows = page.run(
            "[...document.querySelectorAll('.agent')].map((row) => "
            "[row.querySelector('.score').textContent, row.querySelector('.detail').textContent])"
        )
        assert [tuple(row) for row in rows] == [expected_row(data, thing, step) for thing in agents]
        seen += str(rows)
    assert all(word in seen for word in ("start", "vibe laser", "heart 2", "-1.00"))


def pixel(page, x, y):
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return "#{:02x}{:02x}{:02x}".format(*picture.getpixel((round(x), round(y))))


def test_agents_are_drawn_where_they_are_and_the_chosen_one_is_marked(page, data):
    page.run("step = 57; show()")
    thing = next(thing for thing in data["things"] if thing["agent"] == 3)
    _, row, column, *_ = at(thing["frames"], 57)
    left, top, cell = page.run(
        "(() => { const box = document.getElementById('canvas').getBoundingClientRect();"
        " return [box.left, box.top, box.width / replay.width]; })()"
    )
    x, y = left + (column + 0.5) * cell, top + (row + 0.5) * cell
    assert pixel(page, x, y - 0.3 * cell) == TEAM_COLOURS[thing["team"]]
    page.click(".agent:nth-child(4)")
    assert page.run("document.querySelectorAll('.agent')[3].getAttribute('aria-pressed')") == "true"
    assert pixel(page, x, y - 0.5 * cell) == "#f2c230"
    page.click(".agent:nth-child(4)")
    assert page.run("document.querySelectorAll('[aria-pressed=true]').length") == 0


def test_it_needs_neither_a_network_nor_another_file_and_reports_no_error(page):
    assert text(page, "#title") == "laser_tag/<b>, episode 0"
    assert page.run("document.querySelector('h1').children.length") == 0
    assert page.requests
    assert {request.partition(":")[0] for request in page.requests} == {"file"}
    assert len(page.requests) == 1
    assert page.errors == []
