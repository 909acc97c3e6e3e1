"""What is published with a model: its card, the results and pictures of its run, and models of the published layout."""
