"""The sub-commands of `msmaml`, one per file."""
