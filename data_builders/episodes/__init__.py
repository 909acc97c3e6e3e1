"""Episodes: which rows of which splits form a task, and how rows and tasks are augmented."""
