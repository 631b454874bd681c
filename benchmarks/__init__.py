"""What `make bench` runs: speed and memory, one JSON line per figure."""
