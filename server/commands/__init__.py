"""The commands beside `lipwire serve`."""
