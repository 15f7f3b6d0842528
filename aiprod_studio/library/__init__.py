"""What stays on disk: presets, the gallery and the settings inside every file."""
