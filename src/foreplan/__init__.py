"""Model-based reinforcement learning and planning for environments that are expensive to step."""
