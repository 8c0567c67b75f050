"""The loop: the order of everything in a fit, and nothing else.

It knows neither losses nor devices nor callbacks by name: ``step.update`` trains on one batch, ``evaluate``
measures, ``fire`` tells who listens.
"""

from __future__ import annotations

from collections.abc import Callable

from surefast.callbacks.dispatch import Dispatch
from surefast.callbacks.event import Event
from surefast.data.dataloaders import AnyLoader
from surefast.train.grains import windows
from surefast.train.state import TrainState
from surefast.train.step import Step


def fit(
    run: TrainState,
    step: Step,
    train: AnyLoader,
    validate: Callable[[TrainState], None],
    dispatch: Dispatch,
) -> None:
    """Train until ``run.n_epoch`` epochs are done or an actor asks to stop; teardown always runs."""
    fire = dispatch.fire
    error: BaseException | None = None
    try:  # noqa: PLR1702  # a fit is one picture: epochs, batches, teardown
        fire(Event.before_fit)
        while run.epoch < run.n_epoch and not run.asked_to_stop():
            fire(Event.before_epoch)
            run.training = True
            fire(Event.before_train)
            batches = train.batches(run.seed, run.first_epoch + run.epoch, device=step.device)
            for batch in windows(batches, step.accumulate):
                run.updating = True
                step.update(run, batch)
                run.batch, run.step, run.updating = run.batch + 1, run.step + 1, False
                if run.interrupted:
                    raise KeyboardInterrupt
                if run.stop is not None:
                    break
            fire(Event.after_train)
            run.training = False
            fire(Event.before_validate)
            validate(run)
            fire(Event.after_validate)
            fire(Event.after_epoch)
            run.epoch, run.batch = run.epoch + 1, 0
    except BaseException as caught:
        error = caught
        raise
    finally:
        run.training = run.updating = False
        try:
            dispatch.close(error)
        finally:
            run.release()
