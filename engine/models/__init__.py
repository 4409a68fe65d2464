"""The network, in torch: imported only when a torch model is loaded."""
