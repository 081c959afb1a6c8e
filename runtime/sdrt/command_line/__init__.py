"""The command line: parse it, make one call, print one line for an error."""
