"""Processes that train together: what a launcher must have said, and how they meet where there is no GPU."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping

import torch
import torch.distributed as dist

DEFAULT_PORT = "29500"  # torch's and mmengine's
# what a launcher tells each process, and how one starts them so
VARIABLES = {
    "pytorch": (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"),
        "start the processes with tools/dist_train.sh or tools/dist_test.sh, or with torchrun",
    ),
    "slurm": (
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"),
        "start the processes with srun: srun --ntasks=8 --gres=gpu:8 python tools/train.py CONFIG --launcher slurm",
    ),
    "mpi": (
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "MASTER_ADDR"),
        "start the processes with Open MPI's mpirun, and set MASTER_ADDR to the host of the first of them",
    ),
}
SLURM_TO_TORCH = {"SLURM_PROCID": "RANK", "SLURM_NTASKS": "WORLD_SIZE", "SLURM_LOCALID": "LOCAL_RANK"}
MPI_TO_TORCH = {
    "OMPI_COMM_WORLD_RANK": "RANK",
    "OMPI_COMM_WORLD_SIZE": "WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK": "LOCAL_RANK",
}


def join_processes(launcher: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Prepare this process for its launcher: check what it was told and, without a GPU, meet the others by gloo.

    With GPUs mmengine's runner joins them by NCCL; here is only said what it would ask the launcher's tools for.

    Args:
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        environ: the variables of the environment, which are completed.

    Raises:
        ValueError: variables are missing that this launcher sets, or the list of hosts is not Slurm's.
    """
    if launcher == "none" or (dist.is_available() and dist.is_initialized()):
        return
    check_environment(launcher, environ)
    if launcher == "slurm":
        hosts = environ.get("SLURM_STEP_NODELIST", environ["SLURM_NODELIST"])  # of this srun, of the whole job
        environ.setdefault("MASTER_ADDR", first_host(hosts))
    if torch.cuda.is_available():
        return
    for ours, theirs in {"slurm": SLURM_TO_TORCH, "mpi": MPI_TO_TORCH}.get(launcher, {}).items():
        environ[theirs] = environ.get(ours, "0")
    environ.setdefault("MASTER_PORT", DEFAULT_PORT)
    dist.init_process_group("gloo")


def check_environment(launcher: str, environ: Mapping[str, str] = os.environ) -> None:
    """Raise a ValueError where ``launcher`` is none, or variables are missing that it gives to each process."""
    if launcher not in VARIABLES:
        raise ValueError(f"launcher must be none or one of {', '.join(VARIABLES)}, but got {launcher!r}")
    needed, advice = VARIABLES[launcher]
    missing = [name for name in needed if name not in environ]
    if missing:
        raise ValueError(f"--launcher {launcher} needs the environment variables {', '.join(missing)}: {advice}")


def first_host(node_list: str) -> str:
    """Return the first host of a list in Slurm's form, ``node[01-04,07],other`` or ``one,two``.

    Raises:
        ValueError: no such list.
    """
    match = re.match(r"([\w.-]*)(?:\[(\w+)[^\]]*\]([\w.-]*))?(?:,|$)", node_list)
    if match is None or not match[0].strip(","):
        raise ValueError(f"SLURM_NODELIST must name hosts, such as node[01-04], but got {node_list!r}")
    prefix, number, suffix = (part or "" for part in match.groups())
    return prefix + number + suffix
