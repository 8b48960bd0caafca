"""A real Slurm on the two hosts: munged, slurmctld on the first, a slurmd on each."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.cluster.hosts import ADDRESSES, NAMES, Hosts
from tests.holding import wait_until

PROGRAMS = ("/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/sbin/munged", "sbatch", "srun", "sinfo", "scontrol")
_CONFIG = """ClusterName=srn
SlurmctldHost={first}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=30
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=pmi2
JobRequeue=1
KillWait=120
ReturnToService=2
{nodes}PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """What of Slurm is not there; nothing where all is."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"no {', '.join(absent)}: apt-get install slurm-wlm munge" if absent else ""


class Slurm:
    """Started on hosts that run, and gone with them; `environment` is for its commands."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.hosts, self.folder = hosts, folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        nodes = "".join(
            f"NodeName={name} NodeAddr={address} CPUs=2 State=UNKNOWN\n"
            for name, address in zip(NAMES, ADDRESSES, strict=True)
        )
        (folder / "slurm.conf").write_text(_CONFIG.format(folder=folder, first=NAMES[0], nodes=nodes))
        # `ip netns exec` mounts /sys anew, without the control groups that slurmd would look for
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        for name in ("state", *(f"spool-{name}" for name in NAMES)):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        munge = ["/usr/sbin/munged", "--foreground", "--force", f"--key-file={key}"]
        munge += [f"--{what}={folder}/munge.{end}" for what, end in
                  (("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"))]  # fmt: skip
        self._start(NAMES[0], munge)
        wait_until((folder / "munge.socket").exists)
        self._start(NAMES[0], ["/usr/sbin/slurmctld", "-D"])
        for name in NAMES:
            self._start(name, ["/usr/sbin/slurmd", "-D", "-N", name])
        wait_until(lambda: self.call("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(len(NAMES)))

    def _start(self, name: str, words: list) -> None:
        with open(self.folder / f"{name}-{Path(words[0]).name}.said", "w") as said:
            self.hosts.start(name, words, env=os.environ | self.environment, stdout=said, stderr=said)

    def call(self, *words: object, **options) -> str:
        """What a command of Slurm prints on the first host."""
        options["env"] = os.environ | self.environment | options.get("env", {})
        done = self.hosts.run(NAMES[0], list(words), **options)
        assert done.returncode == 0 or words[0] == "sinfo", done.stderr
        return done.stdout

    def state(self, job: str) -> str:
        """Of a job, as PENDING or COMPLETED; empty when it is forgotten."""
        found = [word for word in self.call("scontrol", "show", "job", job).split() if word.startswith("JobState=")]
        return found[-1].partition("=")[2] if found else ""
