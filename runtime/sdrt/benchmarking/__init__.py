"""Speed of a bundle on a target: workloads, scenarios and statistics."""
