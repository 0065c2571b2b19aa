"""What mlfin is measured beside: scripts that run in the environment of `make bench`, and how they are called."""
