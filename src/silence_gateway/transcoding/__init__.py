"""HTTP/JSON to gRPC and back: descriptors, HTTP rules, messages, streams and errors."""
