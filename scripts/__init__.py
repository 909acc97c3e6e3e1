"""Programs for maintainers, which are run as `python -m scripts.<name>`."""
