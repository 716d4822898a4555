"""The benchmarks' pure parts: statistics, targets, who cheats, how contestants are called."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import (
    children,
    contest,
    contestants,
    pipe_contestants,
    report,
)
from benchmarks.children import Ended
from benchmarks.contest import Run
from benchmarks.contestants import OURS, Job
from benchmarks.peering import ENVIRONMENTS, Peers
from benchmarks.report import Spread

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product

GIB = 1 << 30


def run_of(name: str, number: int, seconds: float, *, cpu: float = 1.0, outcome: contest.Outcome = "done") -> Run:
    counts = {"bytes_received": GIB}
    return Run(
        contestant=name,
        round=number,
        outcome=outcome,
        size=GIB,
        seconds=seconds,
        cpu=cpu,
        peak=90_000_000,
        counts=counts,
    )


def job(tmp_path: Path, *, secure: bool = False) -> Job:
    return Job(
        url="https://127.0.0.1:9000" if secure else "http://127.0.0.1:9000",
        ca=tmp_path / "ca.pem" if secure else None,
        bucket="bucket",
        key="file.bin",
        file=tmp_path / "file.bin",
        scratch=tmp_path / "home",
        access_key="access",
        secret_key="secret",
        region="eu-west-1",
    )


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peers:
    """All of them, as far as files tell."""
    monkeypatch.setenv("PATH", "")
    modules = {"main": ("boto3", "awscrt", "obstore", "minio"), "aioboto3": ("aioboto3",), "awscli": ()}
    commands = {"main": ("s5cmd", "rclone", "mc"), "aioboto3": (), "awscli": ("aws",)}
    for environment in ENVIRONMENTS:
        home = tmp_path / "peers" / environment
        for name in ("python", *commands[environment]):
            path = home / "bin" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o755)
        for module in modules[environment]:
            (home / "lib" / "python3.11" / "site-packages" / module).mkdir(parents=True)
    return Peers(tmp_path / "peers")


class TestStatistics:
    def test_a_ratio_is_taken_round_by_round(self):
        ours, theirs = (2.0, 1.0, 4.0), (4.0, 4.0, 4.0)
        runs = [run_of(OURS, n, each) for n, each in enumerate(ours, 1)]
        runs += [run_of("peer", n, each) for n, each in enumerate(theirs, 1)]
        mine, peer = report.rows(runs, {"peer": "MD5"})
        assert (mine.name, peer.name, peer.proof) == (OURS, "peer", "MD5")
        assert peer.ratio == Spread(least=0.25, median=0.5, most=1.0)

    def test_the_late_come_last_and_bound_the_ratio(self):
        runs = [run_of(OURS, 1, 10.0), run_of("slow", 1, 100.0, outcome="late"), run_of("quick", 1, 200.0)]
        found = report.rows(runs, {})
        assert [row.name for row in found] == [OURS, "quick", "slow"]
        assert found[-1].cpu is None
        (target,) = report.wall_target(0.25, report.fastest(found), "the best")
        assert target.holds
        assert "at most 0.10" in target.found

    def test_what_is_to_be_shown_is_not_shown_by_being_alone(self):
        found = report.rows([run_of(OURS, 1, 1.0)], {})
        (wall,) = report.wall_target(0.9, report.fastest(found), "the best")
        (cpu,) = report.cpu_target(found, 0.5, None, "the thriftiest")
        assert not wall.holds
        assert not cpu.holds

    def test_small_cpu_times_are_shown_as_the_caller_says(self):
        runs = [run_of(OURS, 1, 1.0, cpu=0.000717), run_of("peer", 1, 1.0, cpu=0.000504)]
        ours, peer = report.rows(runs, {})
        figure = "{:.4f}".format
        (target,) = report.cpu_target([ours, peer], 1.15, peer, "peer", unit="s a file", figure=figure)
        assert not target.holds
        assert target.found.endswith(" peer's (0.0007 of 0.0005 s a file)")

    def test_who_failed_is_no_rival(self):
        runs = [run_of(OURS, 1, 10.0), run_of("broken", 1, 0.1, outcome="failed"), run_of("peer", 1, 20.0)]
        rival = report.fastest(report.rows(runs, {}))
        assert rival is not None
        assert rival.name == "peer"

    def test_nothing_is_compared_with_an_upload_of_ours_that_failed(self):
        with pytest.raises(SystemExit, match="did not finish"):
            report.own(report.rows([run_of(OURS, 1, 1.0, outcome="failed")], {}))

    def test_the_thriftiest_may_have_to_prove(self):
        runs = [run_of(OURS, 1, 1.0), run_of("bare", 1, 1.0, cpu=1.0), run_of("proving", 1, 1.0, cpu=3.0)]
        found = report.rows(runs, {"proving": "MD5"})
        assert getattr(report.thriftiest(found), "name", "") == "bare"
        assert getattr(report.thriftiest(found, proving=True), "name", "") == "proving"


class TestCheating:
    @pytest.mark.parametrize(
        ("stored", "received", "why"),
        [
            (None, 0, "no object"),
            (99, 100, "has 99 bytes of 100"),
            (200, 200, "has 200 bytes of 100"),
            (100, 50, "received 50 bytes of 100"),
            (100, 100, ""),
            (100, 130, ""),  # tried again
        ],
    )
    def test_what_is_not_exactly_the_file(self, stored: int | None, received: int, why: str):
        found = contest.cheating(100, stored, {"bytes_received": received})
        assert why in found
        assert bool(found) == bool(why)

    def test_a_store_that_does_not_count_is_asked_for_the_size_alone(self):
        assert contest.cheating(100, 100, {}) == ""

    @pytest.mark.parametrize(
        ("status", "late", "stored", "outcome"),
        [(0, False, 100, "done"), (0, False, 10, "cheated"), (1, False, None, "failed"), (-9, True, None, "late")],
    )
    def test_judged(self, status: int, late: bool, stored: int | None, outcome: str):
        ended = Ended(status=status, seconds=1.0, cpu=1.0, peak=1, late=late, output="", errors="that\nis why\n")
        found = contest.judge(contestants.ourselves(), 1, 100, ended, stored, {})
        assert found.outcome == outcome
        assert (found.why == "is why") == (outcome == "failed")

    def test_within_a_running_process_its_own_clock_counts(self):
        said = json.dumps({"seconds": 0.25, "cpu": 0.5})
        ended = Ended(status=0, seconds=9.0, cpu=9.0, peak=1, late=False, output=said, errors="")
        found = contest.judge(contestants.ourselves(), 1, 100, ended, 100, {}, inside=True)
        assert (found.seconds, found.cpu) == (0.25, 0.5)


class TestContestants:
    def test_all_that_are_installed(self, peers: Peers):
        found = contestants.everyone(peers)
        assert next(iter(found)) == OURS
        families = {"boto3", "boto3-crt", "crt", "obstore", "minio", "aioboto3", "s5cmd", "mc", "rclone", "aws-cli"}
        assert {each.family for each in found.values()} == families | {OURS}
        for family in families:
            assert family in found, "with its defaults"
            assert f"{family}:tuned" in found

    def test_none_is_made_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("PATH", "")
        assert list(contestants.everyone(Peers(tmp_path))) == [OURS]

    @pytest.mark.parametrize("secure", [False, True])
    def test_each_gets_the_same_file_and_store(self, peers: Peers, tmp_path: Path, secure: bool):
        made = job(tmp_path, secure=secure)
        for each in contestants.everyone(peers).values():
            argv, environment = each.argv(made), each.environment(made)
            everything = " ".join([*argv, *environment.values()])
            assert str(made.file) in everything, each.name
            assert "127.0.0.1:9000" in everything, each.name
            assert "{" not in " ".join(environment.values()), each.name
            assert ("SSL_CERT_FILE" in environment) == secure, each.name

    @pytest.mark.parametrize("secure", [False, True])
    def test_each_is_given_the_stream_on_standard_input(self, peers: Peers, tmp_path: Path, secure: bool):
        made = job(tmp_path, secure=secure)
        made.file.write_bytes(bytes(1234))
        found = pipe_contestants.everyone(peers)
        assert {each.family for each in found.values()} == pipe_contestants.FAMILIES | {OURS}
        for name, each in found.items():
            argv = " ".join(each.argv(made))
            everything = " ".join([argv, *each.environment(made).values()])
            assert "{" not in " ".join(each.environment(made).values()), name
            assert "127.0.0.1:9000" in everything, name
            assert ("1234" in argv) == name.endswith(":sized"), name
            assert str(made.file) not in argv or '"piped": true' in argv, name

    def test_none_sees_the_callers_settings(self, peers: Peers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("AWS_PROFILE", "someone")
        monkeypatch.setenv("BIGUPLOAD_SERVICE", "https://service.example")
        for each in contestants.everyone(peers).values():
            environment = each.environment(job(tmp_path))
            assert not {"AWS_PROFILE", "BIGUPLOAD_SERVICE"} & set(environment)
            assert environment["HOME"] == str(tmp_path / "home")

    def test_the_peers_scripts_import_nothing_of_ours(self):
        scripts = list((Path(contestants.__file__).parent / "peers").glob("*.py"))
        assert len(scripts) > 5
        for script in scripts:
            assert script.stem.endswith("_bigupload") or "import bigupload" not in script.read_text()


class TestChildren:
    def test_a_child_reads_what_a_producer_writes(self):
        count = [sys.executable, "-c", "import sys; print(len(sys.stdin.buffer.read()))"]
        write = [sys.executable, "-c", "print('x' * 99999)"]
        assert children.run(count, {}, patience=30, producer=write).output == "100000\n"

    def test_the_producer_ends_with_the_child(self):
        write = [sys.executable, "-c", "while True: print('x' * 99999)"]
        ended = children.run([sys.executable, "-c", "pass"], {}, patience=30, producer=write)
        assert (ended.status, ended.late) == (0, False)

    def test_what_a_child_used(self):
        ended = children.run([sys.executable, "-c", "print('x' * 3); sum(range(10**6))"], {}, patience=30)
        assert (ended.status, ended.output, ended.late) == (0, "xxx\n", False)
        assert ended.cpu > 0
        assert ended.peak > 1_000_000

    def test_who_is_late_is_killed_with_its_children(self):
        script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import signal; signal.pause()'])"
        assert children.run([sys.executable, "-c", script], {}, patience=0.3).late


def test_a_table_goes_into_its_place_on_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Head\n\n<!-- goals -->\nold\n<!-- /goals -->\n\nTail\n")
    for _ in range(2):
        report.insert(page, "goals", ["| a |", "|---|"], {"mc": "1.2"})
        before, measured, after = page.read_text().partition("Measured on ")
        assert before == "# Head\n\n<!-- goals -->\n\n| a |\n|---|\n\n"
        assert measured
        assert after.endswith(", mc 1.2.\n\n<!-- /goals -->\n\nTail\n")
    with pytest.raises(SystemExit, match="no place"):
        report.insert(page, "growth", [], {})
