"""Train a policy from Python: the shortest loop that is complete.

python examples/quick_start.py --total-timesteps 100000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import nn

from metta_cli.api import (
    Agent,
    Environment,
    Experience,
    Losses,
    Optimizer,
    PolicyStore,
    Stopwatch,
    TrainerConfig,
    accumulate_rollout_stats,
    calculate_anneal_beta,
    compute_advantage,
    mean_statistics,
    perform_rollout_step,
    process_minibatch_update,
    save_experiment_config,
    setup_run_directories,
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--total-timesteps", type=int, default=100_000)
    parser.add_argument("--batch-size", type=int, default=16_384)
    parser.add_argument("--minibatch-size", type=int, default=512)
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--run", help="name of the run; by default the time")
    parser.add_argument("--data-dir", default="./train_dir")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, and load what was saved."""
    args = parse(arguments)

    # Set up directories
    dirs = setup_run_directories(args.run, args.data_dir)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    # Create environment and agent
    env = Environment(num_agents=4, width=32, height=32, num_envs=args.num_envs, device=str(device))
    agent = Agent(env, device=str(device))

    # Create trainer config and save it
    trainer_config = TrainerConfig(
        total_timesteps=args.total_timesteps,
        batch_size=args.batch_size,
        minibatch_size=args.minibatch_size,
    )
    save_experiment_config(dirs, device, trainer_config)

    policy_store = PolicyStore(
        {
            "device": str(device),
            "policy_cache_size": 10,
            "trainer": {"checkpoint": {"checkpoint_dir": dirs.checkpoint_dir}},
        },
        wandb_run=None,
    )
    optimizer = Optimizer(optimizer_type="adam", policy=agent, learning_rate=3e-4)
    experience = Experience(
        total_agents=env.num_agents,
        batch_size=trainer_config.batch_size,
        bptt_horizon=trainer_config.bptt_horizon,
        minibatch_size=trainer_config.minibatch_size,
        obs_space=env.single_observation_space,
        atn_space=env.single_action_space,
        device=device,
        hidden_size=512,
        num_lstm_layers=1,
        truncation_discount=trainer_config.ppo.gamma,
    )
    timer = Stopwatch()
    agent_step, epoch = 0, 0

    while agent_step < trainer_config.total_timesteps:
        # Rollout phase
        stats: dict[str, list[float]] = {}
        experience.reset_for_rollout()
        while not experience.ready_for_training:
            num_steps, info = perform_rollout_step(agent, env, experience, device, timer)
            accumulate_rollout_stats(info, stats)
            agent_step += num_steps

        # Training phase
        with timer("update"):
            learn(agent, optimizer, experience, trainer_config, agent_step, epoch, device)
        epoch += 1
        print(f"epoch {epoch}: {agent_step} agent steps", mean_statistics(stats).get("episode/return_mean"))

    # Keep the policy, and get it back
    record = policy_store.create_empty_policy_record(policy_store.make_model_name(epoch))
    record.metadata = {"agent_step": agent_step, "epoch": epoch}
    record.policy = agent
    saved_record = policy_store.save(record)
    loaded_record = policy_store.policy_record(saved_record.file_path)
    print(f"saved {loaded_record.run_name} after {loaded_record.metadata.agent_step} agent steps")
    print({name: round(seconds, 1) for name, seconds in timer.get_all_elapsed().items()})
    env.close()


def learn(
    agent: nn.Module,
    optimizer: Optimizer,
    experience: Experience,
    trainer_config: TrainerConfig,
    agent_step: int,
    epoch: int,
    device: torch.device,
) -> None:
    """Take the gradient steps of one epoch."""
    advantages = compute_advantage(
        experience.values,
        experience.rewards,
        experience.dones,
        torch.ones_like(experience.values),
        torch.zeros(experience.values.shape, device=device),
        trainer_config.ppo.gamma,
        trainer_config.ppo.gae_lambda,
        trainer_config.vtrace.vtrace_rho_clip,
        trainer_config.vtrace.vtrace_c_clip,
        device,
    )
    priorities = trainer_config.prioritized_experience_replay
    beta = calculate_anneal_beta(
        epoch,
        trainer_config.total_timesteps,
        trainer_config.batch_size,
        priorities.prio_alpha,
        priorities.prio_beta0,
    )
    losses = Losses()
    for _ in range(trainer_config.update_epochs):
        for minibatch in experience.iter_minibatches(
            advantages,
            sampling=trainer_config.sampling,
            prio_alpha=priorities.prio_alpha,
            beta=beta,
        ):
            loss = process_minibatch_update(
                agent,
                experience,
                minibatch,
                advantages,
                trainer_config,
                None,
                agent_step,
                losses,
                device,
            )
            optimizer.step(loss, epoch)


if __name__ == "__main__":
    main()
