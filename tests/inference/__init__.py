"""The classifier of one's own data."""
