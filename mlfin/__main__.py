"""`python -m mlfin` is the command `mlfin`."""
from mlfin.cli.app import main

if __name__ == "__main__":
    main()
