"""The top-k engine Orizuru."""
