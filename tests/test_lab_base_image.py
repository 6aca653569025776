"""The base image by debootstrap: when it is made, what is left out, what is said where it cannot be."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from docker.errors import ImageNotFound

from labkit.errors import StackError
from labkit.lab import base_image
from labkit.lab.base_image import make_base_image, mounts_below, pack, worth_showing

TOOL = """\
#!/bin/sh
echo "I: Retrieving InRelease"
echo "I: Retrieving adduser 3.1"
echo "I: arguments $*"
echo "I: Resolving proxy=$http_proxy wgetrc=$(cat "$WGETRC" 2>/dev/null | tr '\\n' ' ')"
for last in "$@"; do case $last in */root) mkdir -p $last/etc $last/dev; echo 13 > $last/etc/debian_version;; esac; done
exit ${TOOL_EXIT:-0}
"""


class FakeDaemon:
    """Takes an image in and remembers what was in it."""

    def __init__(self, *present: str) -> None:
        self.present = set(present)
        self.layers: dict[str, list[str]] = {}

    def inspect_image(self, name: str) -> dict[str, str]:
        if name not in self.present:
            raise ImageNotFound(name)
        return {}

    def import_image_from_file(self, filename: str, repository: str, tag: str, changes: list[str]) -> None:
        assert any(change.startswith("CMD") for change in changes)
        with tarfile.open(filename) as archive:
            self.layers[f"{repository}:{tag}"] = sorted(archive.getnames())


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeDaemon:
    """A machine with root, a debootstrap that makes a tiny system, and a daemon without images."""
    fake = FakeDaemon()
    tool = tmp_path / "bin" / "debootstrap"
    tool.parent.mkdir()
    tool.write_text(TOOL)
    tool.chmod(0o755)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(base_image, "connect", lambda **options: fake)
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    for name in ("LABKIT_BASE_IMAGE", "LABKIT_DEBIAN_MIRROR", "LABKIT_APT_PROXY", "LABKIT_CA_BUNDLE", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    return fake


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for debootstrap is a shell script")
class TestMaking:
    """With a stand-in for debootstrap."""

    def test_it_is_made_under_the_name_that_images_start_from(self, daemon: FakeDaemon, tmp_path: Path) -> None:
        """One import, the files inside, and no scratch folder left."""
        said = list[str]()
        assert make_base_image(said.append) == "debian:trixie-slim"
        assert daemon.layers == {"debian:trixie-slim": [".", "./dev", "./etc", "./etc/debian_version"]}
        assert list((tmp_path / "scratch").iterdir()) == []
        assert "debootstrap: Retrieving InRelease" in said
        assert not any("adduser" in line for line in said)

    def test_nothing_is_done_where_it_is_there(self, daemon: FakeDaemon) -> None:
        """Unless asked again."""
        daemon.present.add("debian:trixie-slim")
        said = list[str]()
        make_base_image(said.append)
        assert daemon.layers == {}
        assert len(said) == 1
        assert "--again" in said[0]
        make_base_image(said.append, again=True)
        assert list(daemon.layers) == ["debian:trixie-slim"]

    def test_another_name(self, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
        """LABKIT_BASE_IMAGE names it."""
        monkeypatch.setenv("LABKIT_BASE_IMAGE", "mine:1")
        make_base_image(lambda line: None)
        assert list(daemon.layers) == ["mine:1"]

    def test_mirror_proxy_and_certificates_reach_debootstrap(
        self, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """What the other images get, this one gets too."""
        (tmp_path / "ca.pem").write_text("PEM")
        monkeypatch.setenv("LABKIT_DEBIAN_MIRROR", "http://mirror.example/debian")
        monkeypatch.setenv("LABKIT_APT_PROXY", "http://127.0.0.1:3142")
        monkeypatch.setenv("LABKIT_CA_BUNDLE", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("TOOL_EXIT", "1")
        with pytest.raises(StackError) as caught:
            make_base_image(lambda line: None)
        assert "/root http://mirror.example/debian" in str(caught.value)
        assert "proxy=http://127.0.0.1:3142" in str(caught.value)
        assert "wgetrc=ca_certificate = " in str(caught.value)

    def test_a_failure_has_the_last_words_and_leaves_nothing(
        self, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Exit code, last lines, cures; the scratch folder is gone."""
        monkeypatch.setenv("TOOL_EXIT", "7")
        with pytest.raises(StackError, match="exit code 7") as caught:
            make_base_image(lambda line: None)
        assert "LABKIT_DEBIAN_MIRROR" in str(caught.value)
        assert list((tmp_path / "scratch").iterdir()) == []
        assert daemon.layers == {}

    def test_an_interrupt_leaves_nothing(self, daemon: FakeDaemon, tmp_path: Path) -> None:
        """Ctrl-C while debootstrap works."""

        def interrupted(line: str) -> None:
            if "Retrieving" in line:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make_base_image(interrupted)
        assert list((tmp_path / "scratch").iterdir()) == []


def test_without_root_the_cure_is_said(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, with the command."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    with pytest.raises(StackError, match=r"needs root.*`sudo \./lab base-image`"):
        make_base_image(lambda line: None)


def test_without_debootstrap_the_cure_is_said(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, with the package."""
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(StackError, match="`sudo apt install debootstrap`"):
        make_base_image(lambda line: None)


def test_what_the_image_leaves_out(tmp_path: Path) -> None:
    """Caches, lists, device nodes and manuals stay out; their folders and the copyright files stay in."""
    for path in (
        "bin/sh",
        "dev/null",
        "var/cache/apt/archives/x.deb",
        "var/lib/apt/lists/x",
        "var/lib/dpkg/status",
        "usr/share/doc/x/copyright",
        "usr/share/doc/x/README",
        "usr/share/man/man1/x.1",
        "tmp/x",
    ):
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / path).write_text("x")
    (tmp_path / "root/tmp").chmod(0o1777)
    pack(tmp_path / "root", tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as archive:
        files = {member.name for member in archive if member.isfile()}
        assert files == {"./bin/sh", "./var/lib/dpkg/status", "./usr/share/doc/x/copyright"}
        assert {"./tmp", "./dev", "./var/lib/apt/lists"} <= set(archive.getnames())
        assert os.name == "nt" or archive.getmember("./tmp").mode == 0o1777


def test_what_is_still_mounted_is_found(tmp_path: Path) -> None:
    """Removing the scratch folder must never reach a mounted /proc or /sys."""
    table = tmp_path / "mounts"
    table.write_text(
        "proc /proc proc rw 0 0\n"
        f"proc {tmp_path}/scratch/root/proc proc rw 0 0\n"
        f"sysfs {tmp_path}/scratch/root/with\\040space sysfs rw 0 0\n"
        f"tmpfs {tmp_path}/scratch-other tmpfs rw 0 0\n"
    )
    expected = [f"{tmp_path}/scratch/root/proc", f"{tmp_path}/scratch/root/with space"]
    assert mounts_below(tmp_path / "scratch", str(table)) == expected
    assert mounts_below(tmp_path, "/not/there") == []


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("I: Retrieving InRelease", True),
        ("I: Resolving dependencies of base packages...", True),
        ("I: Retrieving adduser 3.1", False),
        ("I: Unpacking adduser...", False),
        ("W: Cannot check Release signature", True),
        ("E: Release signed by unknown key", True),
    ],
)
def test_steps_are_shown_and_packages_are_not(line: str, shown: bool) -> None:
    """A hundred packages are not a hundred lines."""
    assert worth_showing(line) is shown
