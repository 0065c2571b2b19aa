"""What mlfin is measured beside: scripts for the environment of `make bench`, and how to call them."""
