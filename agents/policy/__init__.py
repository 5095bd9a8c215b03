"""The PPO policy: its network, and the agent that a saved policy makes."""
