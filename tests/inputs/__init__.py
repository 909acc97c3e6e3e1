"""Reading what a person hands in."""
