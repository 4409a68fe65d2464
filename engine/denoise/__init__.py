"""How hops are denoised, in torch: window modes, their per-session memory, static programs."""
