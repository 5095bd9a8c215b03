"""How an agent comes to be: traces, imitation, PPO, tracking."""
