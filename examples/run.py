"""A complete training run from Python: every part in the hand, the same parts as those of `metta train`.

python examples/run.py --total-timesteps 200000
torchrun --nproc-per-node 2 examples/run.py --total-timesteps 200000 --run-name two

(torchrun takes `--run` for an abbreviation of one of its own options.)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metta_cli.api import (
    Agent,
    CheckpointConfig,
    Environment,
    EvaluationConfig,
    Experience,
    InitialWeights,
    JsonlTracker,
    KickstartConfig,
    Kickstarter,
    Losses,
    MemoryMonitor,
    Optimizer,
    OptimizerConfig,
    PolicyStore,
    PPOConfig,
    RunDirectories,
    SimulationSuiteConfig,
    SingleEnvSimulationConfig,
    Stopwatch,
    SystemMonitor,
    TrainerConfig,
    World,
    accumulate_rollout_stats,
    calculate_anneal_beta,
    cleanup_distributed,
    compute_advantage,
    create_replay_config,
    evaluate_policy,
    load_checkpoint,
    load_kickstarter,
    mean_statistics,
    perform_rollout_step,
    process_minibatch_update,
    record_replay,
    save_checkpoint,
    save_experiment_config,
    setup_device_and_distributed,
    setup_run_directories,
)

Metrics = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> nn.Module:
    """Set up, train, evaluate, clean up; return the policy."""
    args = parse(arguments)

    # 1. Setup: device and other processes, directories, configuration
    device, is_master, world_size, rank = setup_device_and_distributed(args.device)
    world = World(rank, world_size)
    run_name = world.gather(args.run or time.strftime("run_%Y%m%d_%H%M%S"))[0]
    dirs = setup_run_directories(run_name, args.data_dir)
    config = trainer_config(args, device)
    if is_master:
        save_experiment_config(dirs, device, config)

    # 2. Components; several processes play parts of the same episodes, with the same seeds
    env = Environment(
        curriculum_path=args.curriculum,
        num_agents=4,
        num_envs=args.num_envs,
        device=device,
        seed=args.seed,
    )
    torch.manual_seed(args.seed)
    agent = Agent(env, {"agent": {"hidden_size": args.hidden_size, "num_layers": 1}}, device=device)
    run = Run(config, dirs, env, agent, device, world, args)
    run.say(f"{run_name}: {sum(part.numel() for part in agent.parameters())} parameters on {device}")

    # 3. Training; a run of this name that was stopped goes on where it was
    run.resume()
    try:
        while run.agent_step < config.total_timesteps:
            metrics = run.collect() | run.learn()
            if is_master:
                run.after_epoch(metrics)

        # 4. Evaluation on three sizes of terrain, and a replay
        if is_master:
            run.finish()
    finally:
        # 5. Cleanup
        run.close()
    return agent


class Run:
    """The parts of a run, and how far it has come."""

    def __init__(
        self,
        config: TrainerConfig,
        dirs: RunDirectories,
        env: Environment,
        agent: nn.Module,
        device: torch.device,
        world: World,
        args: argparse.Namespace,
    ) -> None:
        self.config, self.dirs, self.env, self.agent, self.device = config, dirs, env, agent, device
        self.world = world
        self.agent_step = self.epoch = 0
        self.evaluations: dict[int, float] = {}
        self.evaluation_overrides = {} if args.episode_steps is None else {"max_steps": args.episode_steps}
        self.suite = evaluation_suite(args.episodes, self.evaluation_overrides)
        self.policy_store = PolicyStore(
            {
                "device": str(device),
                "policy_cache_size": 10,
                "trainer": {"checkpoint": {"checkpoint_dir": dirs.checkpoint_dir}},
            }
        )
        self.optimizer = Optimizer(
            config.optimizer.type,
            agent,
            config.optimizer.learning_rate,
            eps=config.optimizer.eps,
            max_grad_norm=config.ppo.max_grad_norm,
        )
        self.experience = Experience(
            total_agents=env.num_agents,
            batch_size=config.batch_size,
            bptt_horizon=config.bptt_horizon,
            minibatch_size=config.minibatch_size,
            obs_space=env.single_observation_space,
            atn_space=env.single_action_space,
            device=device,
            hidden_size=args.hidden_size,
            num_lstm_layers=1,
            truncation_discount=config.ppo.gamma,
        )
        self.kickstarter: Kickstarter | None = load_kickstarter(
            config.kickstart, env.interface, device, args.data_dir
        )
        self.initial_weights = InitialWeights(agent) if config.ppo.l2_init_loss_coef else None
        self.timer = Stopwatch()
        self.memory_monitor = MemoryMonitor()
        self.memory_monitor.add(self.experience, "experience")
        self.memory_monitor.add(agent, "agent")
        self.system_monitor = SystemMonitor(sampling_interval_seconds=1.0, auto_start=True)
        self.tracker = JsonlTracker(dirs.run_dir / "metrics.jsonl") if world.is_first else None
        if env.curriculum is not None:
            env.curriculum.is_shared = world.size > 1

    def say(self, text: str) -> None:
        """Print, if this is the first process."""
        if self.world.is_first:
            print(text, flush=True)

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        self.agent_step, self.epoch, path = load_checkpoint(
            self.dirs.checkpoint_dir, self.agent, self.optimizer
        )
        if path is not None:
            self.say(f"going on from {path}")

    def collect(self) -> Metrics:
        """Rollout phase: act until the experience is full."""
        stats: dict[str, list[float]] = {}
        self.experience.reset_for_rollout()
        while not self.experience.ready_for_training:
            num_steps, infos = perform_rollout_step(
                self.agent, self.env, self.experience, self.device, self.timer
            )
            accumulate_rollout_stats(infos, stats)
            self.agent_step += num_steps * self.world.size
        curriculum = self.env.curriculum
        if curriculum is None:
            return mean_statistics(stats)
        if curriculum.is_shared:
            curriculum.merge(self.world.gather(curriculum.take_updates()))
        return mean_statistics(stats) | curriculum.metrics()

    def learn(self) -> Metrics:
        """Training phase: several passes of minibatches over the experience."""
        config, losses = self.config, Losses()
        advantages = self.advantages()
        with self.timer("update"):
            for _ in range(config.update_epochs):
                if not self.learn_once(advantages, losses):
                    break
        self.epoch += 1
        if self.initial_weights is not None:
            interval = config.ppo.l2_init_weight_update_interval
            self.initial_weights.update_if_due(self.agent, self.epoch, interval)
        return losses.means()

    def learn_once(self, advantages: Tensor, losses: Losses) -> bool:
        """Take one pass; return whether the policy is still near enough to the one that acted."""
        config, priorities = self.config, self.config.prioritized_experience_replay
        beta = calculate_anneal_beta(
            self.epoch,
            config.total_timesteps,
            config.batch_size * self.world.size,
            priorities.prio_alpha,
            priorities.prio_beta0,
        )
        for minibatch in self.experience.iter_minibatches(
            advantages, sampling=config.sampling, prio_alpha=priorities.prio_alpha, beta=beta
        ):
            loss = process_minibatch_update(
                self.agent,
                self.experience,
                minibatch,
                advantages,
                config,
                self.kickstarter,
                self.agent_step,
                losses,
                self.device,
                self.initial_weights,
            )
            target_kl = config.ppo.target_kl
            if target_kl is not None and self.world.mean(losses.steps[-1]["approx_kl"]) > target_kl:
                return False
            self.optimizer.step(loss)
        return True

    def advantages(self) -> Tensor:
        """Return the advantages of the whole experience, with ratio 1."""
        experience, ppo, vtrace = self.experience, self.config.ppo, self.config.vtrace
        return compute_advantage(
            experience.values,
            experience.rewards,
            experience.dones,
            torch.ones_like(experience.values),
            torch.zeros(experience.values.shape, device=self.device),
            ppo.gamma,
            ppo.gae_lambda,
            vtrace.vtrace_rho_clip,
            vtrace.vtrace_c_clip,
            self.device,
        )

    def after_epoch(self, metrics: Metrics) -> None:
        """Periodic tasks: log, evaluate, save with the score."""
        metrics |= self.system_monitor.stats() | self.memory_monitor.stats()
        metrics["steps_per_second"] = self.config.batch_size * self.world.size / self.epoch_seconds()
        assert self.tracker is not None
        self.tracker.log(metrics, agent_steps=self.agent_step, epoch=self.epoch)
        shown = metrics.get("episode/return_mean", float("nan"))
        self.say(f"epoch {self.epoch}: {self.agent_step} agent steps, return {shown:.3f}")
        is_last = self.agent_step >= self.config.total_timesteps
        interval = self.config.simulation.evaluate_interval
        if is_last or (interval and self.epoch % interval == 0):
            self.evaluate()
        self.save(force=is_last)

    def epoch_seconds(self) -> float:
        """Return the seconds since the last call, spent acting and learning."""
        now = sum(self.timer.get_elapsed(name) for name in ("forward", "environment", "update"))
        self._before, passed = now, now - getattr(self, "_before", 0.0)
        return passed

    def save(self, force: bool = False) -> None:
        """Save the policy and what it takes to go on, if it is time."""
        score = self.evaluations.get(self.epoch)
        save_checkpoint(
            self.epoch,
            self.agent_step,
            self.agent,
            self.optimizer,
            self.policy_store,
            checkpoint_interval=self.config.checkpoint.checkpoint_interval,
            stats={} if score is None else {"score": score},
            force_save=force,
        )

    def evaluate(self) -> None:
        """Play the suite and remember the mean score."""
        with self.timer("evaluation"):
            result = evaluate_policy(
                self.agent, self.suite, self.device, stats_dir=self.dirs.stats_dir, name=f"v{self.epoch}"
            )
        self.evaluations[self.epoch] = result.average_simulation_score().mean

    def finish(self) -> None:
        """Evaluate if that is not done, record a replay, and tell what came out."""
        if self.epoch not in self.evaluations:
            self.evaluate()
        replay = create_replay_config("terrain_small").model_copy(
            update={"env_overrides": self.evaluation_overrides}
        )
        pages = record_replay(self.agent, replay, self.dirs.replay_dir, self.device, name=f"v{self.epoch}")
        self.say(f"scores so far: {self.evaluations}")
        self.say(f"replay: {pages[0]}")
        seconds = {name: round(seconds, 1) for name, seconds in self.timer.get_all_elapsed().items()}
        self.say(f"seconds: {seconds}")

    def close(self) -> None:
        """Stop what runs beside the training."""
        self.system_monitor.stop()
        if self.tracker is not None:
            self.tracker.close()
        self.env.close()
        cleanup_distributed()


def trainer_config(args: argparse.Namespace, device: torch.device) -> TrainerConfig:
    """Return the configuration of the training; batches are smaller on a CPU."""
    is_gpu = device.type == "cuda"
    return TrainerConfig(
        total_timesteps=args.total_timesteps,
        batch_size=args.batch_size or (524_288 if is_gpu else 16_384),
        minibatch_size=args.minibatch_size or (16_384 if is_gpu else 4_096),
        update_epochs=2,
        optimizer=OptimizerConfig(type=args.optimizer, learning_rate=3e-4, eps=1e-8),
        ppo=PPOConfig(gamma=0.99, gae_lambda=0.95, ent_coef=0.01, target_kl=0.05),
        checkpoint=CheckpointConfig(
            checkpoint_interval=args.checkpoint_interval, wandb_checkpoint_interval=0
        ),
        simulation=EvaluationConfig(evaluate_interval=args.evaluate_interval),
        kickstart=KickstartConfig(teacher_uri=args.teacher, kickstart_steps=args.total_timesteps),
    )


def evaluation_suite(episodes: int, overrides: dict[str, int]) -> SimulationSuiteConfig:
    """Return the evaluation: the same game in three sizes of terrain."""
    return SimulationSuiteConfig(
        name="evaluation",
        num_episodes=episodes,
        env_overrides=overrides,
        simulations={
            "navigation/terrain_small": SingleEnvSimulationConfig(env="navigation/terrain_small"),
            "navigation/terrain_medium": SingleEnvSimulationConfig(env="navigation/terrain_medium"),
            "navigation/terrain_large": SingleEnvSimulationConfig(env="navigation/terrain_large"),
        },
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--total-timesteps", type=int, default=10_000_000)
    parser.add_argument("--run-name", "--run", dest="run", help="of the run; by default the time")
    parser.add_argument("--data-dir", default="./train_dir")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--curriculum", default="/env/mettagrid/curriculum/navigation/bucketed")
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument(
        "--batch-size", type=int, help="agent steps per epoch; by default what suits the device"
    )
    parser.add_argument("--minibatch-size", type=int)
    parser.add_argument("--optimizer", choices=("adam", "muon"), default="adam")
    parser.add_argument("--teacher", help="run or checkpoint to learn from as well")
    parser.add_argument("--checkpoint-interval", type=int, default=50)
    parser.add_argument("--evaluate-interval", type=int, default=300)
    parser.add_argument("--episodes", type=int, default=2, help="per evaluated terrain")
    parser.add_argument("--episode-steps", type=int, help="length of evaluated episodes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
