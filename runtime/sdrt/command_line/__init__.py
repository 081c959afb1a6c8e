"""What a user types: parse it, make one call, print one line for an error."""
