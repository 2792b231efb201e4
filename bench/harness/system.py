"""The facts about a machine that a number is worth nothing without."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent


def output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def cpu_seconds() -> tuple[float, float]:
    """CPU time so far: of the whole machine, and of this run. Exact only while no child of the run is alive."""
    fields = [int(f) for f in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    user, nice, system, _, _, irq, softirq, steal = fields[:8]
    machine = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return machine, own


def facts(php: str, tmp: Path) -> dict:
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())
    memory = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()
                  if line.startswith("MemTotal"))
    os_release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": output("git", "rev-parse", "--short=12", "HEAD") or None,
        "uncommitted_changes": bool(output("git", "--no-optional-locks", "status", "--porcelain")),
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "virtual": output("systemd-detect-virt") or None,
        "memory_mb": memory // 1024,
        "os": os_release.get("PRETTY_NAME", "").strip('"'),
        "kernel": platform.release(),
        "arch": platform.machine(),
        "php": output(php, "-n", "-r", "echo PHP_VERSION, PHP_ZTS ? ' ZTS' : ' NTS';"),
        "phpredis": output(php, "-r", "echo phpversion('redis');"),
        "symfony_lock": output("dpkg-query", "-W", "-f=${Version}", "php-symfony-lock") or None,
        "php_lock": output("dpkg-query", "-W", "-f=${Version}", "php-malkusch-lock") or None,
        "redis": output("redis-server", "--version").partition("v=")[2].partition(" ")[0],
        "file_system": output("stat", "-f", "-c", "%T", str(tmp)),
        "load_before": round(os.getloadavg()[0], 2),
    }
