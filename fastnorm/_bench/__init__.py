"""The measuring that the command line and the asv benchmarks share: jobs, what they must give, a race."""
