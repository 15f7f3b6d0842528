"""Training: the scene maker and the trainer of the AIPROD v2 family."""
