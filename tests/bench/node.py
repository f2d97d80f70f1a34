"""A daemon by itself: until it is ready, what it weighs, what it does when nothing happens."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from node.client import Client
from node.errors import Fault

NORTHBUND = str(Path(sys.executable).with_name("northbund"))
STARTS = 5
IDLE_S = 20.0
PASSWORD = "bench"
CHAIN = """
[chain]
url = "http://127.0.0.1:9"
chain_id = 31337
registry = "0x1111111111111111111111111111111111111111"
market = "0x2222222222222222222222222222222222222222"
token = "0x3333333333333333333333333333333333333333"
"""


def measure() -> dict[str, dict[str, object]]:
    """name -> {value, unit, baseline, ratio, what}."""
    with tempfile.TemporaryDirectory() as root:
        folder = make_node(Path(root))
        ready, stop = zip(*(start_and_stop(folder) for _ in range(STARTS)), strict=True)
        rss_mb, idle_percent = idle(folder)
    return {
        "node.ready_s": figure(median(ready), "s", "from start until RPC answers, libp2p listens"),
        "node.stop_s": figure(median(stop), "s", "from SIGTERM until the process has ended"),
        "node.rss_mb": figure(rss_mb, "MB", "resident memory of an idle daemon"),
        "node.idle_cpu_percent": figure(idle_percent, "%", f"of one core, over {IDLE_S:g} s idle"),
    }


def figure(value: float, unit: str, what: str) -> dict[str, object]:
    return {"value": round(value, 3), "unit": unit, "baseline": None, "ratio": None, "what": what}


def make_node(root: Path) -> Path:
    folder, password = root / "node", root / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    command = [NORTHBUND, "-d", str(folder), "init", "--name", "bench"]
    command += ["--listen", "/ip4/127.0.0.1/tcp/0", "--light-kdf", "--password-file", str(password)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    config = folder / "northbund.toml"
    text = config.read_text("utf-8")
    if "\n[chain]" not in text:
        config.write_text(text + CHAIN, "utf-8")
    return folder


def start(folder: Path) -> "tuple[subprocess.Popen[bytes], float]":
    """A daemon that has answered, and the seconds until it did."""
    began = time.perf_counter()
    command = [NORTHBUND, "-d", str(folder), "run"]
    command += ["--password-file", str(folder.parent / "password")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            Client(folder).call("node_status")
        except Fault:
            time.sleep(0.005)
        else:
            return process, time.perf_counter() - began
    raise RuntimeError("the daemon ended at once")


def start_and_stop(folder: Path) -> tuple[float, float]:
    process, ready_s = start(folder)
    time.sleep(1.0)  # the chain's libraries are still being loaded behind the start
    began = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    status = process.wait(10)
    if status:
        raise RuntimeError(f"the daemon ended with status {status}")
    return ready_s, time.perf_counter() - began


def idle(folder: Path) -> tuple[float, float]:
    """Megabytes resident and percent of a core, once the start is over."""
    process, _ = start(folder)
    try:
        time.sleep(3.0)
        before, began = cpu_s(process.pid), time.perf_counter()
        time.sleep(IDLE_S)
        percent = 100 * (cpu_s(process.pid) - before) / (time.perf_counter() - began)
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, percent
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
