"""A run: from options to data and model, and through training and evaluation."""
