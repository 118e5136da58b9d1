"""The command `propagate`: it parses, calls the public functions and prints."""
