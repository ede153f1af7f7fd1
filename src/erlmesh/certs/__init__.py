"""Certificates for TLS between nodes: make them, and read what is in them."""
