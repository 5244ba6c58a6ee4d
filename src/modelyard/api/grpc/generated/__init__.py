"""What `python -m modelyard.api.grpc.generate` makes of `open_inference.proto`."""
