"""Long works that are killed or stopped by a full disk at random moments, and resumed: `python -m tests.campaign`."""
