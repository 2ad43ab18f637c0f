"""From a trained model to a version that a server loads: the index is chosen by measuring, and checked."""
