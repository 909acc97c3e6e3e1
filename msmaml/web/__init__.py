"""The web page that adapts to a visitor's own examples."""
