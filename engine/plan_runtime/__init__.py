"""Runs compiled plans of a model's networks on a CUDA device: memory, bindings, captured hops."""
