"""`python -m propagate` is the command `propagate`."""

from propagate.cli.main import main

if __name__ == "__main__":
    main()
