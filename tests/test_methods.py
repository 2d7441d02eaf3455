"""Optimisers against the lecture's formulas, schedules against torch's, losses against formulas of their own."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from hubel import losses
from hubel.errors import UsageError
from hubel.recipe import Recipe
from hubel.recipe.fields import Schedule
from hubel.training import criterion, optimizers
from hubel.training.averaging import Average, ema_fraction, recompute_batch_norm_stats
from hubel.training.schedule import learning_rate, reductions
from hubel.training.validation import Tally

# ------------------------------------------------------------------------------------------ optimisers


def gradient(w: np.ndarray, t: int) -> np.ndarray:
    """Of a changing quadratic, so that every step has another one."""
    return np.linspace(0.5, 2.0, w.size).reshape(w.shape) * (w - np.sin(t))


def lecture(name: str, w: np.ndarray, steps: int, lr: float, wd: float) -> np.ndarray:
    """The updates as the lecture's Python writes them; AdamW's decay "added here", after the moments."""
    v, first, second = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t in range(1, steps + 1):
        dx = gradient(w, t) + (0 if name == "adamw" else wd * w)
        if name == "sgd":
            w = w - lr * dx
        elif name == "momentum":
            v = 0.9 * v + dx
            w = w - lr * v
        elif name == "nesterov":
            v = 0.9 * v + dx
            w = w - lr * (dx + 0.9 * v)
        elif name == "rmsprop":
            second = 0.99 * second + (1 - 0.99) * dx * dx
            w = w - lr * dx / (np.sqrt(second) + 1e-7)
        else:
            first = 0.9 * first + (1 - 0.9) * dx
            second = 0.999 * second + (1 - 0.999) * dx * dx
            unbiased = first / (1 - 0.9**t), second / (1 - 0.999**t)
            w = w - lr * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-7) - (lr * wd * w if name == "adamw" else 0)
    return w


def stepped(recipe: Recipe, model: nn.Module, steps: int, lr: float, pictures: int = 1) -> None:
    """Steps of our own with the gradient of `gradient`."""
    optimizer = optimizers.build_optimizer(model, recipe.settled())
    for t in range(1, steps + 1):
        for p in model.parameters():
            p.grad = torch.from_numpy(gradient(p.detach().numpy(), t)).to(p.dtype)
        optimizers.step(optimizer, recipe.settled(), lr, pictures)


def double_linear(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(5, 3).double()


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"])
def test_each_optimiser_steps_as_the_lecture_writes_it(name):
    model, eps = double_linear(), {"eps": 1e-7} if name in ("rmsprop", "adam", "adamw") else {}
    expected = {key: lecture(name, p.detach().numpy().copy(), 7, 0.05, 0.1) for key, p in model.named_parameters()}
    stepped(Recipe(optimizer=name, weight_decay=0.1, **eps), model, 7, 0.05)
    for key, p in model.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), expected[key], rtol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_weights_in_bfloat16_move_too(name):
    model = nn.Linear(64, 64).bfloat16()
    before = model.weight.detach().clone()
    optimizer = optimizers.build_optimizer(model, recipe := Recipe(optimizer=name).settled())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizers.step(optimizer, recipe, 0.1, 1)
    assert (model.weight != before).float().mean() > 0.99


@pytest.mark.parametrize("name", ["sgd", "nesterov", "rmsprop"])
def test_decoupled_decay_acts_beside_the_step(name):
    """With a gradient that does not depend on the weights, they shrink by 1 - lr x decay and move as without decay."""
    plain, decayed = double_linear(), double_linear()
    start = decayed.weight.detach().clone()
    for model, decay in ((plain, {"weight_decay": 0.0}), (decayed, {"weight_decay": 0.3, "decay": "decoupled"})):
        recipe = Recipe(optimizer=name, **decay).settled()
        optimizer = optimizers.build_optimizer(model, recipe)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizers.step(optimizer, recipe, 0.1, 1)
    torch.testing.assert_close(decayed.weight, plain.weight - 0.1 * 0.3 * start)


def test_norms_and_biases_do_not_decay_where_only_weights_do():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    recipe = Recipe(optimizer="sgd", weight_decay=0.1, decay_on="weights").settled()
    optimizer = optimizers.build_optimizer(model, recipe)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizers.step(optimizer, recipe, 1.0, 1)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"0.weight", "3.weight"}


@given(st.floats(0, 50), st.floats(0, 50), st.integers(1, 1000))
def test_l1_and_l2_are_the_gradients_of_the_lectures_penalties(l1, l2, n):
    """lambda / n x sum |w| and lambda / n x sum w^2, differentiated by autograd."""
    model = double_linear()
    penalty = l1 / n * sum(p.abs().sum() for p in model.parameters()) + l2 / n * sum(
        p.square().sum() for p in model.parameters()
    )
    expected = torch.autograd.grad(penalty, list(model.parameters()))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizers.add_penalty_gradients(list(model.parameters()), l1=l1 / n, l2=l2 / n)
    torch.testing.assert_close([p.grad for p in model.parameters()], list(expected))


def test_a_gradient_longer_than_clip_norm_is_scaled_to_it():
    model = double_linear()
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    recipe = Recipe(optimizer="sgd", weight_decay=0.0, clip_norm=0.5).settled()
    optimizer = optimizers.build_optimizer(model, recipe)
    for p in model.parameters():
        p.grad = torch.full_like(p, 3.0)
    optimizers.step(optimizer, recipe, 1.0, 1)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert float((after - before).norm()) == pytest.approx(0.5, rel=1e-5)


# ------------------------------------------------------------------------------------------- schedules

STEPS = 10


def rates(**keys) -> list[float]:
    recipe = Recipe(epochs=12, lr=0.4, **keys).settled()
    return [learning_rate(recipe, step, STEPS) for step in range(12 * STEPS)]


def torchs(scheduler) -> list[float]:
    """The rates that one of torch's schedulers sets, stepped once per optimizer step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    made, found = scheduler(optimizer), []
    for _ in range(12 * STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return found


of = torch.optim.lr_scheduler
SAME = {
    "constant": ({}, lambda o: of.ConstantLR(o, factor=1.0)),
    "step": ({"step_epochs": 3, "gamma": 0.5}, lambda o: of.StepLR(o, 3 * STEPS, 0.5)),
    "multistep": ({"milestones": "4,7.5"}, lambda o: of.MultiStepLR(o, [40, 75])),
    "exponential": ({"gamma": 0.96, "step_epochs": 8}, lambda o: of.ExponentialLR(o, 0.96 ** (1 / (8 * STEPS)))),
    "cosine": ({"lr_end": 0.1}, lambda o: of.CosineAnnealingLR(o, 12 * STEPS, eta_min=0.04)),
    "linear": ({"lr_end": 0.25}, lambda o: of.LinearLR(o, 1.0, 0.25, 12 * STEPS)),
    "inverse_sqrt": (
        {},
        lambda o: of.LambdaLR(o, lambda step: 1 / math.sqrt(1 + step / STEPS)),
    ),  # the lecture's 1 / sqrt(t)
}


@pytest.mark.parametrize("schedule", SAME)
def test_each_schedule_equals_torchs(schedule):
    keys, scheduler = SAME[schedule]
    np.testing.assert_allclose(rates(schedule=schedule, **keys), torchs(scheduler), rtol=1e-9)


def test_onecycle_equals_torchs_with_straight_lines():
    made = of.OneCycleLR(
        torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4),
        0.4,
        total_steps=12 * STEPS,
        pct_start=0.25,
        anneal_strategy="linear",
        cycle_momentum=False,
    )
    expected = made.get_last_lr()
    for _ in range(12 * STEPS - 1):
        made.optimizer.step()
        made.step()
        expected += made.get_last_lr()
    np.testing.assert_allclose(rates(schedule="onecycle", warmup_epochs=3), expected, rtol=1e-9)


@given(st.sampled_from(Schedule.__args__), st.floats(0, 12))
def test_every_schedule_warms_up_in_a_line_and_stays_between_zero_and_the_peak(schedule, warmup):
    found = rates(schedule=schedule, warmup_epochs=warmup)
    assert all(0 <= rate <= 0.4 + 1e-12 for rate in found)
    assert len({*found}) > 1 or schedule in ("constant", "plateau")
    rise = round(warmup * STEPS)
    if schedule in ("constant", "cosine", "linear", "inverse_sqrt", "plateau"):
        np.testing.assert_allclose(found[:rise], 0.4 * np.arange(1, rise + 1) / max(rise, 1))
        assert all(a >= b for a, b in pairwise(found[rise:]))
    if schedule == "onecycle" and rise > 2:
        np.testing.assert_allclose(np.diff(found[:rise]), found[1] - found[0], rtol=1e-6)


def test_schedules_end_where_they_should():
    assert rates(schedule="cosine")[-1] < 0.4 * 3e-4
    assert rates(schedule="linear", lr_end=0.5)[-1] == pytest.approx(0.2, rel=0.02)
    assert rates(schedule="onecycle", warmup_epochs=4)[-1] == pytest.approx(0.4 * 4e-6)
    assert rates(schedule="multistep")[-1] == pytest.approx(0.004)  # half and three quarters, by a tenth each


def test_fractions_of_an_epoch_do_not_round_away():
    third = Recipe(epochs=4, lr=1.0, schedule="step", step_epochs=4 / 3, gamma=0.1).settled()
    assert [round(math.log10(learning_rate(third, step, 19))) for step in (0, 25, 26, 50, 51, 75)] == [
        0,
        0,
        -1,
        -1,
        -2,
        -2,
    ]


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), max_size=20), st.integers(1, 4))
def test_plateau_lowers_when_torchs_does(figures, patience):
    """torch counts the epochs beyond its patience: ours is theirs plus one."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = of.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=patience - 1, threshold=0)
    for seen in range(len(figures)):
        scheduler.step(figures[seen])
        assert 0.5 ** reductions(figures[: seen + 1], patience) == pytest.approx(optimizer.param_groups[0]["lr"])


# ---------------------------------------------------------------------------------------------- losses

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
SHARES = torch.rand(6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64).softmax(dim=1)
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 0.0], dtype=torch.float64)


def softmax(s: np.ndarray) -> np.ndarray:
    return np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)


def test_cross_entropy_is_the_lectures_softmax_loss():
    expected = [-math.log(math.exp(s[y]) / sum(map(math.exp, s))) for s, y in zip(LOGITS.tolist(), LABELS, strict=True)]
    torch.testing.assert_close(losses.cross_entropy(LOGITS, LABELS), torch.tensor(expected, dtype=torch.float64))
    hot = functional.one_hot(LABELS, 4)
    torch.testing.assert_close(losses.cross_entropy(LOGITS, hot), losses.cross_entropy(LOGITS, LABELS))
    smooth = hot.double() * 0.9 + 0.1 / 4
    torch.testing.assert_close(
        losses.cross_entropy(LOGITS, LABELS, smoothing=0.1), losses.cross_entropy(LOGITS, smooth)
    )
    mixed = -(SHARES.numpy() * np.log(softmax(LOGITS.numpy()))).sum(axis=1)
    torch.testing.assert_close(losses.cross_entropy(LOGITS, SHARES), torch.from_numpy(mixed))


def test_hinge_is_the_lectures_sum_of_margins():
    expected = [
        sum(max(0.0, s[j] - s[y] + 1) for j in range(4) if j != y) for s, y in zip(LOGITS.tolist(), LABELS, strict=True)
    ]
    torch.testing.assert_close(losses.hinge(LOGITS, LABELS), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(
        losses.hinge(LOGITS, LABELS), 4 * functional.multi_margin_loss(LOGITS, LABELS, reduction="none")
    )
    with pytest.raises(UsageError, match="hinge loss needs one class per picture"):
        losses.hinge(LOGITS, SHARES)


def test_binary_cross_entropy_sums_over_classes():
    targets = (SHARES > 0.25).double()
    s = 1 / (1 + np.exp(-LOGITS.numpy()))
    expected = -(targets.numpy() * np.log(s) + (1 - targets.numpy()) * np.log(1 - s)).sum(axis=1)
    torch.testing.assert_close(losses.binary_cross_entropy(LOGITS, targets), torch.from_numpy(expected))
    hot = functional.one_hot(LABELS, 4)
    torch.testing.assert_close(losses.binary_cross_entropy(LOGITS, LABELS), losses.binary_cross_entropy(LOGITS, hot))


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", losses.PLAIN)
def test_gradients_of_losses_agree_with_differences(name, weight):
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: losses.PLAIN[name](s, LABELS, weight), (logits,))


def test_guessing_is_the_loss_of_equal_logits():
    for name, loss in losses.PLAIN.items():
        assert criterion.chance_loss(name, 4) == pytest.approx(float(loss(torch.zeros(6, 4), LABELS).mean()))


def test_class_weights_average_to_one_over_the_pictures():
    labels, classes = np.array([0] * 8 + [1] * 4 + [2] * 2), ("cat", "dog", "eel")
    for given_weight in ("balanced", "sqrt", "dog:3,eel:0.5"):
        weights = criterion.class_weights(Recipe(class_weight=given_weight), classes, labels)
        assert float(weights[labels].mean()) == pytest.approx(1)
    balanced = criterion.class_weights(Recipe(class_weight="balanced"), classes, labels)
    assert (balanced * torch.tensor([8, 4, 2])).tolist() == pytest.approx([14 / 3] * 3)
    roots = criterion.class_weights(Recipe(class_weight="sqrt"), classes, labels)
    assert (roots.square() * torch.tensor([8, 4, 2])).std() == pytest.approx(0, abs=1e-6)
    named = criterion.class_weights(Recipe(class_weight="dog:3"), classes, labels)
    assert (named / named[0]).tolist() == pytest.approx([1, 3, 1])
    assert criterion.class_weights(Recipe(class_weight="none"), classes, labels) is None
    with pytest.raises(UsageError, match=r"no class 'dgo'; did you mean dog\?"):
        criterion.class_weights(Recipe(class_weight="dgo:2"), classes, labels)
    with pytest.raises(UsageError, match="gives every class the weight 0"):
        criterion.class_weights(Recipe(class_weight="cat:0,dog:0,eel:0"), classes, labels)


# ------------------------------------------------------------------------------- averages, figures


def normed() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, 2))


def test_averages_follow_the_formula_and_swap_without_a_trace():
    model, shadow = normed(), None
    average = Average(model)
    shadow = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(30):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in model.named_parameters():
            shadow[name] = decay * shadow[name] + (1 - decay) * value.detach()
        average.update(model, ema_fraction(0.9, step))
    for name, _ in model.named_parameters():
        torch.testing.assert_close(average.state[name], shadow[name])
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with average.swapped_into(model):
        torch.testing.assert_close(model[0].weight.detach(), shadow["0.weight"])
    with pytest.raises(RuntimeError, match="boom"), average.swapped_into(model):
        raise RuntimeError("boom")
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_equal_shares_give_the_plain_mean_and_tied_weights_swap_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    average, seen = Average(model), []
    for k in range(4):
        nn.init.normal_(model[0].weight)
        seen.append(model[0].weight.detach().clone())
        average.update(model, 1 / (k + 1))
    with average.swapped_into(model):
        torch.testing.assert_close(model[1].weight.detach(), torch.stack(seen).mean(dim=0))
    assert torch.equal(model[0].weight, seen[-1])


def test_recomputed_statistics_are_means_over_the_batches_and_modes_return():
    model = normed().train()
    model[2].eval()
    batches = [torch.randn(8, 1, 4, 4) for _ in range(5)]
    recompute_batch_norm_stats(model, [model[1]], batches)
    maps = [model[0](x) for x in batches]
    torch.testing.assert_close(model[1].running_mean, torch.stack([m.mean(dim=(0, 2, 3)) for m in maps]).mean(dim=0))
    torch.testing.assert_close(model[1].running_var, torch.stack([m.var(dim=(0, 2, 3)) for m in maps]).mean(dim=0))
    assert (model.training, model[1].training, model[2].training) == (True, True, False)
    assert model[1].momentum == 0.1


def test_figures_of_an_epoch_agree_with_scikit_learn():
    from sklearn import metrics

    generator = torch.Generator().manual_seed(4)
    logits, labels = torch.randn(200, 5, generator=generator), torch.randint(4, (200,), generator=generator)
    sets = torch.rand(200, 5, generator=generator) < 0.4
    for targets, found, several in ((labels, logits.argmax(dim=1), False), (sets.long(), (logits > 0).long(), True)):
        tally = Tally.empty(5)
        for part in range(0, 200, 64):
            some = slice(part, part + 64)
            tally.add(torch.ones(len(logits[some])), logits[some], targets[some])
        figures = tally.figures()
        occurring = None if several else [0, 1, 2, 3]
        assert figures.top1 == pytest.approx(metrics.accuracy_score(targets, found))
        f1 = metrics.f1_score(targets, found, average="macro", labels=occurring)
        assert figures.macro_f1 == pytest.approx(f1)
        recall = metrics.recall_score(targets, found, average="macro", labels=occurring)
        assert figures.balanced_accuracy == pytest.approx(recall)
        assert (figures.loss, figures.monitored("loss"), figures.monitored("macro_f1")) == (1.0, -1.0, figures.macro_f1)


def test_old_recipes_train_as_before():
    """The values that version 0.1 had without a key for them."""
    settled = dataclasses.replace(Recipe(), epochs=3).settled()
    assert (settled.optimizer, settled.schedule, settled.loss, settled.ema) == (
        "nesterov",
        "cosine",
        "cross_entropy",
        0.0,
    )
