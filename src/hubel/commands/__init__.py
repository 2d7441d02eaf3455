"""One file per job of the command line; each function yields or returns records and prints nothing."""
