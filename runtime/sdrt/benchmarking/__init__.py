"""How fast a bundle is on a target: what is run, when, and the statistics of it."""
