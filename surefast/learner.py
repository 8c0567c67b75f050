"""Learner: the one facade. Every method hands over to the room that does the work."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from surefast.callbacks.dispatch import Dispatch
from surefast.callbacks.observers import Progress, Recorder
from surefast.data.dataloaders import AnyLoader, DataLoaders
from surefast.errors import ArgumentError
from surefast.keys.generator import preserved
from surefast.keys.key import DEFAULT_SEED
from surefast.keys.settings import Determinism, Settings, applied, read_variables
from surefast.recipe.call import Call, call_of, current_call, declared
from surefast.recipe.digest import digest
from surefast.recipe.environment import DECIDING_VARIABLES, environment
from surefast.recipe.recipe import Recipe
from surefast.recipe.value import Value
from surefast.run.folder import RunFolder
from surefast.task.metric import as_metric, distinct
from surefast.train.average import EMA
from surefast.train.fitting import FitArguments, Training
from surefast.train.grains import checked_grains
from surefast.train.interrupt import interruptible
from surefast.train.loop import fit as fit_loop
from surefast.train.lr_find import check_range, range_test, untouched
from surefast.train.lr_suggest import Suggestions, suggest, valley
from surefast.train.optimizer import (
    AdamW,
    freeze_to,
    make_optimizer,
    optimizer_facts,
    set_lr,
    spread_lrs,
    usable_curves,
)
from surefast.train.parts import (
    check_loss_trains,
    checked_epochs,
    checked_seed,
    choose_device,
    choose_loss,
    listed,
    make_model,
    note_loss,
    trainable_params,
)
from surefast.train.policies import Policies, sort_out
from surefast.train.precision import PrecisionName
from surefast.train.predict import Evaluator, tta_predictions
from surefast.train.record import RunRecord
from surefast.train.schedule import Curve, SchedExp, flat_cos, one_cycle, sgdr
from surefast.train.summary import summarise
from surefast.train.weights import fit_state, load_state, save_state

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Lr = float | slice | Sequence[float]


@declared(neutral={"run_dir", "path", "model_dir"}, skip={"defaults"})
class Learner:
    """Data, a model, a loss and an optimizer, and the ways to train and use them.

    Args:
        dls: training and validation data.
        model: a module, or a function without arguments that makes one under the run's ``init`` key.
        loss_func: the loss; by default the one that the target block brought.
        opt_func: a ``torch.optim`` class or a function of parameter groups.
        lr: learning rate where a fit names none.
        splitter: model to a list of parameter lists, from input to output; by default one group.
        cbs: observers, actors and policies.
        metrics: functions of (prediction, target), ``Metric`` or torchmetrics objects.
        path: where ``save`` and ``load`` keep weights; by default the data's path.
        model_dir: folder for weights under ``path``.
        wd: weight decay; by default the optimizer's own.
        wd_bn_bias: whether norms and biases decay too.
        train_bn: whether norm layers of frozen groups keep training, statistics included.
        moms: momentum at the start, the middle and the end of one-cycle.
        seed: decides every random draw of the run.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"`` with loss scaling.
        grains: parts in which a batch is computed; can change results of batch norm, never chosen for you.
        determinism: ``"strict"`` refuses operations that cannot repeat, ``"warn"`` goes on, ``"off"``.
        threads: CPU threads of one operation; by default what the process has.
        defaults: ``"shown"``, ``"explicit"`` to refuse values nobody chose, or a ``defaults.toml``.
        run_dir: folder in which runs are kept; by default ``runs``.
        device: ``"cpu"``, ``"cuda"``, ``"mps"``; by default the data's device.

    Raises:
        TaskError: there is no loss, or the model does not fit the target.
        CallbackError: ``cbs`` holds something else, or two that cannot both hold.
    """

    def __init__(
        self,
        dls: DataLoaders,
        model: nn.Module | Callable[[], nn.Module],
        loss_func: Callable[..., Any] | None = None,
        opt_func: Callable[..., torch.optim.Optimizer] = AdamW,
        lr: float = 1e-3,
        splitter: Callable[[nn.Module], list[list[nn.Parameter]]] | None = None,
        cbs: Any = None,
        metrics: Any = None,
        path: str | Path | None = None,
        model_dir: str | Path = "models",
        wd: float | None = None,
        wd_bn_bias: bool = False,
        train_bn: bool = True,
        moms: tuple[float, float, float] = (0.95, 0.85, 0.95),
        *,
        seed: int = DEFAULT_SEED,
        precision: PrecisionName = "fp32",
        grains: int = 1,
        determinism: Determinism = "strict",
        threads: int | None = None,
        defaults: str | Path = "shown",
        run_dir: str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        call = current_call()
        self.dls, self.opt_func, self.lr, self.wd, self.moms = dls, opt_func, lr, wd, moms
        self.wd_bn_bias, self.train_bn, self.seed = wd_bn_bias, train_bn, checked_seed(seed)
        self.grains = checked_grains(grains)
        self.precision = precision
        self.record = RunRecord(run_dir, defaults)
        self.path, self.model_dir = Path(path if path is not None else dls.path), Path(model_dir)
        self.device = choose_device(device, dls.device)
        self.settings = Settings(
            determinism=determinism, threads=torch.get_num_threads() if threads is None else threads
        )
        self.loss_func = choose_loss(loss_func, dls).to(self.device)
        self.metrics = distinct([as_metric(m, self.loss_func) for m in listed(metrics)])
        self.cbs: list[Any] = listed(cbs)
        self.policies, _ = sort_out(self.cbs, precision=precision, device=self.device)
        self.model = make_model(model, seed).to(self.device)
        self.groups = (splitter or trainable_params)(self.model)
        check_loss_trains(self.loss_func, self.groups)
        self.opt: torch.optim.Optimizer | None = None
        self.average: AveragedModel | None = None
        self.recorder = Recorder()
        self._initial = self.model if isinstance(model, nn.Module) else None
        self.frozen = 0
        self._averaging: EMA | None = None
        self._loaded: tuple[Path, str] | None = None
        self._first_dls = dls
        self._bar = True
        call.settle("threads", self.settings.threads, "what this process has")
        call.settle("device", str(self.device), "the device of the data")
        call.settle("loss_func", self.loss_func, "from the target block")
        note_loss(call, loss_func, self.loss_func)
        self._note_precision(call, self.policies, "")

    # What is known about the run ---------------------------------------------------------------------

    @property
    def run(self) -> RunFolder | None:
        """The folder of the run, once there was a fit."""
        return self.record.folder

    @property
    def evaluated(self) -> nn.Module:
        """The model that is validated, asked and saved: the average of the weights where one is kept."""
        return self.average.module if self.average is not None else self.model

    @property
    def recipe(self) -> Recipe:
        """Every value that can change the result, with its origin; fixed at the first step."""
        if self.record.recipe is not None:
            return self.record.recipe
        setup = call_of(self)
        assert setup is not None
        facts = {name: Value(value, "inferred") for name, value in self.dls.facts().items()}
        facts["parameters"] = Value(sum(p.numel() for p in self.model.parameters()), "inferred")
        facts["initial_weights"] = Value(digest(self.model, repr), "inferred")
        with self._settled():  # so that the flags are those of the fits
            variables = read_variables(DECIDING_VARIABLES)
            return Recipe(setup, facts, environment(self.device, variables))

    def summary(self) -> str:
        """Modules with output shape and number of parameters, for one batch of the training data."""
        return summarise(self.model, self.dls.train.batch_at(self.seed, 0, 0, self.device).x)

    # Training ----------------------------------------------------------------------------------------

    @declared(skip={"self"})
    def fit(
        self,
        n_epoch: int,
        lr: Lr | None = None,
        wd: float | None = None,
        cbs: Any = None,
        reset_opt: bool = False,
    ) -> None:
        """Train at a constant learning rate.

        Args:
            n_epoch: passes over the training data.
            lr: learning rate; ``slice(a, b)`` spreads over the parameter groups; by default the Learner's.
            wd: weight decay; by default the Learner's.
            cbs: further callbacks and policies, for this fit only.
            reset_opt: start with a fresh optimizer instead of the last fit's.
        """
        with self._fitting(n_epoch, {}, lrs=self._lrs(lr, "lr"), wd=wd, cbs=cbs, reset_opt=reset_opt) as args:
            fit_loop(*args)

    @declared(skip={"self"})
    def fit_one_cycle(
        self,
        n_epoch: int,
        lr_max: Lr | None = None,
        div: float = 25.0,
        div_final: float = 1e5,
        pct_start: float = 0.25,
        wd: float | None = None,
        moms: tuple[float, float, float] | None = None,
        cbs: Any = None,
        reset_opt: bool = False,
    ) -> None:
        """Train with the 1cycle policy (Smith and Topin: Super-Convergence, arXiv 1708.07120).

        Args:
            n_epoch: passes over the training data.
            lr_max: learning rate at the top; ``slice(a, b)`` spreads over the groups.
            div: the first learning rate is ``lr_max / div``.
            div_final: the last one is ``lr_max / div_final``.
            pct_start: share of the fit in which the rate rises.
            wd: see ``fit``.
            moms: momentum at start, top and end; by default the Learner's.
            cbs: see ``fit``.
            reset_opt: see ``fit``.
        """
        current_call().settle("moms", self.moms, "the Learner's")
        curves = one_cycle(self._lrs(lr_max, "lr_max"), div, div_final, pct_start, moms or self.moms)
        with self._fitting(n_epoch, curves, wd=wd, cbs=cbs, reset_opt=reset_opt) as args:
            fit_loop(*args)

    @declared(skip={"self"})
    def fit_flat_cos(
        self,
        n_epoch: int,
        lr: Lr | None = None,
        div_final: float = 1e5,
        pct_start: float = 0.75,
        wd: float | None = None,
        cbs: Any = None,
        reset_opt: bool = False,
    ) -> None:
        """Train at a flat rate for ``pct_start`` of the fit, then down a cosine to ``lr / div_final``.

        Args:
            n_epoch: passes over the training data.
            lr: the flat learning rate.
            div_final: the last rate is ``lr / div_final``.
            pct_start: share of the fit at the flat rate.
            wd: see ``fit``.
            cbs: see ``fit``.
            reset_opt: see ``fit``.
        """
        curves = flat_cos(self._lrs(lr, "lr"), div_final, pct_start)
        with self._fitting(n_epoch, curves, wd=wd, cbs=cbs, reset_opt=reset_opt) as args:
            fit_loop(*args)

    @declared(skip={"self"})
    def fit_sgdr(
        self,
        n_cycles: int,
        cycle_len: int,
        lr_max: Lr | None = None,
        cycle_mult: int = 2,
        wd: float | None = None,
        cbs: Any = None,
        reset_opt: bool = False,
    ) -> None:
        """Train with warm restarts (Loshchilov and Hutter: SGDR, arXiv 1608.03983).

        Args:
            n_cycles: number of cosine cycles.
            cycle_len: epochs of the first one.
            lr_max: learning rate at the start of each cycle.
            cycle_mult: each cycle is so many times longer than the one before.
            wd: see ``fit``.
            cbs: see ``fit``.
            reset_opt: see ``fit``.
        """
        n_epoch, curves = sgdr(n_cycles, cycle_len, self._lrs(lr_max, "lr_max"), cycle_mult)
        with self._fitting(n_epoch, curves, wd=wd, cbs=cbs, reset_opt=reset_opt) as args:
            fit_loop(*args)

    @declared(skip={"self"})
    def fine_tune(
        self,
        epochs: int,
        base_lr: float = 2e-3,
        freeze_epochs: int = 1,
        lr_mult: float = 100,
        pct_start: float = 0.3,
        div: float = 5.0,
        cbs: Any = None,
    ) -> None:
        """Train the head alone for ``freeze_epochs``, then everything for ``epochs``, as fastai does.

        Args:
            epochs: epochs of the second part.
            base_lr: learning rate of the first part; the second uses half of it.
            freeze_epochs: epochs of the first part; 0 leaves it out.
            lr_mult: the first group learns so many times slower than the last in the second part.
            pct_start: share of the second part in which the rate rises.
            div: the second part starts at its top rate divided by this.
            cbs: further callbacks and policies for both parts.
        """
        checked_epochs("epochs", epochs)
        checked_epochs("freeze_epochs", freeze_epochs, least=0)
        if freeze_epochs:
            self.freeze()
            self.fit_one_cycle(freeze_epochs, slice(base_lr), pct_start=0.99, cbs=cbs)
        self.unfreeze()
        half = base_lr / 2
        self.fit_one_cycle(epochs, slice(half / lr_mult, half), pct_start=pct_start, div=div, cbs=cbs)

    def freeze_to(self, n: int) -> None:
        """Train only the parameter groups from ``n`` on (negative counts from the end); resets the optimizer.

        With ``train_bn``, norm layers of frozen groups go on training.
        """
        self.frozen = freeze_to(self.model, self.groups, n, self.train_bn)
        self.opt = None

    def freeze(self) -> None:
        """Train only the last parameter group."""
        self.freeze_to(-1)

    def unfreeze(self) -> None:
        """Train all parameter groups."""
        self.freeze_to(0)

    @declared(skip={"self"})
    def lr_find(
        self,
        start_lr: float = 1e-7,
        end_lr: float = 10.0,
        num_it: int = 100,
        stop_div: bool = True,
        show_plot: bool = True,
        suggest_funcs: Any = valley,
    ) -> Suggestions:
        """Try learning rates from small to large and suggest one; leaves no trace in anything.

        Args:
            start_lr: first rate.
            end_lr: last rate.
            num_it: steps.
            stop_div: stop when the loss is four times its best.
            show_plot: whether ``.figure`` of the result is drawn.
            suggest_funcs: one or several of ``valley``, ``slide``, ``minimum``, ``steep``.

        Returns:
            The suggestions by name, with the curve and its picture.
        """
        check_range(start_lr, end_lr, num_it)
        policies, _ = sort_out(self.cbs, precision=self.precision, device=self.device)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._settled())
            stack.enter_context(preserved(self.device))
            stack.enter_context(untouched(self.model))
            training = replace(self._training(policies), average=None)
            run = training.state(self._optimizer(), self.dls.train, None, 1)
            run.n_batch = num_it
            training.set_modes()
            step = training.step(run, self.dls.train, {"lr": SchedExp(start_lr, end_lr)}, lambda _: None)
            curve = range_test(run, step, self.dls.train, num_it=num_it, stop_div=stop_div)
        return suggest(curve.lrs, curve.losses, listed(suggest_funcs), num_it=num_it, show_plot=show_plot)

    # Using what was trained ---------------------------------------------------------------------------

    @declared(skip={"self"})
    def validate(self, ds_idx: int = 1, dl: AnyLoader | None = None) -> dict[str, float]:
        """Loss and metrics by name.

        Args:
            ds_idx: 0 for the training data, 1 for the validation data.
            dl: another loader with targets.
        """
        with self._settled():
            return self._evaluator().evaluate(self._chosen(ds_idx, dl), self.metrics)

    @declared(skip={"self"})
    def get_preds(
        self,
        ds_idx: int = 1,
        dl: AnyLoader | None = None,
        with_decoded: bool = False,
        with_loss: bool = False,
    ) -> tuple[Any, ...]:
        """Activated predictions and targets (None without labels), in the order of the items.

        Args:
            ds_idx: 0 for the training data, 1 for the validation data.
            dl: another loader, such as ``dls.test_dl(items)``.
            with_decoded: add the decoded predictions, such as class positions.
            with_loss: add the loss of each sample.
        """
        loader = self._chosen(ds_idx, dl)
        with self._settled():
            found = self._evaluator().predictions(loader, with_loss=with_loss)
        out: tuple[Any, ...] = (found.preds, found.targets)
        if with_decoded:
            out += (self.loss_func.decodes(found.preds),)
        return (*out, found.losses) if with_loss else out

    @declared(skip={"self"})
    def predict(self, item: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """What the model says of one item: decoded, as position or value, and all probabilities.

        Args:
            item: what the data block's items are, such as a path or an image.
        """
        preds, *_ = self.get_preds(dl=self.dls.test_dl([item], num_workers=0))
        decoded = self.loss_func.decodes(preds)[0]
        return self.dls.decode_target(decoded), decoded, preds[0]

    @declared(skip={"self"})
    def tta(
        self, ds_idx: int = 1, dl: AnyLoader | None = None, n: int = 4, beta: float = 0.25
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Predictions averaged over augmented versions of each item, and the targets.

        Args:
            ds_idx: 0 for the training data, 1 for the validation data.
            dl: another loader.
            n: number of augmented passes.
            beta: share of the plain prediction.
        """
        plain = self._chosen(ds_idx, dl)
        with self._settled():
            found = tta_predictions(self._evaluator(), plain, plain.augmented(), n=n, beta=beta)
        return found.preds, found.targets

    @declared(skip={"self"})
    def show_results(self, ds_idx: int = 1, dl: AnyLoader | None = None, max_n: int = 9) -> Figure:
        """A picture of inputs with their targets and predictions.

        Args:
            ds_idx: 0 for the training data, 1 for the validation data.
            dl: another loader.
            max_n: number of samples.
        """
        loader = self._chosen(ds_idx, dl)
        with self._settled():
            batch, output = next(iter(self._evaluator().outputs(loader)))
        decoded = self.loss_func.decodes(self.loss_func.activation(output))
        return self.dls.show_results(batch, decoded, max_n=max_n)

    @declared(skip={"self"})
    def save(self, file: str | Path) -> Path:
        """Write the weights to ``path/model_dir/file.safetensors`` and return that path.

        Args:
            file: a name, or a path that ends in ``.safetensors``.
        """
        target = self._weights_path(file)
        save_state(self.evaluated, target)
        return target

    @declared(skip={"self"})
    def load(self, file: str | Path, strict: bool = True) -> Learner:
        """Read weights that ``save`` wrote, or any safetensors or weights-only ``.pth`` file.

        Args:
            file: a name, or a path with its ending.
            strict: whether every weight of the model must be in the file, and no other.
        """
        path = self._weights_path(file)
        fit_state(self.model, load_state(path), strict=strict)
        self.opt = self.average = self._averaging = None
        self._loaded = path, digest(self.model, repr)
        return self

    @contextlib.contextmanager
    def no_bar(self) -> Iterator[Learner]:
        """Train without progress on the screen for a block."""
        before, self._bar = self._bar, False
        try:
            yield self
        finally:
            self._bar = before

    # How a fit is put together -------------------------------------------------------------------------

    @contextlib.contextmanager
    def _fitting(
        self,
        n_epoch: int,
        curves: Mapping[str, Curve],
        *,
        lrs: list[float] | None = None,
        wd: float | None,
        cbs: Any,
        reset_opt: bool,
    ) -> Iterator[FitArguments]:
        """Everything the loop needs, ready before step 0 and put away afterwards."""
        given = [*self.cbs, *listed(cbs)]
        policies, callbacks = sort_out(given, precision=self.precision, device=self.device)
        call = current_call()
        if self.opt is None or reset_opt or wd is not None:
            self.opt = self._optimizer(wd)
            if not reset_opt:
                call.infer("reset_opt", True, "the first fit since the parameter groups were made or frozen")
        for name, value in optimizer_facts(self.opt).items():
            call.infer(f"optimizer_{name}", value, "what opt_func comes to")
        self._note_precision(call, policies, self.policies.precision)
        curves = usable_curves(self.opt, curves)
        if lrs is not None:
            set_lr(self.opt, lrs)
        self._average(policies)
        training = self._training(policies)
        run = training.state(
            self.opt, self.dls.train, self.dls.valid, n_epoch,
            first_epoch=self.record.epochs, step=self.record.steps,
        )  # fmt: skip
        shown = [Progress()] if self._bar else []
        strict = self.settings.determinism == "strict"
        dispatch = Dispatch([*callbacks, self.recorder, *shown], run, self.record.report, strict=strict)
        self._note_changes(call)
        folder = self.record.open(self.recipe, call, frozen=self.frozen, initial=self._initial)
        self.recorder.attach(folder)
        with self._settled(), preserved(self.device), interruptible(run):
            training.set_modes()
            step = training.step(run, self.dls.train, curves, dispatch.fire)
            try:
                yield run, step, self.dls.train, training.validation(self.dls.valid), dispatch
            finally:
                self.record.close(run, self.evaluated, dispatch.summary())

    def _training(self, policies: Policies) -> Training:
        return Training(
            model=self.model,
            groups=self.groups,
            frozen=self.frozen,
            loss=self.loss_func,
            metrics=self.metrics,
            policies=policies,
            device=self.device,
            seed=self.seed,
            grains=self.grains,
            train_bn=self.train_bn,
            average=self.average,
        )

    def _optimizer(self, wd: float | None = None) -> torch.optim.Optimizer:
        decay = self.wd if wd is None else wd
        return make_optimizer(
            self.opt_func, self.groups, self._lrs(self.lr), decay, self.wd_bn_bias, self.model
        )

    def _note_precision(self, call: Call, policies: Policies, known: str) -> None:
        """Record what ``MixedPrecision()`` comes to here, and say it once."""
        if policies.mixed is None or policies.precision == known:
            return
        call.infer("precision", policies.precision, f"{policies.mixed!r} on {self.device.type}")
        if policies.mixed.precision is None:
            sys.stdout.write(f"MixedPrecision() is {policies.precision} on {self.device.type}\n")

    def _note_changes(self, call: Call) -> None:
        """Record what was changed on the Learner since it was made: it counts from this fit on."""
        setup = call_of(self)
        while setup is not None and setup.made is not None:
            setup = setup.made
        assert setup is not None
        for name in ("lr", "moms", "seed", "grains", "wd", "wd_bn_bias", "train_bn"):
            if name in setup.values and getattr(self, name) != setup.values[name].value:
                call.infer(f"learner_{name}", getattr(self, name), "changed on the Learner")
        if self.dls is not self._first_dls:
            call.infer("learner_dls", self.dls.facts(), "replaced on the Learner")
        if self._loaded is not None:
            call.infer("loaded", self._loaded[1], f"weights of {self._loaded[0]}, read before this fit")
            self._loaded = None

    def _average(self, policies: Policies) -> None:
        """Keep the average over fits of the same policy; begin a new one where it differs."""
        if policies.average is not self._averaging:
            self._averaging = policies.average
            self.average = policies.average.start(self.model) if policies.average is not None else None

    def _evaluator(self) -> Evaluator:
        return self._training(self.policies).evaluator()

    def _settled(self) -> AbstractContextManager[None]:
        return applied(self.settings)

    def _lrs(self, lr: Lr | None, name: str = "") -> list[float]:
        """One rate for each group; what the argument ``name`` left open is noted in the recipe."""
        if name:
            current_call().settle(name, self.lr, "the Learner's")
        return spread_lrs(self.lr if lr is None else lr, len(self.groups))

    def _chosen(self, ds_idx: int, dl: AnyLoader | None) -> AnyLoader:
        """The loader given, or one of the data in the order of its items, nothing dropped or augmented."""
        if dl is not None:  # not its truth: a loader without batches is false
            return dl
        loaders = self.dls.loaders
        if not 0 <= ds_idx < len(loaders):
            what = "there is no validation data" if ds_idx == 1 else f"there is no data set {ds_idx}"
            raise ArgumentError(
                what,
                do="use ds_idx=0 for the training data, pass dl=, or make the data with a validation set",
            )
        return loaders[ds_idx].plain()

    def _weights_path(self, file: str | Path) -> Path:
        """A file with an ending is a path; a plain name is a file of ``path/model_dir``."""
        if Path(file).suffix in {".safetensors", ".pth", ".pt"}:
            return Path(file)
        return self.path / self.model_dir / f"{file}.safetensors"
