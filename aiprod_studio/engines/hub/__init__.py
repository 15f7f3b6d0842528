"""Open weights from the Hugging Face Hub: what a download would be, the download, the copies."""
