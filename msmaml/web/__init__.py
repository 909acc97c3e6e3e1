"""A web page on which the model adapts to a visitor's own examples."""
