"""sdrt and its peers on this machine, measured in one run."""
