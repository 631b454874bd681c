import dataclasses

import pytest
import torch
from tensordict import TensorDict

from metta_cli.config.interface import EnvironmentInterface
from metta_cli.policies.remapping import RemappedPolicy, interface_differences

PASSPORT = EnvironmentInterface(
    action_names=("noop", "move_north", "move_south"),
    feature_names=("agent:group", "tag", "inv:heart"),
    feature_scales=(1.0, 1.0, 1.0),
    tag_names=("type:altar", "type:wall"),
    observation_height=5,
    observation_width=5,
    num_tokens=4,
    agents_per_environment=1,
)
# The same world with everything renumbered, one thing added and one taken away of each kind.
ELSEWHERE = dataclasses.replace(
    PASSPORT,
    action_names=("noop", "move_south", "change_vibe_laser", "move_north"),
    feature_names=("inv:ore", "inv:heart", "tag", "agent:group"),
    feature_scales=(1.0, 1.0, 1.0, 1.0),
    tag_names=("type:mine", "type:wall", "type:altar"),
)


class Recorder(torch.nn.Module):
    """Keeps the tokens it saw; always prefers north 3 : 2 : 1."""

    def initial_state(self, num_agents, device):
        return {}

    def forward(self, td, state=None, action=None):
        self.seen = td["env_obs"]
        log_probs = torch.log(torch.tensor([1.0, 3.0, 2.0]) / 6)
        td["full_log_probs"] = log_probs.expand(*self.seen.shape[:-2], 3).contiguous()
        td["values" if action is None else "value"] = torch.zeros(self.seen.shape[:-2])
        return td


def inputs(tokens, *batch):
    observations = torch.tensor(tokens, dtype=torch.uint8).expand(*batch, len(tokens), 3)
    return TensorDict({"env_obs": observations, "dones": torch.zeros(batch, dtype=torch.bool)}, list(batch))


def test_tokens_arrive_in_the_numbers_of_the_policy():
    policy = Recorder()
    td = inputs([[0x11, 1, 7], [0x12, 2, 2], [0x13, 3, 4], [0xFF, 255, 255]], 1)
    RemappedPolicy(policy, PASSPORT, ELSEWHERE)(td)
    assert policy.seen[0, :3].tolist() == [[0x11, 2, 7], [0x12, 1, 0], [0x13, 0, 4]]


def test_features_and_tags_new_to_the_policy_are_blanked():
    policy = Recorder()
    RemappedPolicy(policy, PASSPORT, ELSEWHERE)(inputs([[0x11, 0, 7], [0x12, 2, 0]], 1))
    assert policy.seen[0, :, 0].tolist() == [0xFF, 0xFF]


def test_probabilities_are_read_by_name_and_unknown_actions_have_none():
    td = RemappedPolicy(Recorder(), PASSPORT, ELSEWHERE)(inputs([[0xFF, 255, 255]], 1))
    torch.testing.assert_close(td["full_log_probs"].exp(), torch.tensor([[1 / 6, 2 / 6, 0.0, 3 / 6]]))


def test_probabilities_are_renormalised_over_the_actions_that_exist():
    here = dataclasses.replace(ELSEWHERE, action_names=("move_south", "noop"))
    td = RemappedPolicy(Recorder(), PASSPORT, here)(inputs([[0xFF, 255, 255]], 1))
    torch.testing.assert_close(td["full_log_probs"].exp(), torch.tensor([[2 / 3, 1 / 3]]))


def test_training_judges_actions_of_the_environment():
    td = RemappedPolicy(Recorder(), PASSPORT, ELSEWHERE)(
        inputs([[0xFF, 255, 255]], 1, 2), {}, torch.tensor([[3, 1]])
    )
    torch.testing.assert_close(td["act_log_prob"].exp(), torch.tensor([[3 / 6, 2 / 6]]))
    assert torch.isfinite(td["entropy"]).all()


def test_differences_name_everything():
    lines = "\n".join(interface_differences(PASSPORT, ELSEWHERE))
    for name in ("change_vibe_laser", "inv:ore", "type:mine"):
        assert name in lines
    assert interface_differences(PASSPORT, PASSPORT) == []


def test_renumbering_alone_is_a_difference():
    swapped = dataclasses.replace(PASSPORT, tag_names=PASSPORT.tag_names[::-1])
    assert interface_differences(PASSPORT, swapped) == ["tags are numbered differently"]


@pytest.mark.parametrize(
    "change", [{"action_names": ("jump",)}, {"observation_height": 7}], ids=["actions", "window"]
)
def test_what_cannot_be_matched_is_refused(change):
    with pytest.raises(ValueError, match=r"differ in size|none of the actions"):
        RemappedPolicy(Recorder(), PASSPORT, dataclasses.replace(PASSPORT, **change))
