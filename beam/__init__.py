"""From logs to TFRecords: `beam.preprocess` reads a shop's own logs, `beam.simulate` makes some up."""
