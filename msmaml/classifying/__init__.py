"""What `msmaml classify` and `msmaml evaluate --support` do."""
