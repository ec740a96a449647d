"""The benchmark harness behind `./run bench`: Python's standard library only."""
