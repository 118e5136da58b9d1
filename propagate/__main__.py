"""`python -m propagate` is the command `propagate`."""

from propagate.cli import main

if __name__ == "__main__":
    main()
