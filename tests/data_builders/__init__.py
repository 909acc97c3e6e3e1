"""Data sets, protocols and episodes."""
