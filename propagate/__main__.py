"""`python -m propagate` is the command `propagate`."""

from propagate.cli.main import program

if __name__ == "__main__":
    program()
