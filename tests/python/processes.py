"""Ranks as processes of this machine, or of as many hosts: network namespaces that a bridge joins."""

import contextlib
import ctypes
import dataclasses
import datetime
import multiprocessing
import os
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

PATIENCE = 60.0  # seconds until a rank that has not ended is given up

_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload(["torch.distributed", "blockmoe.expert_parallel", "reference"])
_spawned = multiprocessing.get_context("spawn")  # slower; a fork of a process that knows CUDA may not use it


@dataclasses.dataclass
class Host:
    namespace: str | None  # None: this process's own
    address: str
    interface: str


@dataclasses.dataclass
class Ended:
    """How a rank ended: what its body returned or raised. Neither where it was killed or ended itself."""

    result: Any = None
    error: BaseException | None = None
    seconds: float = 0.0  # of the body
    left: bool = False  # with_cuda: its process then ended by itself, nothing of the driver's or NCCL's in its way


def run_ranks(
    count: int,
    body: Callable[..., Any],
    *arguments: Any,
    hosts: list[Host] | None = None,
    lost: int | None = None,
    with_cuda: bool = False,
) -> list[Ended]:
    """body(rank, *arguments) in `count` processes that are a gloo group, rank r on hosts[r modulo their count]. Nobody waits
    for the rank `lost`."""
    context = _spawned if with_cuda else _forked
    hosts = hosts or [Host(None, "127.0.0.1", "lo")]
    port = _free_port()
    ranks = []
    for rank in range(count):
        receiver, sender = context.Pipe(duplex=False)
        host = hosts[rank % len(hosts)]
        master = f"tcp://{hosts[0].address}:{port}"
        process = context.Process(target=_live, args=(sender, rank, count, host, master, body, arguments), daemon=True)
        process.start()
        sender.close()
        ranks.append((process, receiver))
    deadline = time.monotonic() + PATIENCE
    ended = []
    for rank, (_, receiver) in enumerate(ranks):
        heard = rank != lost and receiver.poll(max(0.0, deadline - time.monotonic()))
        try:
            ended.append(receiver.recv() if heard else Ended(error=TimeoutError("the rank did not end")))
        except EOFError:
            ended.append(Ended())
    for rank, (process, _) in enumerate(ranks):
        if with_cuda and rank != lost:
            process.join(max(0.0, deadline - time.monotonic()))
            ended[rank].left = process.exitcode is not None
        process.kill()  # one that never calls, or stands still
        process.join()
    return ended


def _live(sender: Any, rank: int, count: int, host: Host, master: str, body: Any, arguments: tuple[Any, ...]) -> None:
    import torch  # noqa: PLC0415: not everywhere
    import torch.distributed as dist  # noqa: PLC0415

    if host.namespace:
        _enter(host.namespace)
    os.environ["GLOO_SOCKET_IFNAME"] = host.interface
    torch.set_num_threads(1)
    dist.init_process_group("gloo", master, datetime.timedelta(seconds=PATIENCE), count, rank)
    dist.barrier()  # all are there, whatever the body does first
    ended = Ended()
    start = time.monotonic()
    try:
        ended.result = body(rank, *arguments)
    except Exception as error:  # noqa: BLE001: whatever it is, the test judges it
        error.__cause__ = error.__context__ = None
        vars(error).pop("__tvm_ffi_error__", None)  # does not travel
        ended.error = error
    ended.seconds = time.monotonic() - start
    sender.send(ended)
    if ended.error is None:
        dist.barrier()  # rank 0 holds the store


def die() -> None:
    """As a rank that the system kills."""
    os.kill(os.getpid(), signal.SIGKILL)


def stand_still() -> None:
    """As a rank that hangs with all its threads: the store's, where it has it, too."""
    os.kill(os.getpid(), signal.SIGSTOP)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _enter(namespace: str) -> None:
    """Of the calling thread and those that it starts."""
    with open(f"/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000) != 0:  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), f"setns {namespace}")


# ---- hosts


class NoHosts(Exception):
    """This process may not make network namespaces; the reason."""


def _ip(*words: str) -> None:
    ended = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise NoHosts(f"ip {' '.join(words)}: {ended.stderr.strip()}")


@contextlib.contextmanager
def separate_hosts(count: int) -> Iterator[list[Host]]:
    """Network namespaces with one address each and a bridge, in one more, between them. Nothing of it is seen outside."""
    if not any((pathlib.Path(folder) / "ip").exists() for folder in os.get_exec_path()):
        raise NoHosts("ip is not installed (Debian package iproute2)")
    prefix = f"blockmoe-{os.getpid()}"
    bridge = f"{prefix}-bridge"
    hosts = [Host(f"{prefix}-{i}", f"10.77.0.{i + 1}", "eth0") for i in range(count)]
    made = []
    try:
        for name in [bridge, *(str(host.namespace) for host in hosts)]:
            _ip("netns", "add", name)
            made.append(name)
        _ip("-n", bridge, "link", "add", "bridge", "up", "type", "bridge")
        for number, host in enumerate(hosts):
            name = str(host.namespace)
            peer = ["peer", "name", host.interface, "netns", name]
            _ip("-n", bridge, "link", "add", f"port{number}", "up", "master", "bridge", "type", "veth", *peer)
            _ip("-n", name, "address", "add", f"{host.address}/24", "dev", host.interface)
            _ip("-n", name, "link", "set", host.interface, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield hosts
    finally:
        for name in made:
            _ip("netns", "delete", name)


def pull_cable(host: Host) -> None:
    """The host is no longer reached, and nobody is told."""
    _ip("-n", str(host.namespace), "link", "set", host.interface, "down")
