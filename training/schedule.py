"""The learning rate over a training run."""

import math

from training.settings import TrainingSettings


def learning_rate(settings: TrainingSettings, step: int, n_steps: int) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    settings : TrainingSettings
    step : int
        Number of the step over all epochs, from 0.
    n_steps : int
        Number of steps of all epochs.
    """
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "step":
        epoch = step * settings.epochs // n_steps
        return float(settings.lr * settings.step_factor ** (epoch // settings.step_epochs))
    done = (step - settings.warmup_steps) / max(n_steps - settings.warmup_steps, 1)
    return settings.lr * (1 + math.cos(math.pi * done)) / 2
