"""`python -m mlfin` is the command `mlfin`."""
from mlfin.ops.cli import main

if __name__ == "__main__":
    main()
