"""What preprocessing costs: time and memory, beside an element-wise pipeline and a Polars program."""
