"""Sampling: schedules, solvers and guidance as functions of tensors; they outlive models."""
