import tfrs_mmse  # noqa: F401  # before TensorFlow, for which it chooses legacy Keras
