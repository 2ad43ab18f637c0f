"""From a trained model to answered queries: export, a server that speaks TensorFlow Serving's gRPC API, a client."""
