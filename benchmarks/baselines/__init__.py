"""Baselines beside MS-MAML: trained on the same data with the same episodes and steps, tested on the same episodes."""
