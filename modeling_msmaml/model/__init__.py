"""The model. Flat, since it travels with a checkpoint: every own import is `from .sibling import name`."""
