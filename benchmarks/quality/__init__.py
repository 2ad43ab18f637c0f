"""`python -m benchmarks.quality`: how well each system retrieves, on each data set, over several seeds."""
