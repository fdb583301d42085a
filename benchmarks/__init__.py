"""What `make bench` measures: every figure stands beside a peer's, after a check that both compute the same."""
