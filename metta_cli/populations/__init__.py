"""Who plays which agents: players, opponents, and how they are matched."""
