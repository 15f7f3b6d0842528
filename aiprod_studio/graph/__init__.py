"""Graphs: how a clip is made, as typed steps that are checked before any weights load."""
