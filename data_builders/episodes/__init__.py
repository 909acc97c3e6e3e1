"""Episodes: which rows of which splits make a task, and what augments them."""
