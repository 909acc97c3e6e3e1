"""The command, runs and the web page."""
