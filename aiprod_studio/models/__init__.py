"""The AIPROD v2 networks; they know nothing of training, offload or serving."""
