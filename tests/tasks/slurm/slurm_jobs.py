"""Job functions for the dispatch tests: a module of its own, so that a snapshot can carry it to a node."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any


class Interrupted(RuntimeError):
    job_cause = "interrupted"


class NonFinite(ArithmeticError):
    job_cause = "nan_loss"


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


def _log(path: str, text: str) -> None:
    with open(path, "a") as stream:
        stream.write(text + "\n")


def echo(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """Returns its arguments; with `trace`, leaves one line an execution there."""
    if arguments.get("trace"):
        _log(arguments["trace"], f"{arguments.get('n')} {os.getpid()}")
    for line in range(arguments.get("lines", 0)):
        print("line", line, flush=True)
        time.sleep(arguments.get("pause", 0.0))
    return {"echo": {key: value for key, value in arguments.items() if key != "trace"}}


def keeper(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """Leaves a file that its result names."""
    path: Path = context.folder / "kept.bin"
    path.write_bytes(b"weights")
    return {"files": {str(path): hashlib.sha256(b"weights").hexdigest()}}


def nap(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """Sleeps, publishing progress, and stops in order when asked to."""
    end = time.time() + arguments["seconds"]
    step = 0
    while time.time() < end:
        if context.should_stop() and not arguments.get("stubborn"):
            raise Interrupted("asked to stop")
        step += 1
        context.progress(step=step)
        time.sleep(0.05)
    return {"slept": arguments["seconds"]}


def _save(path: Path, state: dict[str, Any]) -> None:
    """Whole, or not at all: a node may lose power meanwhile."""
    path.with_suffix(".new").write_text(json.dumps(state))
    path.with_suffix(".new").replace(path)


def train(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """A toy training: a chain of hashes, checkpointed at a stop; interrupted or not, it ends in the same digest."""
    path: Path = context.folder / "checkpoint.json"
    state = json.loads(path.read_text()) if path.exists() else {"step": 0, "digest": "0", "stops": 0}
    while state["step"] < arguments["steps"]:
        if context.should_stop():
            state["stops"] += 1
            _save(path, state)
            raise Interrupted(f"stopped at step {state['step']}")
        state["digest"] = hashlib.sha256(f"{state['digest']} {state['step']}".encode()).hexdigest()
        state["step"] += 1
        context.progress(step=state["step"])
        time.sleep(arguments.get("pause", 0.0))
        if arguments.get("save_every") and state["step"] % arguments["save_every"] == 0:
            _save(path, state)
    return {"digest": state["digest"], "stops": state["stops"]}


def disk(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """A disk that fails the first `times` attempts."""
    if context.attempt <= arguments["times"]:
        raise RuntimeError("the checkpoint was not written") from OSError(
            arguments["number"], "as Linux says", "/data/x"
        )
    return {}


def bug(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    raise KeyError("a bug in the job")


class Unreadable(RuntimeError):
    """Its own text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")


def unprintable(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """Fails with a text that is no UTF-8, that is too long, or that cannot be made at all."""
    print("a name that is no UTF-8: \udcff", flush=True)
    if arguments["how"] == "no text":
        raise Unreadable
    raise RuntimeError("x" * 1_000_000 if arguments["how"] == "long" else "lone \ud800 surrogate and \0")


def all_reduce(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """Every rank adds its number to all others'; the first one's folder gets a line a rank that wrote there."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    total = torch.tensor([float(dist.get_rank() + 1)])
    dist.all_reduce(total)
    rank, world = dist.get_rank(), dist.get_world_size()
    if rank == 0:
        (context.folder / "written").write_text("by rank 0")
    dist.barrier()
    if arguments.get("fails") == rank:
        raise KeyError(f"a bug in rank {rank}")
    dist.barrier()
    dist.destroy_process_group()
    node = os.environ["SLURMD_NODENAME"]
    return {"sum": float(total), "world": world, "rank": rank, "node": node, "address": os.environ["MASTER_ADDR"]}


def shows(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """Publishes what is no JSON."""
    context.progress(where=context.folder, loss=float("nan"), parts={1, 2})
    return {}


def nan(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    return {"loss": 0.5, "folds": [{"rmse": 1.0}, {"rmse": float("nan")}]}


def not_json(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    return {"set": {1, 2}}


def cuda_hungry(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """Fits in memory only after `fits_after` halvings."""
    if context.adjustments["batch_halvings"] < arguments["fits_after"]:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return {"adjustments": context.adjustments}


def diverging(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """NaN until the rate is lowered; with `always`, for ever."""
    if arguments.get("always") or context.adjustments["lr_factor"] == 1.0:
        raise NonFinite("loss is NaN at step 3")
    return {"adjustments": context.adjustments}


def eat_memory(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """Takes `mb` megabytes, half of it a halving."""
    size = arguments["mb"] >> context.adjustments["batch_halvings"]
    block = bytearray(size << 20)
    block[::4096] = b"x" * len(block[::4096])
    time.sleep(arguments.get("seconds", 5.0))
    return {"mb": size, "halvings": context.adjustments["batch_halvings"]}


def environment(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    return {"names": sorted(os.environ)}


def die(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """Killed without a word, `times` times over all attempts."""
    path: Path = context.folder / "deaths"
    deaths = len(path.read_bytes()) if path.exists() else 0
    if deaths < arguments["times"]:
        path.write_bytes(b"x" * (deaths + 1))
        os.kill(os.getpid(), 9)
    return {"deaths": deaths}
