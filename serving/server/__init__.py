"""A server with TensorFlow Serving's gRPC and REST APIs, and its operations."""
