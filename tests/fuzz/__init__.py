"""Damaged and forged files of every kind that is read from outside: `python -m tests.fuzz`."""
