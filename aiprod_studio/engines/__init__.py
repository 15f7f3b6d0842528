"""Engines: what turns a plan into latents and latents into clips."""
