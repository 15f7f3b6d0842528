"""Jobs: a queue that survives whatever is killed, and the worker that renders what is in it."""
