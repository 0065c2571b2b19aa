"""Tests: a folder a room, `repo` for the tree itself, `pipeline` for whole runs, `fixtures` for what several
share."""
