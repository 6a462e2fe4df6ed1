"""The sample service of `silence demo`: a small cafe, served by grpcio in processes of its own."""
