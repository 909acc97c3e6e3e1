"""Classifying one's own inputs with a trained model."""
