"""The data sets, one file per data set, and what `folder` and `hub` share (`own_data.py`, `own_rows.py`)."""
