"""From logs to TFRecords: `beam.preprocess` reads a shop's own logs, `beam.simulate` makes some up."""

import logging

# Beam warns at every start that BigQuery cannot be used without its `gcp` libraries, whether or not anybody wants it.
logging.getLogger().addFilter(
    lambda record: not str(record.msg).startswith("apitools not found")
)
