"""Two hosts on this machine: network namespaces with an address, a name and an sshd each, and a cable between them.

Both see the same disk; `mount` puts another in place of a folder of one. Needs root, ip, unshare, nsenter and sshd.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.holding import wait_until

NAMES = ("node-a", "node-b")
ADDRESSES = ("10.213.7.1", "10.213.7.2")
_SSHD = """Port 22
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
AcceptEnv LD_PRELOAD FAKETIME DONT_FAKE_MONOTONIC
"""
_SSH = """IdentityFile {folder}/key
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
ConnectTimeout 5
"""


def missing() -> str:
    """What hosts need and this machine does not have; nothing where all is there."""
    if os.geteuid():
        return "hosts in namespaces need root"
    for program in ("ip", "unshare", "nsenter", "/usr/sbin/sshd", "ssh", "ssh-keygen"):
        if shutil.which(program) is None:
            return f"no {program}: apt-get install iproute2 util-linux openssh-server"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.decode().strip()}"


class Hosts:
    """The hosts `NAMES`, as a context; `folder` is for their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ssh_config = folder / "ssh_config"
        self.ssh = folder / "ssh"  # a program: ssh with that configuration
        self._spaces = [f"srn-{os.getpid()}-{name}" for name in NAMES]
        self._holders: list[subprocess.Popen] = []  # a process in each, which has its namespaces
        self._started: list[subprocess.Popen] = []

    def __enter__(self) -> Hosts:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin(self) -> None:
        for key in ("host_key", "key"):
            _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key)
        self.ssh_config.write_text(_SSH.format(folder=self.folder))
        self.ssh.write_text(f'#!/bin/sh\nexec ssh -F {self.ssh_config} "$@"\n')
        self.ssh.chmod(0o755)
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it
        known = "".join(f"{address} {name}\n" for address, name in zip(ADDRESSES, NAMES, strict=True))
        for space in self._spaces:
            _call("ip", "netns", "add", space)
            own = Path("/etc/netns") / space  # what `ip netns exec` shows there in place of /etc
            own.mkdir(parents=True)
            (own / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
            _call("ip", "-n", space, "link", "set", "lo", "up")
        first, second = self._spaces
        _call("ip", "-n", first, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second)
        for space, address, name in zip(self._spaces, ADDRESSES, NAMES, strict=True):
            _call("ip", "-n", space, "address", "add", f"{address}/24", "dev", "cable")
            _call("ip", "-n", space, "link", "set", "cable", "up")
            config = self.folder / f"sshd_{name}"
            config.write_text(_SSHD.format(folder=self.folder, address=address))
            words = ["ip", "netns", "exec", space, "unshare", "--uts"]
            words += ["sh", "-c", f"hostname {name} && exec /usr/sbin/sshd -D -e -f {config}"]
            with open(self.folder / f"{name}.log", "w") as log:
                self._holders.append(subprocess.Popen(words, stderr=log, start_new_session=True))
        for name in NAMES:
            wait_until(lambda: self.run(NAMES[0], [self.ssh, name, "hostname"]).stdout == f"{name}\n")  # noqa: B023

    def __exit__(self, *exception) -> None:
        for process in (*self._started, *self._holders):
            process.kill()
            process.wait()
        for space in self._spaces:
            # whatever still runs there; sshd's sessions and the processes that a launcher has started over them
            found = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False)
            for process in found.stdout.split():
                os.kill(int(process), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)
            shutil.rmtree(Path("/etc/netns") / space, ignore_errors=True)

    def ssh_with(self, name: str, **variables: str) -> Path:
        """A program like `ssh`; what it starts on one host has these variables, of those that sshd accepts."""
        config, program = self.folder / "ssh_config_with", self.folder / "ssh_with"
        told = " ".join(f"{key}={value}" for key, value in variables.items())
        config.write_text(f"Host {name}\n    SetEnv {told}\nHost *\n{self.ssh_config.read_text()}")
        program.write_text(self.ssh.read_text().replace(str(self.ssh_config), str(config)))
        program.chmod(0o755)
        return program

    def on(self, name: str, words: list) -> list[str]:
        """The command line that runs a command on a host."""
        holder = self._holders[NAMES.index(name)]
        inside = ["nsenter", f"--target={holder.pid}", "--net", "--uts", "--mount", f"--wdns={os.getcwd()}"]
        return [*inside, *map(str, words)]

    def run(self, name: str, words: list, **options) -> subprocess.CompletedProcess:
        """Run a command on a host to its end."""
        options = {"capture_output": True, "text": True, "check": False} | options
        return subprocess.run(self.on(name, words), **options)

    def start(self, name: str, words: list, **options) -> subprocess.Popen:
        """Start a command that ends with the hosts."""
        process = subprocess.Popen(self.on(name, words), **options)
        self._started.append(process)
        return process

    def mount(self, name: str, folder: Path, *options: object) -> None:
        """Put something else in place of a folder of one host: mount's options, or empty memory."""
        words = options or ("-t", "tmpfs", "-o", "size=64k", "tmpfs")
        done = self.run(name, ["mount", *words, folder])
        assert done.returncode == 0, done.stderr

    def unmount(self, name: str, folder: Path) -> None:
        """Give it back the one before."""
        assert self.run(name, ["umount", folder]).returncode == 0

    def cable(self, state: str) -> None:
        """Pull the cable (`down`) or put it back (`up`)."""
        _call("ip", "-n", self._spaces[1], "link", "set", "cable", state)


def _call(*words: object) -> None:
    subprocess.run(list(map(str, words)), check=True, capture_output=True)
