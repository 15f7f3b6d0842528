"""Pictures, video and sound files: reading, writing and resizing, without torch."""
