"""A Llama-architecture language model in NumPy: GGUF reader, tokenizer, forward pass; the source of real inputs."""
