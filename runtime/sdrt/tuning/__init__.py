"""Every target of a bundle measured on this machine, for `auto` to take the fastest."""
