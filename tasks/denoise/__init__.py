"""The denoiser: what its flows look up, send, collect and show."""
