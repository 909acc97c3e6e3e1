"""Meta-training and evaluation."""
