"""Batches to a trained state: the loop, the step with its policies, schedules, optimizers, prediction."""
