"""Several processes: the same loss curve as one, one voice, a run that survives a worker's death; and short memory."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from forked import Forked
from hubel.cli import main
from hubel.data import Augmentation, load, open_data
from hubel.data.batches import Share, training_batches
from hubel.errors import UsageError
from hubel.seeding import seeded
from hubel.terminal import shortage
from hubel.training.checks import check_fits
from hubel.training.distributed import rendezvous
from hubel.training.distributed.ranks import Ranks
from hubel.training.loop import train, train_steps
from hubel.training.records import MicrobatchHalved, Step
from hubel.training.run import Run
from runs import run_info
from two_processes import KEPT, RECIPE, THAWING, Small, curve, figures

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def digits():
    return load(open_data("digits"), size=8, channels=1)


def environment(rank: int | str, port: int | str) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found, in each of them."""
    folder, port = tmp_path_factory.mktemp("two"), free_port()
    command = [str(HERE / "two_processes.py"), str(folder)]
    processes = [Forked(command, **environment(rank, port)) for rank in range(2)]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


# ------------------------------------------------------------------------------------------ the same numbers


def test_two_processes_draw_the_curve_of_one_that_accumulates(two):
    """Batch norm, augmentation, dropout, clipping and averaged weights on."""
    alone = curve(RECIPE.with_(accumulate=2), 0.3)
    torch.testing.assert_close(torch.tensor(two[0]["own statistics"]), torch.tensor(alone), rtol=0, atol=1e-4)
    assert two[0] == two[1]


def test_synchronised_batch_norm_draws_the_curve_of_the_whole_batch(two):
    alone = curve(RECIPE, 0.0)
    torch.testing.assert_close(torch.tensor(two[0]["common statistics"]), torch.tensor(alone), rtol=0, atol=1e-4)
    apart = curve(RECIPE.with_(accumulate=2), 0.0)
    assert (torch.tensor(apart) - torch.tensor(alone)).abs().max() > 1e-3  # else nothing was shown


def test_two_processes_unfreeze_as_one_does(two):
    """The head alone in the first epoch, everything in the second: other gradients are summed."""
    alone = curve(THAWING.with_(accumulate=2), 0.3)
    torch.testing.assert_close(torch.tensor(two[0]["thawing"]), torch.tensor(alone), rtol=0, atol=1e-4)
    assert two[0]["thawing"] == two[1]["thawing"]


def test_two_processes_train_a_head_on_kept_features_as_one_does(two):
    alone = curve(KEPT.with_(accumulate=2), 0.3)
    torch.testing.assert_close(torch.tensor(two[0]["kept features"]), torch.tensor(alone), rtol=0, atol=1e-4)
    assert two[0]["kept features"] == two[1]["kept features"]


def test_sharded_validation_gives_the_same_figures(two):
    assert two[0]["figures"] == two[1]["figures"] == figures()


def test_shares_are_augmented_as_in_the_whole_batch(digits):
    augmentation = Augmentation.measured(
        digits.train,
        crop_padding=1,
        flip=True,
        rotate=10,
        brightness=0.3,
        noise=0.1,
        erasing=0.5,
        mixup=0.3,
        cutmix=1.0,
        policy="randaugment",
    )

    def batch(share):
        return next(
            training_batches(
                digits.train, 96, digits.preprocessing, augmentation, seed=1, epoch=2, first=3, classes=10, share=share
            )
        )

    shares = [batch(Share(index, 3)) for index in range(3)]
    for whole, parts in zip(batch(Share()), zip(*shares, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)


def test_a_batch_that_cannot_be_shared_is_one_sentence(digits):
    with pytest.raises(UsageError, match=r"batch=240 cannot be shared equally by 7 processes; use batch=238 or 245"):
        check_fits(RECIPE, digits, Ranks(0, 7))


# ------------------------------------------------------------------------------------------ one run


@pytest.mark.usefixtures("kernels")
def test_a_killed_worker_is_replaced_and_the_run_goes_on(tmp_path):
    """One worker dies by SIGKILL once a checkpoint is there; torchrun starts both again, and they end the same run."""
    command = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
        "-m",
        "hubel",
        "train",
        "digits",
        "epochs=3",
        "threads=1",
        "checkpoint_seconds=0",
        "--name",
        "run",
        "--project",
        str(tmp_path),
    ]
    run = tmp_path / "run"
    out = tmp_path / "out.txt"
    with out.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )
        while not (run / "last.safetensors").exists():
            assert process.poll() is None, out.read_text()
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        os.kill(worker_of(process.pid, rank=1), signal.SIGKILL)
        code = process.wait(200)
    said = out.read_text()
    assert code == 0, said
    assert json.loads((run / "summary.json").read_text())["epochs"] == 3
    assert [path.name for path in tmp_path.glob("*/run.json")] == ["run.json"]
    lines = [line for line in said.splitlines() if re.match(r" +\d/3 ", line)]
    assert [line.split("/")[0].strip() for line in lines] == ["1", "2", "3"], said
    assert said.count("report.html") == 1
    assert said.count("hubel: one of the 2 processes has ended") <= 1


def worker_of(agent: int, rank: int) -> int:
    """The process that torchrun has started with a rank."""
    for number in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{number}/environ").read_bytes().split(b"\0"):
            return int(number)
    raise AssertionError(f"torchrun {agent} has no worker of rank {rank}")


@pytest.fixture
def lonely(tmp_path, monkeypatch, capfd):
    """What a process of two says that the other one leaves alone, through whatever writes to standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rendezvous, "PATIENCE", 0.6)

    def said(rank: str, port: int | str) -> str:
        for name, value in environment(rank, port).items():
            monkeypatch.setenv(name, value)
        assert main(["train", "digits"]) == 2
        assert not list(tmp_path.iterdir())
        return capfd.readouterr().err

    return said


@pytest.mark.parametrize(("rank", "other", "why"), [("0", "1", ""), ("1", "0", r" \(connection refused\)")])
def test_a_missing_rank_is_named_while_it_is_waited_for_and_in_the_end(rank, other, why, lonely):
    port = free_port()
    waiting, over = lonely(rank, port).splitlines()
    assert re.fullmatch(
        rf"hubel: waiting for 1 of 2 processes \(rank {other}\) to join at 127\.0\.0\.1:{port}, until "
        rf"\d\d:\d\d:\d\d",
        waiting,
    )
    assert re.fullmatch(
        rf"hubel: process {rank} of 2 waited 0\.6 s for process {other} at 127\.0\.0\.1:{port}{why}; "
        rf"start every .*",
        over,
    )


def test_who_comes_late_is_waited_for(monkeypatch, capfd):
    """Of three processes the last to come is the only one that is still named."""
    port, found, stores = free_port(), {}, {}
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    monkeypatch.setattr(rendezvous, "NOTICE", 0.3)

    def arrive(rank: int) -> None:
        wait = rendezvous.Wait(rank, 3)
        stores[rank] = rendezvous.open_store(rank, 3, wait)
        found[rank] = rendezvous.join_store(stores[rank], rank, 3, wait)

    threads = [threading.Thread(target=arrive, args=(rank,)) for rank in range(3)]
    for thread in threads[:2]:
        thread.start()
    said = ""
    while "(rank 2)" not in said and threads[0].is_alive():
        said += capfd.readouterr().err
        time.sleep(0.05)
    threads[2].start()
    for thread in threads:
        thread.join()
    assert set(found) == {0, 1, 2}
    assert len(set(found.values())) == 1
    assert "hubel: waiting for 1 of 3 processes (rank 2) to join" in said


def test_variables_that_make_no_sense_are_one_sentence(lonely):
    assert lonely("first", 29500) == "hubel: RANK is 'first' in the environment; it is a whole number\n"
    assert lonely("2", 29500) == "hubel: RANK is 2 of WORLD_SIZE=2 processes; the ranks are 0 to 1\n"
    assert lonely("1", "a") == "hubel: MASTER_PORT is 'a' in the environment; it is a whole number\n"
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert (
            lonely("0", port)
            == f"hubel: another program holds 127.0.0.1:{port}; give every process another MASTER_PORT\n"
        )


def test_incomplete_variables_are_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "0")
    assert main(["train", "digits"]) == 2
    assert (
        "the environment has RANK but not MASTER_ADDR, MASTER_PORT, WORLD_SIZE; start with" in capsys.readouterr().err
    )


def test_synchronised_batch_norm_alone_would_have_no_effect(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "sync_batch_norm=true"]) == 2
    assert "sync_batch_norm would have no effect in one process" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ short memory


class Hungry(nn.Module):
    """A network for which memory is short above a number of pictures."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.network = Small(0.0)

    def forward(self, x):
        x = self.network.layers[:2](x)  # batch norm has moved its statistics by then
        if self.training and len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.network.layers[2:](x)


def hungry(most: int) -> Hungry:
    with seeded(0):
        return Hungry(most)


def test_short_memory_halves_the_parts_and_the_run_goes_on(digits, tmp_path):
    run, recipe = Run.create(tmp_path / "run", run_info(digits)), RECIPE.with_(ema=None)
    model, planned = hungry(60), hungry(240)
    found = list(train_steps(model, digits, recipe, run))
    assert [(r.microbatches, r.images) for r in found if isinstance(r, MicrobatchHalved)] == [(2, 120), (4, 60)]
    assert "computed in 4 parts of 60 pictures" in shortage(
        next(r for r in found if isinstance(r, MicrobatchHalved) and r.microbatches == 4)
    )
    list(train(planned, digits, recipe.with_(accumulate=4)))
    for ours, theirs in zip(model.state_dict().values(), planned.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)  # as if it had been asked for
    assert run.progress().microbatches == 4


def test_a_run_that_was_short_of_memory_resumes_to_the_same_bits(digits, tmp_path):
    whole, resumed = hungry(60), hungry(60)
    list(train(whole, digits, RECIPE))
    run = Run.create(tmp_path / "run", run_info(digits))
    running = train_steps(hungry(60), digits, RECIPE, run)
    while not isinstance(next(running), Step):
        pass
    running.close()
    rest = list(train_steps(resumed, digits, RECIPE, run))
    assert not any(isinstance(record, MicrobatchHalved) for record in rest)
    for ours, theirs in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_memory_short_for_the_smallest_part_is_one_sentence(digits):
    with pytest.raises(
        UsageError, match=r"memory is short in epoch 1, step 1, even for 2 of the 240 pictures at once; use"
    ):
        list(train(hungry(0), digits, RECIPE))


def test_other_errors_of_a_step_are_not_taken_for_short_memory(digits):
    class Broken(Small):
        def forward(self, x):
            raise RuntimeError(f"something else {x.shape}")

    with pytest.raises(RuntimeError, match="something else"):
        list(train(Broken(0.0), digits, RECIPE))
