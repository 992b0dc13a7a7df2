from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from densehead.apis import build_runner, cli
from densehead.engine.launch import check_environment, first_host, join_processes
from tests.ranks import run_processes

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without torch.distributed")
SLURM = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1", "SLURM_NODELIST": "node[03-04,7]"}
MPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
TORCH = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "host", "MASTER_PORT": "29400"}


@pytest.mark.parametrize(
    ("node_list", "host"),
    [
        ("node7", "node7"),
        ("gpu-a.b,gpu-c", "gpu-a.b"),
        ("node[03-04,07]", "node03"),
        ("node[5,7-9],other[1-2]", "node5"),
        ("rack[1-2]-ib,login", "rack1-ib"),
    ],
)
def test_first_host_of_a_list(node_list, host):
    assert first_host(node_list) == host


@pytest.mark.parametrize("node_list", ["", ",", "[", "node[]", "/bin/sh: scontrol: not found"])
def test_what_is_no_list_of_hosts(node_list):
    with pytest.raises(ValueError, match=r"^SLURM_NODELIST must name hosts, such as node\[01-04\], but got"):
        first_host(node_list)


@pytest.mark.parametrize(
    ("launcher", "given", "missing"),
    [
        ("pytorch", {"LOCAL_RANK": "0"}, "RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT: start the processes with tools"),
        ("slurm", {"SLURM_NTASKS": "2"}, "SLURM_PROCID, SLURM_NODELIST: start the processes with srun: srun --ntasks"),
        ("mpi", MPI, "MASTER_ADDR: start the processes with Open MPI's mpirun, and set MASTER_ADDR"),
    ],
)
def test_variables_that_are_missing(launcher, given, missing):
    with pytest.raises(ValueError, match=f"^--launcher {launcher} needs the environment variables {missing}"):
        check_environment(launcher, given)


def test_unknown_launcher():
    with pytest.raises(ValueError, match=r"^launcher must be none or one of pytorch, slurm, mpi, but got 'sge'$"):
        join_processes("sge", {})


def test_tools_say_it_in_a_line(monkeypatch, capsys):
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    assert cli.run(lambda: build_runner({"launcher": "slurm"})) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --launcher slurm needs the environment variables SLURM_PROCID, SLURM_NTASKS")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("launcher", "given", "address", "local_rank"),
    [
        ("slurm", SLURM, "node03", "1"),
        ("slurm", SLURM | {"SLURM_STEP_NODELIST": "node04", "MASTER_PORT": "1"}, "node04", "1"),
        ("slurm", SLURM | {"MASTER_ADDR": "given"}, "given", "1"),
        ("mpi", MPI | {"MASTER_ADDR": "given"}, "given", "0"),
        ("pytorch", TORCH, "host", "1"),
    ],
)
def test_how_processes_meet_without_gpus(monkeypatch, launcher, given, address, local_rank):
    backends, environ = [], {**given, "LOCAL_RANK": given.get("LOCAL_RANK", "0")}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(dist, "init_process_group", backends.append)
    join_processes(launcher, environ)
    assert backends == ["gloo"]
    assert [environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")] == ["1", "2", local_rank]
    assert environ["MASTER_ADDR"] == address
    assert environ["MASTER_PORT"] == given.get("MASTER_PORT", "29500")


def test_with_gpus_mmengine_joins_them(monkeypatch):
    """But it would ask Slurm's scontrol, which need not be there in a container, for the first host."""
    environ = dict(SLURM)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(dist, "init_process_group", lambda *args, **kwargs: pytest.fail("joined"))
    join_processes("slurm", environ)
    assert environ == SLURM | {"MASTER_ADDR": "node03"}
    untouched = {}
    join_processes("none", untouched)
    assert untouched == {}


def train_by_slurm(rank: int, folder: str, port: str) -> tuple[int, int, list[float]]:
    """What a process does that srun starts: nothing tells it of the others but Slurm's variables."""
    from densehead.apis import prepare_training, train
    from tests.engine.tiny import losses, tiny_config

    os.environ.update({"SLURM_PROCID": str(rank), "SLURM_NTASKS": "2", "SLURM_LOCALID": str(rank)})
    os.environ.update({"SLURM_NODELIST": "localhost", "MASTER_PORT": port, "LOCAL_RANK": "0"})
    cfg = tiny_config(Path(folder), train_cfg__max_epochs=1, default_hooks__summary=None)
    cfg.experiment_name = "by_slurm"
    cfg.launcher = "slurm"
    runner = train(prepare_training(cfg))
    return runner.rank, runner.world_size, losses(runner)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs mmengine asks for one a process")
def test_training_by_slurm(tmp_path, free_port):
    found = run_processes(train_by_slurm, str(tmp_path), free_port)
    assert [one[:2] for one in found] == [(0, 2), (1, 2)]
    assert all(len(one[2]) == 2 for one in found)  # 8 images, 2 at a time on 2 ranks
