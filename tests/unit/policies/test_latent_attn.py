"""The latent attention policies: sizes, what they see, and attention against a loop."""

import math

import pytest
import torch

from metta_cli.policies.registry import create_policy
from metta_cli.testing.contracts import EXAMPLE_INTERFACE, random_observations
from metta_plugins.policies.latent_attn import LatentAttnNetwork, attention, fourier_features

# Encoder, and the whole policy; without the bias of the bilinear layer, which no softmax can feel.
SIZES = {
    "latent_attn_tiny": (29_782, 502_935),
    "latent_attn_small": (28_402, 501_555),
    "latent_attn_med": (55_002, 528_155),
}
HEADS = ("critic_1", "value_head", "actor_1", "action_embeddings", "actor_weight")


@pytest.mark.parametrize("name", SIZES)
def test_the_number_of_parameters_is_the_documented_one(name):
    policy = create_policy(name, EXAMPLE_INTERFACE, {})
    network: LatentAttnNetwork = policy.policy
    encoder = sum(part.numel() for key, part in network.named_parameters() if key.split(".")[0] not in HEADS)
    assert (encoder, sum(part.numel() for part in policy.parameters())) == SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_the_order_of_the_tokens_does_not_matter(name):
    network = create_policy(name, EXAMPLE_INTERFACE, {}).policy
    observations = random_observations(EXAMPLE_INTERFACE, 5)
    shuffled = observations[:, torch.randperm(observations.shape[1])]
    torch.testing.assert_close(
        network.encode_observations(shuffled), network.encode_observations(observations)
    )


def test_a_full_row_beside_a_short_one_is_read_to_its_end():
    network = create_policy("latent_attn_tiny", EXAMPLE_INTERFACE, {}).policy
    observations = torch.full((2, 6, 3), 255, dtype=torch.uint8)
    observations[0] = torch.tensor([[17 + step, 4, 9] for step in range(6)])
    observations[1, :2] = torch.tensor([[17, 4, 9], [18, 4, 9]])
    changed = observations.clone()
    changed[0, 5, 2] = 1
    difference = network.encode_observations(changed) - network.encode_observations(observations)
    assert difference[0].abs().max() > 1e-6
    assert not difference[1].any()


@pytest.mark.parametrize("what", ["feature", "value", "place", "tag"])
def test_each_part_of_a_token_is_seen(what):
    network = create_policy("latent_attn_small", EXAMPLE_INTERFACE, {}).policy
    tag = EXAMPLE_INTERFACE.feature_names.index("tag")
    token = {"feature": [17, 0, 5], "value": [17, 0, 5], "place": [17, 0, 5], "tag": [17, tag, 1]}[what]
    other = {"feature": [17, 1, 50], "value": [17, 0, 6], "place": [18, 0, 5], "tag": [17, tag, 2]}[what]
    seen = [network.encode_observations(torch.tensor([[part]], dtype=torch.uint8)) for part in (token, other)]
    assert (seen[0] - seen[1]).abs().max() > 1e-6


def test_attention_agrees_with_a_loop():
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(2, rows, 8, generator=generator) for rows in (3, 5, 5))
    mask = torch.tensor([[True] * 5, [True, False, True, False, False]])
    actual = attention(queries, keys, values, 2, mask[:, None, None, :])
    for batch in range(2):
        for query in range(3):
            for head in (slice(0, 4), slice(4, 8)):
                read = [key for key in range(5) if mask[batch, key]]
                scores = [
                    math.exp(float(queries[batch, query, head] @ keys[batch, key, head]) / 2) for key in read
                ]
                expected = sum(
                    score / sum(scores) * values[batch, key, head]
                    for score, key in zip(scores, read, strict=True)
                )
                torch.testing.assert_close(actual[batch, query, head], expected)


def test_places_become_waves_of_doubling_frequency():
    features = fourier_features(11, 11, 3)
    assert features.shape == (256, 12)
    column, row = 7, 2
    x, y = column / 10 * 2 - 1, row / 10 * 2 - 1
    expected = [
        wave(place * 2**power) for place in (x, y) for wave in (math.cos, math.sin) for power in range(3)
    ]
    torch.testing.assert_close(features[row * 16 + column], torch.tensor(expected))
    torch.testing.assert_close(features[0xFE], features[5 * 16 + 5])


def test_tokens_of_features_without_a_name_say_nothing():
    network = create_policy("latent_attn_med", EXAMPLE_INTERFACE, {}).policy
    unknown = torch.tensor([[[17, 200, 5], [34, 201, 9]]], dtype=torch.uint8)
    nothing = torch.full((1, 2, 3), 255, dtype=torch.uint8)
    torch.testing.assert_close(network.encode_observations(unknown), network.encode_observations(nothing))
