"""The web page: tabs over the queue and the gallery, in a process that never loads a model."""
