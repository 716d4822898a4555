"""OpenStack Swift with its s3api: a proxy, and one server each for accounts, containers and objects on one disk."""

from __future__ import annotations

import contextlib
import getpass
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .environments import Unavailable, pip_environment
from .launching import Running, Store, free_port, process

_VERSION = "2.38.3"
_SWIFT_CONF = """\
[swift-hash]
swift_hash_path_prefix = trial
swift_hash_path_suffix = trial
[storage-policy:0]
name = only
default = yes
"""
_SERVER_CONF = """\
[DEFAULT]
swift_dir = {etc}
devices = {devices}
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
# No memcached listens on port 1: tempauth wants one to be configured, and works without a response from it.
_PROXY_CONF = """\
[DEFAULT]
swift_dir = {etc}
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats bulk s3api tempauth copy slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_trial_user = {secret} .admin
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
"""
_FILTERS = ("catch_errors", "gatekeeper", "listing_formats", "bulk", "copy", "slo")


def _install(root: Path) -> Path:
    return pip_environment(root, "swift", [f"swift=={_VERSION}"])


@contextlib.contextmanager
def _start(environment: Path, directory: Path) -> Iterator[Running]:
    etc, devices = directory / "etc", directory / "devices"
    etc.mkdir(parents=True)
    (devices / "d1").mkdir(parents=True)
    (etc / "swift.conf").write_text(_SWIFT_CONF)
    running = Running(port=free_port(), access_key="trial:user")
    with contextlib.ExitStack() as servers:
        for kind in ("account", "container", "object"):
            port = free_port()
            _make_ring(environment, etc, kind, port)
            text = _SERVER_CONF.format(etc=etc, devices=devices, port=port, user=getpass.getuser(), kind=kind)
            servers.enter_context(_server(environment, directory, kind, text, port))
        text = _PROXY_CONF.format(etc=etc, port=running.port, user=getpass.getuser(), secret=running.secret_key)
        text += "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in _FILTERS)
        servers.enter_context(_server(environment, directory, "proxy", text, running.port))
        yield running


def _server(
    environment: Path, directory: Path, kind: str, configuration: str, port: int
) -> contextlib.AbstractContextManager[None]:
    file = directory / "etc" / f"{kind}-server.conf"
    file.write_text(configuration)
    command = [str(environment / "bin" / f"swift-{kind}-server"), str(file)]
    return process(command, directory, port, log=f"{kind}.log")


def _make_ring(environment: Path, etc: Path, kind: str, port: int) -> None:
    """A ring of 16 partitions, one replica, one device."""
    builder = [str(environment / "bin" / "swift-ring-builder"), f"{kind}.builder"]
    for step in (["create", "4", "1", "0"], ["add", f"r1z1-127.0.0.1:{port}/d1", "1"], ["rebalance"]):
        done = subprocess.run([*builder, *step], cwd=etc, capture_output=True, text=True)
        if done.returncode > 1:  # 1 is a warning
            raise Unavailable(f"swift-ring-builder {step[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")


SWIFT = Store(
    name="swift",
    title="OpenStack Swift, s3api",
    version=_VERSION,
    how="PyPI `swift`: proxy with s3api and tempauth, three servers, one disk",
    install=_install,
    start=_start,
    proof="composite-etag",
)
