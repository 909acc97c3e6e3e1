"""A run goes from options to data and a model, and through training and evaluation."""
