"""Which rows belong to which split: the protocols, and the class lists of each data set as JSON."""
